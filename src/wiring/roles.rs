//! What people order the roles of the running node.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use super::node::Role;
use crate::apply::{AgainDesk, Looked};
use crate::change::{GtidPosition, Offset, OriginId};
use crate::observe::{AgainView, spoken_count};
use crate::runtime::{Disposition, Stop, Switches};
use crate::serve::{Restarted, Roles, StartFrom};
use crate::tail::{Reread, RereadDesk, RereadFrom};

/// Together less than the command line waits for an answer: a role that was started anew begins to work within the first, and is done
/// within the second where not much is to be read.
const BEGINS_WITHIN: Duration = Duration::from_secs(25);
const DONE_WITHIN: Duration = Duration::from_secs(25);

/// The word for the oldest place there is.
const BEGINNING: &str = "beginning";

/// Orders to the roles of this process.
pub struct RoleOrders {
    pub switches: Switches,
    pub rereads: Arc<RereadDesk>,
    pub again: Arc<AgainDesk>,
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

    async fn restart(&self, role: &str, from: StartFrom) -> Result<Restarted, Stop> {
        let meant = self.meant(role)?;
        let again = match place(role, from)? {
            Some(Place::Binlog(from)) => Some(self.reread(role, from).await?),
            Some(Place::Topic(origin, from)) => Some(self.look(role, origin, from).await?),
            None => {
                for role in &meant {
                    self.switches.restart(role).await?;
                }
                None
            }
        };
        Ok(Restarted { roles: names(&meant), again })
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

    async fn reread(&self, tailer: &str, from: RereadFrom) -> Result<AgainView, Stop> {
        // Before the new run begins, for it takes what is there then.
        let told = self.rereads.ask(from);
        if let Err(stop) = self.switches.restart(tailer).await {
            self.rereads.withdraw();
            return Err(stop);
        }
        match timeout(BEGINS_WITHIN + DONE_WITHIN, told).await {
            Ok(Ok(read)) => Ok(told_of_binlog(&read?)),
            Ok(Err(_)) => Err(Stop {
                disposition: Disposition::Retry,
                message: "the tailer ended while it was at it".into(),
                hint: Some("nothing is published twice: ask again when it works; see `tandem status`".into()),
            }),
            Err(_) => Ok(still_at_it("The tailer has not read all of it yet")),
        }
    }

    async fn look(&self, applier: &str, origin: OriginId, from: Option<Offset>) -> Result<AgainView, Stop> {
        self.switches.restart(applier).await?;
        if timeout(BEGINS_WITHIN, self.again.works()).await.is_err() {
            let message =
                format!("the applier did not begin to work within {} s, and has looked at nothing", BEGINS_WITHIN.as_secs());
            return Err(Stop::halt(message, "see `tandem status`; then ask again"));
        }
        // Asked in a task of its own: who does not wait any longer must not take it back.
        let (again, of) = (self.again.clone(), origin.clone());
        let looked = tokio::spawn(async move { again.look(of, from).await });
        match timeout(DONE_WITHIN, looked).await {
            Ok(Ok(looked)) => Ok(told_of_topic(&origin, &looked?)),
            Ok(Err(error)) => Err(Stop::halt(format!("asking the applier was cut off: {error}"), "ask again")),
            Err(_) => Ok(still_at_it("The applier has not looked at all of it yet")),
        }
    }
}

/// An older place at which a role is to begin.
#[derive(PartialEq, Eq, Debug)]
enum Place {
    Binlog(RereadFrom),
    /// Of which node's topic; `None` from the oldest that it keeps.
    Topic(OriginId, Option<Offset>),
}

fn place(role: &str, StartFrom { from, origin }: StartFrom) -> Result<Option<Place>, Stop> {
    let Some(from) = from else {
        return match origin {
            None => Ok(None),
            Some(_) => Err(Stop::halt("it is not said from where", "add --from with an offset, or `--from beginning`")),
        };
    };
    let beginning = from == BEGINNING;
    match (role, origin) {
        ("tailer", Some(_)) => Err(Stop::halt("the tailer reads this node's own binlog", "leave out --origin")),
        ("tailer", None) if beginning => Ok(Some(Place::Binlog(RereadFrom::Beginning))),
        ("tailer", None) => match from.parse::<GtidPosition>() {
            Ok(position) if !position.is_start() => Ok(Some(Place::Binlog(RereadFrom::After(position)))),
            _ => Err(Stop::halt(
                format!("`{from}` is no position in the binlog"),
                "write a GTID position as `tandem position` shows it, like 0-1-270, or `beginning`",
            )),
        },
        ("applier", None) => Err(Stop::halt(
            "it is not said of which node's topic",
            "for example: tandem restart applier --from beginning --origin laptop-b",
        )),
        ("applier", Some(origin)) => {
            let offset = (!beginning).then(|| from.parse().map(Offset)).transpose();
            let offset = offset.map_err(|_| {
                let hint = "write a number as `tandem position` shows it, or `beginning`";
                Stop::halt(format!("`{from}` is no offset of a topic"), hint)
            })?;
            Ok(Some(Place::Topic(OriginId::new(&origin), offset)))
        }
        (role, _) => Err(goes_on(role)),
    }
}

/// Why a role begins at no other place than where it was, and what does what is meant by that.
fn goes_on(role: &str) -> Stop {
    let (why, instead) = match role {
        "hub" => ("it has no place of its own", "leave out --from and --origin"),
        _ => ("each cloud is told how far it is", "to send everything again: tandem sync --force"),
    };
    Stop::halt(format!("the {role} goes on where it was and nowhere else: {why}"), instead)
}

fn still_at_it(what: &str) -> AgainView {
    let told = format!("{what}. It goes on by itself; the log says when it is done, and what came of it.");
    AgainView { done: false, told, counts: Default::default() }
}

fn told_of_binlog(read: &Reread) -> AgainView {
    let Reread { from, upto, transactions, changes } = read;
    let from = if from.is_start() { "from its beginning".to_owned() } else { format!("after {from}") };
    let told = format!(
        "The binlog was read again {from} up to {upto}: {} transactions with {} changes are published already and were passed \
         over, nothing is published twice.",
        spoken_count(*transactions),
        spoken_count(*changes)
    );
    let counts = [("transactions", *transactions), ("changes", *changes)];
    AgainView { done: true, told, counts: named(counts) }
}

fn told_of_topic(origin: &OriginId, looked: &Looked) -> AgainView {
    let Looked { from, upto, changes, put_right, as_it_should_be, newer_stands, passed_over, in_doubt, left, reason } = looked;
    let parts = [
        (put_right, "put right"),
        (as_it_should_be, "as they should be"),
        (newer_stands, "with a newer write that stands"),
        (passed_over, "of tables without a key or of whole tables, which are not looked at"),
        (in_doubt, "that nobody can decide any more"),
        (left, "that cannot be applied"),
    ];
    // The first three are always said: they are what was asked for.
    let said = parts.iter().enumerate().filter(|(at, (count, _))| *at < 3 || **count > 0);
    let said: Vec<String> = said.map(|(_, (count, what))| format!("{} {what}", spoken_count(**count))).collect();
    let mut told = format!(
        "{} changes of {origin} were looked at again, from offset {from} to {upto}: {}",
        spoken_count(*changes),
        said.join(", ")
    );
    if let Some(reason) = reason {
        told += &format!(" ({reason}; tandem verify --repair compares such rows)");
    }
    let counts = [
        ("changes", *changes),
        ("put_right", *put_right),
        ("as_they_should_be", *as_it_should_be),
        ("newer_stands", *newer_stands),
        ("passed_over", *passed_over),
        ("in_doubt", *in_doubt),
        ("left", *left),
    ];
    AgainView { done: true, told: told + ".", counts: named(counts) }
}

fn named<const N: usize>(counts: [(&str, u64); N]) -> std::collections::BTreeMap<String, u64> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

fn names(meant: &[Arc<str>]) -> Vec<String> {
    meant.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_one_of_the_binlog_or_of_a_topic() {
        let check = |role: &str, from: &str, origin: Option<&str>, expected: Result<Place, &str>| {
            let asked = StartFrom { from: Some(from.into()), origin: origin.map(str::to_owned) };
            match (place(role, asked), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, Some(expected)),
                (Err(stop), Err(words)) => assert!(stop.to_string().contains(words), "{stop}"),
                (found, expected) => panic!("{role} {from}: {found:?} and not {expected:?}"),
            }
        };
        let b = OriginId::new("b");
        check("tailer", "beginning", None, Ok(Place::Binlog(RereadFrom::Beginning)));
        check("tailer", "0-1-7,1-2-9", None, Ok(Place::Binlog(RereadFrom::After("0-1-7,1-2-9".parse().unwrap()))));
        check("applier", "beginning", Some("b"), Ok(Place::Topic(b.clone(), None)));
        check("applier", "120", Some("b"), Ok(Place::Topic(b, Some(Offset(120)))));
        check("tailer", "120", None, Err("`120` is no position in the binlog"));
        check("tailer", "", None, Err("is no position in the binlog"));
        check("tailer", "beginning", Some("b"), Err("leave out --origin"));
        check("applier", "0-1-7", Some("b"), Err("`0-1-7` is no offset"));
        check("applier", "-1", Some("b"), Err("`-1` is no offset"));
        check("applier", "120", None, Err("of which node's topic"));
        check("cloud main", "beginning", None, Err("sync --force"));
        check("hub", "beginning", None, Err("it has no place of its own"));
        let nowhere = StartFrom { from: None, origin: Some("b".into()) };
        assert!(place("applier", nowhere).unwrap_err().message.contains("not said from where"));
    }

