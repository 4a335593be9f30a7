//! What people order about changes that were set aside.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use super::keeper::{letter_id, letter_of};
use super::node::Database;
use crate::apply::{AgainDesk, LetterPlace};
use crate::observe::{FailedWish, RetriedView};
use crate::runtime::Stop;
use crate::serve::FailedOrders;
use crate::target::keep::DeadLetter;

/// Changes that `--all` means at once; what is left can be asked for again.
const ALL_MAX: usize = 10_000;

/// A little less than the command line waits for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Finds them in the node's database, and has the applier take them.
pub struct FailedDesk {
    pub database: Arc<Database>,
    pub again: Arc<AgainDesk>,
}

#[async_trait]
impl FailedOrders for FailedDesk {
    async fn retry(&self, wish: FailedWish) -> Result<Vec<RetriedView>, Stop> {
        let letters = self.meant(&wish).await?;
        let place = |letter: DeadLetter| LetterPlace { hlc: letter.hlc, origin: letter.origin, offset: letter.offset };
        let asked = self.again.retry(letters.into_iter().map(place).collect());
        let outcomes = timeout(ANSWER_WITHIN, asked).await.map_err(|_| {
            let message = format!("the applier is still at it after {} s", ANSWER_WITHIN.as_secs());
            Stop::halt(message, "it goes on by itself; `tandem failed list` shows what is left")
        })??;
        let view = |(place, outcome): (LetterPlace, crate::apply::Outcome)| RetriedView {
            id: letter_id(&place.origin, place.offset),
            outcome: outcome.word().to_owned(),
            reason: outcome.reason().map(str::to_owned),
        };
        Ok(outcomes.into_iter().map(view).collect())
    }

    async fn discard(&self, wish: FailedWish) -> Result<Vec<String>, Stop> {
        let letters = self.meant(&wish).await?;
        let places: Vec<_> = letters.into_iter().map(|letter| (letter.origin, letter.offset)).collect();
        self.database.target().await?.discard(&places).await?;
        Ok(places.iter().map(|(origin, offset)| letter_id(origin, *offset)).collect())
    }
}

impl FailedDesk {
    /// All that are meant, or a halt that names the first that is not there: nothing is done by halves.
    async fn meant(&self, wish: &FailedWish) -> Result<Vec<DeadLetter>, Stop> {
        let target = self.database.target().await?;
        if wish.all {
            let kept = target.dead_letters(0, ALL_MAX).await?;
            return Ok(kept.into_iter().map(|kept| kept.letter).collect());
        }
        let mut letters = Vec::new();
        for id in &wish.ids {
            let found = match letter_of(id) {
                Some((origin, offset)) => target.dead_letter(&origin, offset).await?,
                None => None,
            };
            let none = || Stop::halt(format!("no change `{id}` is set aside"), "`tandem failed list` shows the ids");
            letters.push(found.ok_or_else(none)?.letter);
        }
        Ok(letters)
    }
}
