//! A server's settings and our rights on it, looked over: every finding at once, with the lines that mend it.
//!
//! [`preflight`](super::preflight) refuses what would lose changes; this one tells also what merely should be better.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::connection;
use crate::change::GtidPosition;
use crate::runtime::{Clock, Finding, SystemClock};
use crate::source::SourceError;

/// What the cluster asks of each of its servers.
#[derive(Clone, Debug)]
pub struct Expectations {
    /// Nodes in the cluster: each server must give numbers of its own.
    pub nodes: usize,
    /// Which of them this one is, from 1: a number that no other node has.
    pub number: u32,
    pub replica_ids: BTreeSet<u32>,
    /// How long a node may be away.
    pub max_offline: Duration,
    /// Databases with captured tables.
    pub databases: BTreeSet<String>,
    /// Where reading goes on, as the node's own topic says; `None` where it has published nothing or cannot be asked.
    pub resume: Option<GtidPosition>,
}

/// What was read; the values are the server's own words.
struct Seen {
    variables: BTreeMap<String, String>,
    /// `binlog_do_db` and `binlog_ignore_db`; `None` where the account may not see them.
    filters: Option<(String, String)>,
    /// The account as GRANT names it.
    account: String,
    /// Global privileges of the account itself, roles left out.
    privileges: BTreeSet<String>,
    /// Of these, it may give them to others.
    grantable: bool,
    /// The server's clock less ours, in seconds.
    clock_ahead: f64,
    /// It is on this machine, as its address says.
    here: bool,
    /// Where the binlog begins and ends; `None` where it could not be asked.
    history: Option<(GtidPosition, GtidPosition)>,
}

const VARIABLES: &str = "'version', 'log_bin', 'binlog_format', 'binlog_row_image', 'binlog_row_metadata', 'server_id', \
    'gtid_strict_mode', 'auto_increment_increment', 'auto_increment_offset', 'sync_binlog', 'innodb_flush_log_at_trx_commit', \
    'expire_logs_days', 'binlog_expire_logs_seconds', 'max_allowed_packet', 'bind_address'";

pub async fn examine(
    conn: &mut Conn,
    place: &str,
    wanted: &Expectations,
    history: Option<(GtidPosition, GtidPosition)>,
) -> Result<Vec<Finding>, SourceError> {
    let opts = conn.opts().clone();
    let fault = |error| connection::fault(place, &opts, error);
    let sql = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({VARIABLES})");
    let rows: Vec<(String, String)> = conn.query(sql).await.map_err(fault)?;
    let variables: BTreeMap<String, String> = rows.into_iter().collect();
    // Refused without a privilege that is asked for below.
    let filters = match conn.query_first::<mysql_async::Row, _>("SHOW MASTER STATUS").await {
        Ok(row) => row.map(|row| {
            let text = |name: &str| row.get_opt::<String, _>(name).and_then(Result::ok).unwrap_or_default();
            (text("Binlog_Do_DB"), text("Binlog_Ignore_DB"))
        }),
        Err(_) => None,
    };
    let account =
        "CONCAT('''', SUBSTRING_INDEX(CURRENT_USER(), '@', 1), '''@''', SUBSTRING_INDEX(CURRENT_USER(), '@', -1), '''')";
    let sql = format!(
        "SELECT PRIVILEGE_TYPE, IS_GRANTABLE = 'YES' FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = {account}"
    );
    let privileges: Vec<(String, bool)> = conn.query(sql).await.map_err(fault)?;
    let name: Option<String> = conn.query_first(format!("SELECT {account}")).await.map_err(fault)?;
    let before = unix_seconds();
    let theirs: Option<f64> = conn.query_first("SELECT UNIX_TIMESTAMP(NOW(6)) + 0e0").await.map_err(fault)?;
    // The middle of the question is the best guess of when the server looked.
    let ours = (before + unix_seconds()) / 2.0;
    let clock_ahead = theirs.unwrap_or(ours) - ours;
    let account = name.unwrap_or_else(|| "the account".into());
    let grantable = privileges.iter().any(|(_, grantable)| *grantable);
    let privileges = privileges.into_iter().map(|(right, _)| right).collect();
    let here = matches!(opts.ip_or_hostname(), "localhost" | "127.0.0.1" | "::1");
    let seen = Seen { variables, filters, account, privileges, grantable, clock_ahead, here, history };
    Ok(judge(&seen, wanted))
}

fn unix_seconds() -> f64 {
    SystemClock.now_micros() as f64 / 1e6
}

