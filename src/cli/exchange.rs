//! What `tandem sync` does between the nodes: ends their waits, and looks on until nothing waits.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::change::GtidPosition;
use crate::observe::{LinkState, LinkStatus, PositionView, spoken_count};
use crate::runtime::Stop;

use super::node_api::NodeApi;
use super::output;

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A topic that is back is noticed by the next attempt of whoever reads it, which is never further away than this.
const NOTICED_WITHIN: Duration = Duration::from_secs(12);

/// Ends the waits of all roles; where it is asked for, looks on until every link that can be is up to date.
pub async fn exchange(api: &NodeApi, wait: bool, quiet: bool) -> Result<Vec<LinkStatus>, Stop> {
    let _: Value = api.post("/api/sync", &json!({})).await?;
    if !wait {
        return Ok(api.status().await?.links);
    }
    let bar = match std::io::stderr().is_terminal() && !quiet {
        true => ProgressBar::new(0),
        false => ProgressBar::hidden(),
    };
    bar.set_style(ProgressStyle::with_template("{bar:30} {human_pos} of {human_len} changes  {msg}").expect("a constant"));
    let (began, mut most) = (Instant::now(), 0);
    // What is committed now is to be published at the end. A database or topic that is away is told by its role and link.
    let committed = position(api).await.ok().and_then(|(committed, _)| committed);
    let links = loop {
        let status = api.status().await?;
        let waiting: u64 = status.links.iter().filter_map(|link| link.pending).sum();
        most = most.max(waiting);
        bar.set_length(most);
        bar.set_position(most - waiting);
        let open: Vec<&LinkStatus> = status.links.iter().filter(|link| waits(link, began.elapsed())).collect();
        let published = match &committed {
            Some(committed) if status.tailer.connected => {
                position(api).await.map_or(true, |(_, published)| published.covers_all(committed))
            }
            _ => true,
        };
        if open.is_empty() && published {
            break status.links;
        }
        let names: Vec<String> = open.iter().map(|link| format!("{} > {}", link.source, link.target)).collect();
        let message = if names.is_empty() { "publishing".to_owned() } else { names.join(", ") };
        bar.set_message(output::plain(&message));
        sleep(LOOK_EVERY).await;
    };
    bar.finish_and_clear();
    Ok(links)
}

/// Where the own database's history ends (`None` while it is away), and how far of it is published.
async fn position(api: &NodeApi) -> Result<(Option<GtidPosition>, GtidPosition), Stop> {
    let view: PositionView = api.get("/api/position").await?;
    let read = |text: &str| text.parse().map_err(|error| Stop::halt(format!("{error}"), "report this"));
    let own = view.topics.iter().find(|topic| topic.origin == view.node).and_then(|topic| topic.position.as_deref());
    Ok((view.database.as_deref().map(read).transpose()?, own.map(read).transpose()?.unwrap_or_default()))
}

/// Whether more will come of it soon by itself.
fn waits(link: &LinkStatus, waited: Duration) -> bool {
    match link.state {
        LinkState::Starting | LinkState::CatchingUp => true,
        LinkState::Offline => waited < NOTICED_WITHIN,
        LinkState::UpToDate | LinkState::ClockWrong | LinkState::Paused | LinkState::Stopped | LinkState::Removed => false,
    }
}

/// Of a node that was removed nothing is to come.
pub fn is_done(link: &LinkStatus) -> bool {
    matches!(link.state, LinkState::UpToDate | LinkState::Removed)
}

pub fn line(link: &LinkStatus) -> String {
    let pending = link.pending.filter(|pending| *pending > 0).map(|pending| format!(", {} wait", spoken_count(pending)));
    let why = link.reason.as_ref().map(|reason| format!(" — {reason}"));
    format!(
        "{} > {}: {}{}{}",
        link.source,
        link.target,
        link.state.words(),
        pending.unwrap_or_default(),
        why.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(state: LinkState, pending: u64, reason: Option<&str>) -> LinkStatus {
        LinkStatus {
            source: "b".into(),
            target: "a".into(),
            state,
            reason: reason.map(Into::into),
            pending: Some(pending),
            lag_seconds: None,
            applied_today: None,
            conflicts: None,
            failed: None,
        }
    }

    #[test]
    fn what_is_offline_is_waited_for_once_and_then_told() {
        let offline = link(LinkState::Offline, 412, Some("cannot reach the topic"));
        assert!(waits(&offline, Duration::from_secs(1)) && !waits(&offline, NOTICED_WITHIN) && !is_done(&offline));
        assert_eq!(line(&offline), "b > a: offline, 412 wait — cannot reach the topic");
        let busy = link(LinkState::CatchingUp, 3, None);
        assert!(waits(&busy, Duration::from_secs(3_600)));
        for state in [LinkState::Paused, LinkState::Stopped, LinkState::ClockWrong] {
            let stands = link(state, 0, None);
            assert!(!waits(&stands, Duration::ZERO) && !is_done(&stands), "{state:?}");
        }
        assert_eq!(line(&link(LinkState::UpToDate, 0, None)), "b > a: up to date");
    }
}
