//! What people order the roles of the running node.

use std::sync::Arc;

use async_trait::async_trait;

use super::node::Role;
use crate::runtime::{Stop, Switches};
use crate::serve::{Roles, StartFrom};

/// Orders to the roles of this process.
pub struct RoleOrders {
    pub switches: Switches,
}

#[async_trait]
impl Roles for RoleOrders {
    async fn pause(&self, role: &str) -> Result<Vec<String>, Stop> {
        let meant = self.meant(role)?;
        for role in &meant {
            self.switches.pause(role).await?;
        }
        Ok(names(&meant))
    }

    async fn resume(&self, role: &str) -> Result<Vec<String>, Stop> {
        let meant = self.meant(role)?;
        for role in &meant {
            self.switches.resume(role).await?;
        }
        Ok(names(&meant))
    }

    async fn restart(&self, role: &str, from: StartFrom) -> Result<Vec<String>, Stop> {
        let meant = self.meant(role)?;
        if from != StartFrom::default() {
            return Err(goes_on(role));
        }
        for role in &meant {
            self.switches.restart(role).await?;
        }
        Ok(names(&meant))
    }

    fn hurry(&self) {
        self.switches.hurry();
    }
}

impl RoleOrders {
    /// The roles that a word means: the one of this name, or all clouds.
    fn meant(&self, word: &str) -> Result<Vec<Arc<str>>, Stop> {
        if word == Role::Web.name() {
            let message = "the role web is what takes orders, so it takes none about itself";
            return Err(Stop::halt(message, "end the process, or run it without this role: tandem run tailer applier"));
        }
        let all = self.switches.roles();
        let is_cloud = |name: &Arc<str>| word == Role::Cloud.name() && name.strip_prefix("cloud ").is_some();
        let meant: Vec<Arc<str>> = all.iter().filter(|name| ***name == *word || is_cloud(name)).cloned().collect();
        if meant.is_empty() {
            let runs: Vec<&str> = all.iter().map(|name| &**name).filter(|name| *name != Role::Web.name()).collect();
            return Err(Stop::halt(
                format!("this process does not run the role {word}"),
                format!("it runs: {}", runs.join(", ")),
            ));
        }
        Ok(meant)
    }
}

/// Why a role begins at no other place than where it was, and what does what is meant by that.
fn goes_on(role: &str) -> Stop {
    let (why, instead) = match role {
        "tailer" => (
            "what it published is known to the others; told again it would be newer than what they wrote since",
            "to publish rows again as they are: tandem snapshot TABLE. Where the binlog is gone: docs/operations.md, \"Seeding a node again\"",
        ),
        "applier" => (
            "what is applied twice could beat writes that nobody here remembers any more",
            "for rows that differ: tandem verify --repair. For changes that were set aside: tandem failed retry",
        ),
        "hub" => ("it has no place of its own", "leave out --from and --origin"),
        _ => ("each cloud is told how far it is", "to send everything again: tandem sync --force"),
    };
    Stop::halt(format!("the {role} goes on where it was and nowhere else: {why}"), instead)
}

fn names(meant: &[Arc<str>]) -> Vec<String> {
    meant.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_place_is_refused_with_what_does_what_was_meant() {
        struct Deaf;
        impl crate::runtime::RoleWatch for Deaf {
            fn role_changed(&self, _: &str, _: crate::runtime::RoleState, _: Option<&Stop>) {}
        }
        let (switches, shutdown) = (Switches::default(), crate::runtime::Shutdown::new());
        let supervisor = crate::runtime::Supervisor::new(Arc::new(Deaf), shutdown.clone());
        let mut supervisor = supervisor.with_switches(switches.clone());
        for role in ["tailer", "applier", "cloud main", "cloud spare", "web"] {
            supervisor.role(role, |shutdown| async move {
                shutdown.cancelled().await;
                Ok(())
            });
        }
        let running = tokio::spawn(supervisor.run(std::time::Duration::from_secs(5)));
        let orders = RoleOrders { switches };
        let beginning = StartFrom { from: Some("beginning".into()), origin: None };
        for (role, instead) in [("tailer", "tandem snapshot"), ("applier", "tandem verify --repair"), ("cloud", "sync --force")]
        {
            let refused = orders.restart(role, beginning.clone()).await.unwrap_err();
            assert!(refused.hint.unwrap().contains(instead), "{role}");
        }
        assert_eq!(orders.pause("cloud").await.unwrap(), ["cloud main", "cloud spare"]);
        assert_eq!(orders.resume("cloud spare").await.unwrap(), ["cloud spare"]);
        assert_eq!(orders.restart("tailer", StartFrom::default()).await.unwrap(), ["tailer"]);
        assert!(orders.pause("web").await.unwrap_err().message.contains("takes none about itself"));
        let unknown = orders.pause("hub").await.unwrap_err();
        assert_eq!(unknown.hint.unwrap(), "it runs: applier, cloud main, cloud spare, tailer");
        shutdown.cancel();
        running.await.unwrap().unwrap();
    }
}
