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
            return Err(Stop::halt(
                format!("the {role} goes on where it was, and nowhere else"),
                "leave out --from and --origin",
            ));
        }
        for role in &meant {
            self.switches.restart(role).await?;
        }
        Ok(names(&meant))
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

fn names(meant: &[Arc<str>]) -> Vec<String> {
    meant.iter().map(ToString::to_string).collect()
}
