//! What a node's MariaDB needs: the lines of its configuration file, and the SQL of the account with the least rights.

use std::collections::BTreeSet;
use std::net::IpAddr;

use secrecy::{ExposeSecret, SecretString};

use crate::config::{Config, DatabaseAddress};

/// Room for new ids of so many sites without setting the servers again.
const SITES: usize = 10;
/// Days that the binlog is kept longer than a node may be away.
const SPARE_DAYS: u64 = 10;

/// The lines under `[mysqld]` for the n-th node, from 1.
pub fn settings(config: &Config, node: &str, number: u32) -> String {
    let step = config.nodes.len().max(SITES);
    let days = config.topic.max_offline.as_secs().div_ceil(86_400) + SPARE_DAYS;
    format!(
        "# What Tandem needs of the MariaDB of {node}, written by `tandem init`.\n\
         [mysqld]\n\
         log_bin                        = binlog\n\
         binlog_format                  = ROW\n\
         binlog_row_image               = FULL\n\
         # Before MariaDB 10.5 there is none: `loose_` lets such a server start without it.\n\
         loose_binlog_row_metadata      = FULL\n\
         # Numbers that no other node has: of the server, of its transactions, of its new rows.\n\
         server_id                      = {number}\n\
         gtid_domain_id                 = {number}\n\
         auto_increment_increment       = {step}\n\
         auto_increment_offset          = {number}\n\
         gtid_strict_mode               = ON\n\
         # What is committed outlasts a power cut.\n\
         sync_binlog                    = 1\n\
         innodb_flush_log_at_trx_commit = 1\n\
         # Longer than a node may be away.\n\
         expire_logs_days               = {days}\n"
    )
}

/// Where those lines belong, for people.
pub const PLACES: [(&str, &str); 4] = [
    ("Debian, Ubuntu", "a file of its own: /etc/mysql/mariadb.conf.d/90-tandem.cnf"),
    ("Fedora, RHEL, SUSE", "a file of its own: /etc/my.cnf.d/90-tandem.cnf"),
    ("Homebrew", "/opt/homebrew/etc/my.cnf (Intel: /usr/local/etc/my.cnf)"),
    (
        "XAMPP",
        "Windows C:\\xampp\\mysql\\bin\\my.ini, Linux /opt/lampp/etc/my.cnf, macOS /Applications/XAMPP/xamppfiles/etc/my.cnf: \
         below its own [mysqld]",
    ),
];

/// The client that an administrator has. XAMPP's is old, in no PATH, and PowerShell knows no `<`.
pub const CLIENT: &str = if cfg!(windows) { "(in cmd, not PowerShell) C:\\xampp\\mysql\\bin\\mysql" } else { "mariadb" };

/// The account as the node logs in, with the rights that `tandem doctor` looks for and no others.
pub fn account(config: &Config, node: &str, database: &DatabaseAddress, password: &SecretString) -> String {
    let mut sql = format!(
        "-- The account of {node}, written by `tandem init`. An administrator of this MariaDB runs it once; then delete it, because it\n\
         -- holds the password.\n"
    );
    let user = text(&database.user);
    for host in hosts(&database.host) {
        let account = format!("{user}@'{host}'");
        sql += &format!("CREATE USER IF NOT EXISTS {account};\n");
        sql += &format!("ALTER USER {account} IDENTIFIED BY {};\n", text(password.expose_secret()));
        for place in places(config) {
            // TRIGGER, so that a trigger that is not guarded is seen. The last five for what other nodes do to the tables.
            sql += &format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER, CREATE, ALTER, DROP, INDEX, REFERENCES ON {place} TO {account};\n"
            );
        }
        sql += &format!("GRANT ALL PRIVILEGES ON `tandem`.* TO {account};\n");
        // From 10.5 the server calls the second one BINLOG MONITOR, and understands both names.
        sql += &format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {account};\n");
    }
    sql
}

/// From where the server sees the node come. A server that looks up names calls this machine `localhost`, and prefers any
/// account of that name, a nameless one too.
fn hosts(server: &str) -> &'static [&'static str] {
    let here = server.eq_ignore_ascii_case("localhost") || server.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if here { &["127.0.0.1", "::1", "localhost"] } else { &["%"] }
}

/// The databases of the synced tables, as GRANT names them.
fn places(config: &Config) -> BTreeSet<String> {
    let patterns = config.tables.include.iter().map(ToString::to_string);
    let databases = patterns.filter_map(|pattern| pattern.split_once('.').map(|(database, _)| database.to_owned()));
    let places: BTreeSet<String> = databases.map(|database| place(&database)).collect();
    if places.contains("*.*") { BTreeSet::from(["*.*".to_owned()]) } else { places }
}

fn place(database: &str) -> String {
    if database == "*" {
        return "*.*".to_owned();
    }
    // In the name of a database GRANT takes `_` and `%` for any letters, which is what our `*` means.
    let name = database.replace('\\', "\\\\").replace('_', "\\_").replace('%', "\\%").replace('*', "%").replace('`', "``");
    format!("`{name}`.*")
}

/// Quoted so that it means the same whatever the session's sql_mode: there is no backslash in it.
fn text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_of_databases_is_the_one_of_grant() {
        for (database, expected) in
            [("campus", "`campus`.*"), ("my_shop", "`my\\_shop`.*"), ("shop*", "`shop%`.*"), ("*", "*.*"), ("a`b", "`a``b`.*")]
        {
            assert_eq!(place(database), expected);
        }
    }

    #[test]
    fn a_quote_in_a_name_ends_no_text() {
        assert_eq!(text("o'hara"), "'o''hara'");
        assert_eq!(hosts("LocalHost").len(), 3);
        assert_eq!(hosts("192.168.1.5"), ["%"]);
    }
}