fn judge(seen: &Seen, wanted: &Expectations) -> Vec<Finding> {
    let version = seen.text("version");
    if !version.contains("MariaDB") {
        let remedy = "point this node at a MariaDB of 10.4 or later; MySQL's binlog is a different one";
        return vec![Finding::fail("DB-FLAVOUR", format!("the server is not MariaDB but {version}"), remedy)];
    }
    if seen.release() < OLDEST {
        let remedy = "upgrade the server to MariaDB 10.4 or later; best is one that still gets fixes";
        return vec![Finding::fail("DB-FLAVOUR", format!("MariaDB {version} is too old to be read"), remedy)];
    }
    let mut found = vec![Finding::good("DB-FLAVOUR", format!("the server is MariaDB {version}"))];
    found.extend([seen.log(), seen.format(), seen.image(), seen.metadata()]);
    found.extend(seen.filtered(wanted));
    found.push(seen.server_id(wanted));
    found.extend((wanted.nodes > 1).then(|| seen.auto_increment(wanted.nodes, wanted.number)));
    found.extend([seen.durable(), seen.strict(), seen.retention(wanted.max_offline)]);
    found.extend(seen.resumable(wanted.resume.as_ref()));
    found.extend(seen.grants());
    found.extend([seen.rights(), seen.clock()]);
    found.extend(seen.here.then(|| seen.reachable()));
    found
}

/// The oldest release that is read, as its first two numbers.
const OLDEST: (u32, u32) = (10, 4);

/// Since when nothing that we do needs SUPER.
const WITHOUT_SUPER: (u32, u32) = (10, 5);

/// What lets an account do more than a node ever does: to files of the machine, to the server, to other accounts.
const DANGEROUS: &[&str] = &["SUPER", "FILE", "CREATE USER", "SHUTDOWN", "RELOAD", "SET USER", "BINLOG ADMIN"];

/// A server_id that no other node is given, and no replica has.
fn own_number(wanted: &Expectations) -> String {
    let mut numbers = (wanted.number..).step_by(wanted.nodes.max(1));
    let free = numbers.find(|number| !wanted.replica_ids.contains(number)).unwrap_or(wanted.number);
    set(&format!("server_id={free}"))
}

/// How a setting of the server is changed for good.
fn set(line: &str) -> String {
    format!("under [mysqld] in my.cnf (XAMPP: my.ini) set {line}, then restart the server")
}

impl Seen {
    fn release(&self) -> (u32, u32) {
        let mut numbers = self.text("version").split(|letter: char| !letter.is_ascii_digit());
        let mut next = || numbers.next().and_then(|number| number.parse().ok()).unwrap_or(0);
        (next(), next())
    }

    fn text(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.text(name).eq_ignore_ascii_case(value)
    }

    fn log(&self) -> Finding {
        match self.is("log_bin", "ON") {
            true => Finding::good("DB-LOG", "the server writes a binlog"),
            false => Finding::fail("DB-LOG", "the server writes no binlog, so no change would be seen", set("log_bin=binlog")),
        }
    }

    fn format(&self) -> Finding {
        match self.text("binlog_format") {
            format if format.eq_ignore_ascii_case("ROW") => Finding::good("DB-FORMAT", "binlog_format is ROW"),
            format => {
                let what = format!("binlog_format is {format}, so many changes would not be seen");
                Finding::fail("DB-FORMAT", what, set("binlog_format=ROW"))
            }
        }
    }

    fn image(&self) -> Finding {
        match self.text("binlog_row_image") {
            image if image.eq_ignore_ascii_case("FULL") => Finding::good("DB-IMAGE", "binlog_row_image is FULL"),
            image => {
                let what = format!(
                    "binlog_row_image is {image}: columns that a statement does not touch are unknown, so conflicts show less"
                );
                Finding::warn("DB-IMAGE", what, set("binlog_row_image=FULL"))
            }
        }
    }

    fn metadata(&self) -> Finding {
        let lost = "after an ALTER TABLE, rows from before it can no longer be read";
        match self.variables.get("binlog_row_metadata") {
            Some(metadata) if metadata.eq_ignore_ascii_case("FULL") => {
                Finding::good("DB-METADATA", "binlog_row_metadata is FULL")
            }
            Some(metadata) => {
                let what = format!("binlog_row_metadata is {metadata}: {lost}");
                Finding::warn("DB-METADATA", what, set("binlog_row_metadata=FULL"))
            }
            None => {
                let what = format!("this MariaDB cannot name columns in its binlog: {lost}");
                Finding::warn("DB-METADATA", what, "use MariaDB 10.5 or later")
            }
        }
    }