    #[test]
    fn what_came_of_it_is_said_in_a_sentence_and_in_numbers() {
        let looked = Looked { upto: Offset(20), changes: 14, put_right: 2, as_it_should_be: 12, ..Looked::default() };
        let view = told_of_topic(&OriginId::new("b"), &looked);
        let told = "14 changes of b were looked at again, from offset 0 to 20: 2 put right, 12 as they should be, 0 with a newer \
                    write that stands.";
        assert_eq!((view.told.as_str(), view.counts["put_right"]), (told, 2));
        let looked = Looked { left: 1, reason: Some("too long".into()), ..looked };
        let told = told_of_topic(&OriginId::new("b"), &looked).told;
        assert!(told.ends_with("1 that cannot be applied (too long; tandem verify --repair compares such rows)."), "{told}");
        let (from, upto) = (GtidPosition::start(), "0-1-7".parse().unwrap());
        let view = told_of_binlog(&Reread { from, upto, transactions: 7, changes: 9 });
        assert!(
            view.told.starts_with("The binlog was read again from its beginning up to 0-1-7: 7 transactions"),
            "{}",
            view.told
        );
    }

    #[tokio::test]
    async fn orders_reach_the_roles_that_are_meant() {
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
        let orders = RoleOrders { switches, rereads: Arc::default(), again: Arc::default() };
        let beginning = StartFrom { from: Some("beginning".into()), origin: None };
        let refused = orders.restart("cloud", beginning.clone()).await.unwrap_err();
        assert!(refused.hint.unwrap().contains("sync --force"));
        // A role that is paused takes no place either, and what was asked of it is not done behind somebody's back later.
        orders.pause("tailer").await.unwrap();
        let refused = orders.restart("tailer", beginning).await.unwrap_err();
        assert_eq!(refused.message, "the tailer is paused");
        orders.resume("tailer").await.unwrap();
        assert_eq!(orders.pause("cloud").await.unwrap(), ["cloud main", "cloud spare"]);
        assert_eq!(orders.resume("cloud spare").await.unwrap(), ["cloud spare"]);
        assert_eq!(orders.restart("tailer", StartFrom::default()).await.unwrap().roles, ["tailer"]);
        assert!(orders.pause("web").await.unwrap_err().message.contains("takes none about itself"));
        let unknown = orders.pause("hub").await.unwrap_err();
        assert_eq!(unknown.hint.unwrap(), "it runs: applier, cloud main, cloud spare, tailer");
        shutdown.cancel();
        running.await.unwrap().unwrap();
    }
}
