//! How a node is seeded, kept in its own database.

use super::MariadbTarget;
use super::fault::About;
use super::literal;
use super::own_tables;
use crate::change::Mark;
use crate::target::{Seeding, TargetError};

const TASK: &str = "keeping how this node is seeded";

impl MariadbTarget {
    pub(super) async fn put_seeding(&self, marks: &[Mark], seeding: &Seeding) -> Result<(), TargetError> {
        let mut session = self.0.session().await?;
        let mut statements = vec![b"START TRANSACTION".to_vec(), b"DELETE FROM tandem.applied".to_vec()];
        statements.extend(marks.iter().map(own_tables::insert_mark));
        statements.push(replace(seeding));
        statements.push(b"COMMIT".to_vec());
        for statement in statements {
            // A connection that is dropped takes its transaction with it.
            session.run(&statement, About::Task(TASK)).await?;
        }
        self.give_back(session);
        Ok(())
    }

    pub(super) async fn kept_seeding(&self) -> Result<Option<Seeding>, TargetError> {
        let (session, mut rows) = self.rows(b"SELECT state FROM tandem.seeding", TASK).await?;
        let Some(row) = rows.pop() else {
            self.give_back(session);
            return Ok(None);
        };
        let text: Option<String> = mysql_async::from_row_opt::<(String,)>(row).ok().map(|(text,)| text);
        let read = text.and_then(|text| serde_json::from_str(&text).ok()).ok_or_else(|| session.not_understood(TASK));
        self.give_back(session);
        read.map(Some)
    }

    pub(super) async fn note_seeding(&self, seeding: &Seeding) -> Result<(), TargetError> {
        let mut session = self.0.session().await?;
        session.run(&replace(seeding), About::Task(TASK)).await?;
        self.give_back(session);
        Ok(())
    }
}

fn replace(seeding: &Seeding) -> Vec<u8> {
    let mut sql = b"REPLACE INTO tandem.seeding (id, state) VALUES (1, ".to_vec();
    literal::text(&mut sql, &serde_json::to_string(seeding).expect("names and numbers are JSON"));
    sql.push(b')');
    sql
}