    /// Databases that the server leaves out of its binlog.
    fn filtered(&self, wanted: &Expectations) -> Option<Finding> {
        let (only, without) = self.filters.as_ref()?;
        let names = |list: &str| list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let (only, without): (BTreeSet<String>, BTreeSet<String>) = (names(only), names(without));
        let hidden = |name: &&String| without.contains(*name) || !only.is_empty() && !only.contains(*name);
        let own = "tandem".to_owned();
        let hidden: Vec<&str> = wanted.databases.iter().chain([&own]).filter(hidden).map(String::as_str).collect();
        Some(match &*hidden {
            [] => Finding::good("DB-FILTER", "no synced database is left out of the binlog"),
            hidden => Finding::fail(
                "DB-FILTER",
                format!("changes of {} are left out of the binlog", hidden.join(", ")),
                "remove binlog_do_db and binlog_ignore_db from the server's configuration, then restart it",
            ),
        })
    }

    fn server_id(&self, wanted: &Expectations) -> Finding {
        match self.number("server_id") {
            0 => Finding::fail("DB-SERVERID", "server_id is 0, so nobody may read the binlog", own_number(wanted)),
            id if u32::try_from(id).is_ok_and(|id| wanted.replica_ids.contains(&id)) => {
                Finding::fail("DB-SERVERID", format!("server_id {id} is also a node's replica_id"), own_number(wanted))
            }
            id => Finding::good("DB-SERVERID", format!("server_id is {id}")),
        }
    }

    fn auto_increment(&self, nodes: usize, number: u32) -> Finding {
        let (step, first) = (self.number("auto_increment_increment"), self.number("auto_increment_offset"));
        let lines = format!("auto_increment_increment={} and auto_increment_offset={number}", step.max(10).max(nodes as u64));
        let lines = lines.as_str();
        if step < nodes as u64 {
            return Finding::fail("DB-AUTOINC", "new rows on several nodes would get the same ids", set(lines));
        }
        if first > step {
            let what =
                format!("auto_increment_offset {first} is larger than auto_increment_increment {step} and does not count");
            return Finding::fail("DB-AUTOINC", what, set(lines));
        }
        Finding::good("DB-AUTOINC", format!("new ids are {first}, {}, {}, …", first + step, first + 2 * step))
    }

    fn durable(&self) -> Finding {
        let lacking = ["sync_binlog", "innodb_flush_log_at_trx_commit"].into_iter().filter(|name| self.number(name) != 1);
        let lacking: Vec<String> = lacking.map(|name| format!("{name}=1")).collect();
        match &*lacking {
            [] => Finding::good("DB-SYNC", "commits are on the disk before they are answered"),
            lines => Finding::warn(
                "DB-SYNC",
                "a power cut can take back commits that other nodes have already; this node then stops and must be seeded again",
                set(&lines.join(" and ")),
            ),
        }
    }

    fn strict(&self) -> Finding {
        match self.is("gtid_strict_mode", "ON") {
            true => Finding::good("DB-STRICT", "gtid_strict_mode is ON"),
            false => Finding::warn(
                "DB-STRICT",
                "gtid_strict_mode is OFF, so somebody could write transactions with numbers out of order",
                set("gtid_strict_mode=ON"),
            ),
        }
    }

    fn retention(&self, max_offline: Duration) -> Finding {
        let days: f64 = self.text("expire_logs_days").parse().unwrap_or(0.0);
        let seconds = match self.number("binlog_expire_logs_seconds") {
            0 => days * 86_400.0,
            seconds => seconds as f64,
        };
        let (kept, wanted) = (seconds / 86_400.0, max_offline.as_secs_f64() / 86_400.0);
        if seconds == 0.0 {
            return Finding::good("DB-RETENTION", "binlogs are kept until somebody purges them");
        }
        if kept < wanted {
            return Finding::warn(
                "DB-RETENTION",
                format!("binlogs are kept for {kept:.1} days, but max_offline promises {wanted:.1}"),
                set(&format!("expire_logs_days={:.0}", (wanted + 10.0).ceil())),
            );
        }
        Finding::good("DB-RETENTION", format!("binlogs are kept for {kept:.1} days"))
    }

