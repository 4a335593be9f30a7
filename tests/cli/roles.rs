//! Pausing, resuming and starting roles anew, as a person or a script orders it.

use async_trait::async_trait;
use tandem::observe::{AgainView, Observer, RoleStatus};
use tandem::runtime::{RoleState, RoleWatch, Stop};
use tandem::serve::{Restarted, Roles, StartFrom};

use super::{NOW, Shown};

/// A node whose roles do at once what they are told.
pub struct Told(pub Observer);

impl Told {
    fn tell(&self, role: &str, state: RoleState) -> Result<Vec<String>, Stop> {
        if !["tailer", "applier"].contains(&role) {
            return Err(Stop::halt(format!("this process does not run the role {role}"), "it runs: applier, tailer"));
        }
        self.0.role_changed(role, state, None);
        Ok(vec![role.to_owned()])
    }
}

#[async_trait]
impl Roles for Told {
    async fn pause(&self, role: &str) -> Result<Vec<String>, Stop> {
        self.tell(role, RoleState::Paused { since_second: NOW - 60 })
    }

    async fn resume(&self, role: &str) -> Result<Vec<String>, Stop> {
        self.tell(role, RoleState::Running)
    }

    async fn restart(&self, role: &str, from: StartFrom) -> Result<Restarted, Stop> {
        if from.origin.as_deref() == Some("laptop-x") {
            return Err(Stop::halt("laptop-x is no other node of the cluster", "the other nodes: laptop-b"));
        }
        let again = from.from.map(|place| AgainView {
            done: true,
            told: format!("From {place} of {} on nothing was told twice.", from.origin.as_deref().unwrap_or("its binlog")),
            counts: [("changes".to_owned(), 7)].into(),
        });
        Ok(Restarted { roles: self.tell(role, RoleState::Running)?, again })
    }

    fn hurry(&self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_asked_to_go_now_and_what_does_not_is_told() {
    let node = Shown::start(None).await;
    node.calm();
    let said = node.place.run(&["sync", "--wait"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "laptop-b > laptop-a: up to date\n", ""));
    let clouds = node.place.run(&["sync", "--only", "cloud"]);
    assert!(clouds.code == 2 && clouds.err.contains("laptop-a feeds no cloud"), "{}", clouds.err);

    // Something stands until a person acts: it is told, and not waited for.
    node.place.run(&["pause", "applier"]);
    let said = node.place.run(&["sync", "--wait", "--json"]);
    assert_eq!((said.code, said.err.as_str()), (1, ""), "looked, and found a difference");
    let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&told["success"], &told["links"][0]["state"]), (&false.into(), &"paused".into()), "{told}");
    // Who does not wait has not looked.
    assert_eq!(node.place.run(&["sync"]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_paused_seen_to_be_and_resumed() {
    let node = Shown::start(None).await;
    node.calm();
    let said = node.place.run(&["pause", "applier"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(said.out, "laptop-a: the applier is paused since 2027-01-15 07:59:00\n");
    let status = node.place.run(&["status", "--check"]);
    assert_eq!(status.code, 1, "somebody should know");
    assert_eq!(
        status.out,
        "\
LINK                 STATE   PENDING  LAG  APPLIED TODAY  CONFLICTS  FAILED
laptop-b > laptop-a  paused        0  0 s          1 204          0       0

laptop-a: The applier is paused since 2027-01-15 07:59:00: `tandem resume applier` lets it go on.
"
    );
    let said = node.place.run(&["resume", "applier", "--json"]);
    let roles: Vec<RoleStatus> = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, roles.len(), roles[0].state.as_str()), (0, 1, "running"));
    assert_eq!(node.place.run(&["status", "--check"]).code, 0);
    let said = node.place.run(&["restart", "tailer", "--from", "0-1-7"]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (0, "laptop-a: the tailer is running since 2027-01-15 08:00:00\nFrom 0-1-7 of its binlog on nothing was told twice.\n")
    );
    let said = node.place.run(&["restart", "applier", "--from", "120", "--origin", "laptop-b", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &told[0]["again"]["counts"]["changes"]), (0, &7.into()), "{told}");
    let said = node.place.run(&["restart", "applier", "--from", "120", "--origin", "laptop-x"]);
    assert_eq!(
        (said.code, said.err.as_str()),
        (2, "error: laptop-x is no other node of the cluster — the other nodes: laptop-b\n")
    );
    assert_eq!(node.place.run(&["restart", "applier", "--origin", "laptop-b"]).code, 2, "from where, it is not said");
    let said = node.place.run(&["restart", "tailer"]);
    assert_eq!((said.code, said.out.as_str()), (0, "laptop-a: the tailer is running since 2027-01-15 08:00:00\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_ordered_is_said_with_what_can() {
    let node = Shown::start(None).await;
    let absent = node.place.run(&["pause", "cloud", "main"]);
    assert_eq!(
        (absent.code, absent.err.as_str()),
        (2, "error: this process does not run the role cloud main — it runs: applier, tailer\n")
    );
    let extra = node.place.run(&["pause", "applier", "main"]);
    assert_eq!(
        (extra.code, extra.err.as_str()),
        (2, "error: the applier is one role, and `main` names none of it — write: applier\n")
    );
    let unknown = node.place.run(&["restart", "cook"]);
    assert!(unknown.code == 2 && unknown.err.contains("tailer, applier, cloud, hub"), "{}", unknown.err);
    let web = node.place.run(&["pause", "web"]);
    assert_eq!(web.code, 2, "the pages cannot be ordered to stop answering orders");
}
