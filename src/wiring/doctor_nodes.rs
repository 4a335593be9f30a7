//! The other nodes, as far as this one can know of them: by what they published last, by their databases where these are
//! reached from here, and by what a person brought from there. What cannot be compared is said, not left out.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;

use super::doctor::Facts;
use crate::change::{OriginId, Record};
use crate::config::{Config, OwnNode};
use crate::runtime::{Clock, Finding, SystemClock};
use crate::target::mariadb::{MariadbOptions, MariadbTarget};

/// A database in the same network answers in milliseconds; another laptop's is mostly not reached at all.
const REACHED_WITHIN: Duration = Duration::from_secs(5);

/// As for the server beside its machine: less is what time synchronisation leaves.
const CLOCK_AHEAD_SECONDS: u64 = 2;

/// What is compared with: our own facts (where our database could be asked), and what others published last.
pub struct Compared<'a> {
    pub own: Option<&'a Facts>,
    /// What `doctor --save` wrote on other nodes.
    pub brought: &'a [Facts],
    pub last: BTreeMap<OriginId, Record>,
}

/// Every finding, good ones too.
pub async fn examine(config: &Config, own: &OwnNode, with: Compared<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, _) in config.nodes.iter().filter(|(name, _)| *name != own.name()) {
        if let Some(last) = with.last.get(name) {
            found.push(clock(name, last, SystemClock.now_seconds(), config.limits.max_clock_skew));
        }
        let Some(facts) = with.own else { continue };
        if let Some(brought) = with.brought.iter().find(|brought| *brought.node == *name.as_str()) {
            found.extend(facts.compare(brought));
        } else if let Some(theirs) = theirs(config, own, name).await {
            found.extend(facts.compare(&theirs));
        } else {
            found.extend(with.last.get(name).map(|last| published(facts, name, last)));
            found.push(unknown(name));
        }
    }
    found
}

/// The facts of another node's database, where this machine reaches it and has its password.
async fn theirs(config: &Config, own: &OwnNode, name: &OriginId) -> Option<Facts> {
    let node = config.nodes.get(name)?;
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    if node.database.port == own.database.port && same(&node.database.host, &own.database.host) {
        // Each laptop calls its own database 127.0.0.1: this one is ours.
        return None;
    }
    let password = config.node_password(name)?;
    let options = MariadbOptions::new(node.database.to_string(), Some(password));
    let asked = async {
        let target = MariadbTarget::look(options).await.ok()?;
        target.facts(name.as_str(), &config.tables).await.ok()
    };
    timeout(REACHED_WITHIN, asked).await.ok().flatten()
}

/// Numbers that must differ, as the other node's records tell them.
fn published(facts: &Facts, name: &OriginId, last: &Record) -> Finding {
    let (server, domain) = (u64::from(last.gtid.server), u64::from(last.gtid.domain));
    let remedy = |setting: &str, taken: u64| {
        let next = taken + 1;
        format!("on one of them, under [mysqld] in my.cnf (XAMPP: my.ini) set {setting}={next}, then restart the server")
    };
    if domain == facts.gtid_domain_id && server == facts.server_id {
        let what = format!("server_id is {server} here and on {name}, so their transactions have the same names");
        return Finding::fail("NODES-SERVERID", what, remedy("server_id", server));
    }
    if domain == facts.gtid_domain_id {
        let what = format!("gtid_domain_id is {domain} here and on {name}, so one history seems to be theirs");
        return Finding::fail("NODES-DOMAIN", what, remedy("gtid_domain_id", domain));
    }
    Finding::good("NODES-DOMAIN", format!("gtid_domain_id is {} here and {domain} on {name}", facts.gtid_domain_id))
}

fn unknown(name: &OriginId) -> Finding {
    let what = format!(
        "the database of {name} is not reached from here, so ids of new rows, definitions of tables, collations, sql_mode and the case of names were not compared"
    );
    let remedy = format!("there: tandem doctor --save {name}.facts; then here: tandem doctor --against {name}.facts");
    Finding { remedy: Some(remedy), ..Finding::good("NODES-COMPARED", what) }
}

/// A clock that is behind cannot be told from a node that wrote nothing.
fn clock(name: &OriginId, last: &Record, now: u64, believed: Duration) -> Finding {
    const CODE: &str = "NODES-CLOCK";
    let ahead = last.commit_second.saturating_sub(now);
    let remedy = format!("turn on time synchronisation on {name} and here; what {name} then writes is told by its new clock");
    if ahead > believed.as_secs() {
        let what = format!("{name} last published a change of {ahead} s in the future, more than is believed (max_clock_skew)");
        return Finding::fail(CODE, what, remedy);
    }
    if ahead > CLOCK_AHEAD_SECONDS {
        let what =
            format!("{name} last published a change of {ahead} s in the future: of two changes made at once its own wins");
        return Finding::warn(CODE, what, remedy);
    }
    Finding::good(CODE, format!("what {name} published last is not in the future"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Level;

    fn facts() -> Facts {
        Facts {
            node: "a".into(),
            server_id: 1,
            gtid_domain_id: 1,
            auto_increment_increment: 10,
            auto_increment_offset: 1,
            lower_case_table_names: 0,
            sql_mode: String::new(),
            collations: BTreeMap::new(),
            tables: BTreeMap::new(),
        }
    }

    fn record(gtid: &str, commit_second: u64) -> Record {
        Record { gtid: gtid.parse().unwrap(), commit_second, ..crate::topic::contract::record(&OriginId::new("b"), 0) }
    }

    #[test]
    fn what_another_node_published_tells_its_numbers_and_its_clock() {
        let b = OriginId::new("b");
        let check = |gtid: &str, level, code| {
            let found = published(&facts(), &b, &record(gtid, 0));
            assert_eq!((found.level, found.code), (level, code), "{found:?}");
        };
        check("2-2-7", Level::Good, "NODES-DOMAIN");
        check("1-2-7", Level::Fail, "NODES-DOMAIN");
        check("1-1-7", Level::Fail, "NODES-SERVERID");
        let check = |commit_second, level| {
            let found = clock(&b, &record("2-2-7", commit_second), 1_000, Duration::from_secs(60));
            assert_eq!((found.level, found.code), (level, "NODES-CLOCK"), "{found:?}");
        };
        check(3, Level::Good);
        check(1_002, Level::Good);
        check(1_003, Level::Warn);
        check(1_061, Level::Fail);
    }
}