    /// Whether the binlog still holds all that was not read yet.
    fn resumable(&self, resume: Option<&GtidPosition>) -> Option<Finding> {
        const CODE: &str = "DB-POSITION";
        let (resume, (oldest, end)) = (resume?, self.history.as_ref()?);
        let seeding = "docs/operations.md, \"Seeding a node again\", says how the node gets all rows anew";
        if !end.covers_all(resume) {
            let ends = if end.is_start() { "is empty".to_owned() } else { format!("ends at {end}") };
            let what = format!(
                "this node has published its history up to {resume}, but the server's {ends}: it was reset, put back to an older state, or is another server"
            );
            return Some(Finding::fail(
                CODE,
                what,
                format!("point the node at the server that it had; where that is gone, {seeding}"),
            ));
        }
        if !resume.covers_all(oldest) {
            let what = format!(
                "this node has published its history up to {resume}, and the binlog begins only after {oldest}: what is between them is lost"
            );
            return Some(Finding::fail(CODE, what, seeding));
        }
        Some(Finding::good(CODE, format!("the binlog still holds all after {resume}, up to where this node has published")))
    }

    /// More than a node needs, and enough to do harm with its password.
    fn rights(&self) -> Finding {
        const CODE: &str = "DB-RIGHTS";
        let needed = |right: &&&str| **right == "SUPER" && self.release() < WITHOUT_SUPER;
        let dangerous = DANGEROUS.iter().filter(|right| self.privileges.contains(**right) && !needed(right));
        let mut dangerous: Vec<&str> = dangerous.copied().collect();
        dangerous.extend(self.grantable.then_some("GRANT OPTION"));
        match &*dangerous {
            [] => Finding::good(CODE, "the account has no right to do what no node does"),
            rights => {
                let rights = rights.join(", ");
                let what =
                    format!("the account has rights that no node needs, and whoever finds its password has them too: {rights}");
                Finding::warn(CODE, what, format!("as an administrator: REVOKE {rights} ON *.* FROM {}", self.account))
            }
        }
    }

    /// A server that only this machine uses should be open to this machine only.
    fn reachable(&self) -> Finding {
        const CODE: &str = "DB-LISTEN";
        match self.text("bind_address") {
            "" | "*" | "0.0.0.0" | "::" => Finding::warn(
                CODE,
                "the server takes connections from other machines, and this node comes from this one: everybody in the network may try passwords",
                set("bind_address=127.0.0.1"),
            ),
            address => Finding::good(CODE, format!("the server listens on {address}")),
        }
    }

    fn grants(&self) -> Vec<Finding> {
        let has = |names: &[&str]| names.iter().any(|name| self.privileges.contains(*name));
        let mut missing = Vec::new();
        if !has(&["REPLICATION SLAVE"]) {
            missing.push("REPLICATION SLAVE");
        }
        // Another name for the same before 10.5.
        if !has(&["BINLOG MONITOR", "REPLICATION CLIENT", "SUPER"]) {
            missing.push("BINLOG MONITOR");
        }
        vec![match &*missing {
            [] => Finding::good("DB-GRANTS", "the account may read the binlog"),
            missing => Finding::fail(
                "DB-GRANTS",
                format!("the account lacks {}", missing.join(" and ")),
                format!("as an administrator: GRANT {} ON *.* TO {}", missing.join(", "), self.account),
            ),
        }]
    }

    fn clock(&self) -> Finding {
        let ahead = self.clock_ahead;
        match ahead.abs() {
            off if off > 2.0 => Finding::warn(
                "DB-CLOCK",
                format!("the server's clock is {off:.0} s {} this machine's", if ahead > 0.0 { "ahead of" } else { "behind" }),
                "turn on time synchronisation on both: of two changes made at the same time the one with the later clock wins",
            ),
            _ => Finding::good("DB-CLOCK", "the server's clock agrees with this machine's"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Level;

    fn good() -> Seen {
        let variables = [
            ("version", "10.11.6-MariaDB-log"),
            ("bind_address", "127.0.0.1"),
            ("log_bin", "ON"),
            ("binlog_format", "ROW"),
            ("binlog_row_image", "FULL"),
            ("binlog_row_metadata", "FULL"),
            ("server_id", "7"),
            ("gtid_strict_mode", "ON"),
            ("auto_increment_increment", "10"),
            ("auto_increment_offset", "2"),
            ("sync_binlog", "1"),
            ("innodb_flush_log_at_trx_commit", "1"),
            ("expire_logs_days", "40.000000"),
            ("binlog_expire_logs_seconds", "3456000"),
        ];
        Seen {
            variables: variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            filters: Some(Default::default()),
            account: "'tandem'@'127.0.0.1'".into(),
            grantable: false,
            here: true,
            history: Some((position("7-7-3"), position("7-7-90"))),
            privileges: ["REPLICATION SLAVE", "BINLOG MONITOR"].map(str::to_owned).into(),
            clock_ahead: 0.1,
        }
    }

    fn wanted() -> Expectations {
        Expectations {
            nodes: 2,
            number: 2,
            replica_ids: [1101, 1102].into(),
            max_offline: Duration::from_secs(30 * 86_400),
            databases: ["campus".to_owned()].into(),
            resume: Some(position("7-7-40")),
        }
    }

    fn position(text: &str) -> GtidPosition {
        text.parse().unwrap()
    }

    /// With one thing changed, this is the only finding that is not good.
    fn check(change: impl FnOnce(&mut Seen), level: Level, code: &str, words: &str) {
        let mut seen = good();
        change(&mut seen);
        let found: Vec<Finding> = judge(&seen, &wanted()).into_iter().filter(|finding| finding.level != Level::Good).collect();
        let [one] = &*found else { panic!("{code}: {found:?}") };
        assert_eq!((one.level, one.code), (level, code), "{one:?}");
        assert!(one.what.contains(words), "{one:?}");
        assert!(one.remedy.is_some(), "{one:?}");
    }

    fn set_to<'a>(name: &'a str, value: &'a str) -> impl FnOnce(&mut Seen) + 'a {
        move |seen| drop(seen.variables.insert(name.into(), value.into()))
    }

    #[test]
    fn a_server_as_it_should_be_has_only_good_findings() {
        let found = judge(&good(), &wanted());
        assert!(found.len() > 10 && found.iter().all(|finding| finding.level == Level::Good), "{found:?}");
    }

    #[test]
    fn each_setting_that_loses_changes_fails_with_its_remedy() {
        check(set_to("version", "8.0.36"), Level::Fail, "DB-FLAVOUR", "8.0.36");
        check(set_to("version", "10.3.39-MariaDB"), Level::Fail, "DB-FLAVOUR", "too old");
        let history =
            |from: &'static str, to: &'static str| move |seen: &mut Seen| seen.history = Some((position(from), position(to)));
        check(history("7-7-41", "7-7-90"), Level::Fail, "DB-POSITION", "is lost");
        check(history("7-7-3", "7-7-39"), Level::Fail, "DB-POSITION", "ends at 7-7-39");
        check(set_to("log_bin", "OFF"), Level::Fail, "DB-LOG", "no binlog");
        check(set_to("binlog_format", "MIXED"), Level::Fail, "DB-FORMAT", "MIXED");
        check(set_to("server_id", "0"), Level::Fail, "DB-SERVERID", "0");
        check(set_to("server_id", "1102"), Level::Fail, "DB-SERVERID", "replica_id");
        check(set_to("auto_increment_increment", "1"), Level::Fail, "DB-AUTOINC", "same ids");
        check(set_to("auto_increment_offset", "11"), Level::Fail, "DB-AUTOINC", "does not count");
        let without = |right: &'static str| move |seen: &mut Seen| seen.privileges.retain(|own| own != right);
        check(without("REPLICATION SLAVE"), Level::Fail, "DB-GRANTS", "REPLICATION SLAVE");
        check(without("BINLOG MONITOR"), Level::Fail, "DB-GRANTS", "BINLOG MONITOR");
        check(|seen| seen.filters = Some(("shop".into(), "".into())), Level::Fail, "DB-FILTER", "campus, tandem");
        check(|seen| seen.filters = Some(("".into(), "campus".into())), Level::Fail, "DB-FILTER", "campus");
    }

    #[test]
    fn what_works_less_well_is_a_warning_with_its_remedy() {
        check(set_to("binlog_row_image", "MINIMAL"), Level::Warn, "DB-IMAGE", "MINIMAL");
        check(set_to("binlog_row_metadata", "NO_LOG"), Level::Warn, "DB-METADATA", "NO_LOG");
        check(|seen| drop(seen.variables.remove("binlog_row_metadata")), Level::Warn, "DB-METADATA", "cannot name");
        check(set_to("sync_binlog", "0"), Level::Warn, "DB-SYNC", "power cut");
        check(set_to("gtid_strict_mode", "OFF"), Level::Warn, "DB-STRICT", "OFF");
        check(set_to("binlog_expire_logs_seconds", "864000"), Level::Warn, "DB-RETENTION", "10.0 days");
        check(set_to("bind_address", "*"), Level::Warn, "DB-LISTEN", "other machines");
        check(|seen| seen.privileges.extend(["FILE".to_owned()]), Level::Warn, "DB-RIGHTS", "FILE");
        check(|seen| seen.grantable = true, Level::Warn, "DB-RIGHTS", "GRANT OPTION");
        check(|seen| seen.clock_ahead = -7.0, Level::Warn, "DB-CLOCK", "7 s behind");
    }
}
