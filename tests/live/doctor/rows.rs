//! All that a node and its broker can have wrong: how it is broken, what is said, and how it is mended.

use super::bench::Do::*;
use super::bench::{Fix, Row};

/// What cannot be broken in a test that keeps to this machine: where it is tried instead.
pub const ELSEWHERE: &[(&str, &str)] = &[
    // The server would be open to every machine around.
    ("DB-LISTEN", "the unit tests of source::binlog::examine"),
    // It takes three nodes, of which one leaves.
    ("NODES-MEMBERS", "tests/live/members.rs"),
];

const WRONG: &str = "what is broken lies outside the server, or is one of many things that only a person can choose from";

const fn row(
    code: &'static str,
    level: &'static str,
    breaks: &'static [super::bench::Do],
    words: &'static [&'static str],
    fix: Fix,
) -> Row {
    Row { code, level, breaks, words, fix, after: &[] }
}

/// With something that is to be taken away after it.
const fn and(row: Row, after: &'static [super::bench::Do]) -> Row {
    Row { after, ..row }
}

const AS_PRINTED: Fix = Fix::Printed(&[]);
const NEW_PASSWORD: &[(&str, &str)] = &[("…", "tandem-test-only")];

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    // The history first: later rows write to it.
    row("DB-POSITION", "fail", &[ForgetHistory], &["history up to 2-2-", "is empty"], Fix::ByHand(WRONG, &[GiveHistoryBack])),
    row("DB-POSITION", "fail", &[PurgeHistory], &["begins only after 2-2-1000000", "Seeding a node again"], Fix::ByHand(WRONG, &[GiveHistoryBack])),

    // The password is another one; there is an account for the wrong name of this machine only.
    and(row("DB-LOGIN", "fail", &[Sql("RENAME USER tandem@'%' TO tandem@'127.0.0.1'; SET PASSWORD FOR tandem@'127.0.0.1' = PASSWORD('another')")],
        &["error 1045", "for '127.0.0.1': ALTER USER"], Fix::Statement("ALTER USER", NEW_PASSWORD)), &[Sql("RENAME USER tandem@'127.0.0.1' TO tandem@'%'")]),
    and(row("DB-LOGIN", "fail", &[Sql("RENAME USER tandem@'%' TO tandem@'localhost'")], &["'localhost' only"], Fix::Statement("RENAME USER", &[])),
        &[Sql("RENAME USER tandem@'127.0.0.1' TO tandem@'%'")]),
    row("DB-SETTINGS", "fail", &[Sql("ALTER USER tandem@'%' WITH MAX_USER_CONNECTIONS 1")], &["max_user_connections"],
        Fix::ByHand(WRONG, &[Sql("ALTER USER tandem@'%' WITH MAX_USER_CONNECTIONS 0")])),

    row("DB-FLAVOUR", "fail", &[Args(&["--version=8.0.36"])], &["not MariaDB but 8.0.36"], Fix::ByHand(WRONG, &[NoArgs])),
    row("DB-FLAVOUR", "fail", &[Args(&["--version=10.3.39-MariaDB"])], &["too old", "10.4 or later"], Fix::ByHand(WRONG, &[NoArgs])),
    row("DB-LOG", "fail", &[Args(&["--skip-log-bin"])], &["no binlog"], AS_PRINTED),
    row("DB-FORMAT", "fail", &[Args(&["--binlog-format=MIXED"])], &["is MIXED"], AS_PRINTED),
    row("DB-IMAGE", "warn", &[Args(&["--binlog-row-image=MINIMAL"])], &["is MINIMAL"], AS_PRINTED),
    row("DB-METADATA", "warn", &[Args(&["--binlog-row-metadata=NO_LOG"])], &["is NO_LOG"], AS_PRINTED),
    row("DB-FILTER", "fail", &[Args(&["--binlog-ignore-db=campus"])], &["changes of campus are left out"], AS_PRINTED),
    row("DB-FILTER", "fail", &[Args(&["--binlog-do-db=shop"])], &["changes of campus, tandem are left out"], AS_PRINTED),
    row("DB-SERVERID", "fail", &[Args(&["--server-id=1102"])], &["also a node's replica_id"], AS_PRINTED),
    row("DB-AUTOINC", "fail", &[Args(&["--auto-increment-increment=1", "--auto-increment-offset=1"])], &["the same ids", "auto_increment_offset=2"], AS_PRINTED),
    row("DB-SYNC", "warn", &[Args(&["--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2"])], &["power cut"], AS_PRINTED),
    row("DB-STRICT", "warn", &[Args(&["--gtid-strict-mode=OFF"])], &["is OFF"], AS_PRINTED),
    row("DB-RETENTION", "warn", &[Args(&["--expire-logs-days=2"])], &["2.0 days", "expire_logs_days=40"], AS_PRINTED),
    row("DB-PACKET", "warn", &[Args(&["--max-allowed-packet=1M"])], &["is 1048576 bytes"], AS_PRINTED),
    and(row("DB-REPLICA", "warn", &[Sql("SET GLOBAL gtid_strict_mode=OFF; SET GLOBAL gtid_slave_pos='9-9-1'; SET GLOBAL gtid_strict_mode=ON")], &["replica of another"], AS_PRINTED),
        &[Sql("SET GLOBAL gtid_strict_mode=OFF; SET GLOBAL gtid_slave_pos=''; SET GLOBAL gtid_strict_mode=ON")]),
    row("DB-CLOCK", "warn", &[Sql("SET GLOBAL init_connect='SET timestamp=UNIX_TIMESTAMP()-90'")], &["s behind this machine's"],
        Fix::ByHand("a test does not turn on time synchronisation", &[Sql("SET GLOBAL init_connect=''")])),

    row("DB-GRANTS", "fail", &[Sql("REVOKE REPLICATION SLAVE, BINLOG MONITOR ON *.* FROM tandem@'%'")], &["GRANT REPLICATION SLAVE, BINLOG MONITOR"], AS_PRINTED),
    and(row("DB-RIGHTS", "warn", &[Sql("GRANT FILE, SHUTDOWN ON *.* TO tandem@'%' WITH GRANT OPTION")], &["REVOKE FILE, SHUTDOWN, GRANT OPTION ON *.*"], AS_PRINTED), &[]),
    and(row("DB-OWN", "fail", &[Sql("REVOKE CREATE ON *.* FROM tandem@'%'; REVOKE ALL ON tandem.* FROM tandem@'%'")], &["GRANT ALL ON tandem.* TO 'tandem'@'%'"], AS_PRINTED),
        &[Sql("GRANT CREATE ON *.* TO tandem@'%'")]),
    row("DB-WRITE", "fail", &[Sql("REVOKE DELETE ON *.* FROM tandem@'%'")], &["GRANT DELETE ON `campus`.* TO 'tandem'@'%'"], AS_PRINTED),
    row("DB-DDL", "warn", &[Sql("REVOKE ALTER, INDEX ON *.* FROM tandem@'%'")], &["lacks ALTER, INDEX on campus"], AS_PRINTED),
    row("DB-TABLE", "fail", &[Sql("REVOKE TRIGGER ON *.* FROM tandem@'%'")], &["may not see triggers"], AS_PRINTED),

    and(row("DB-TABLE", "fail", &[Both("CREATE TABLE campus.x (id INT PRIMARY KEY) ENGINE=MyISAM")], &["its engine is MyISAM"], AS_PRINTED), &[Both("DROP TABLE campus.x")]),
    and(row("DB-TABLE", "fail", &[Both("CREATE TABLE campus.x (id INT PRIMARY KEY) WITH SYSTEM VERSIONING")], &["system-versioned"], AS_PRINTED), &[Both("DROP TABLE campus.x")]),
    and(row("DB-TABLE", "fail", &[Both("CREATE SEQUENCE campus.x")], &["it is a sequence"], AS_PRINTED), &[Both("DROP SEQUENCE campus.x")]),
    and(row("DB-TABLE", "fail", &[Both("CREATE TABLE campus.x (id INT NOT NULL UNIQUE)")], &["not by a primary key"], Fix::Printed(&[("…", "id")])), &[Both("DROP TABLE campus.x")]),
    and(row("DB-TABLE", "fail", &[Both("CREATE TABLE campus.x (id INT PRIMARY KEY, t TEXT, UNIQUE KEY few (t(4)))")], &["first characters"],
        Fix::ByHand(WRONG, &[Both("ALTER TABLE campus.x DROP KEY few")])), &[Both("DROP TABLE campus.x")]),
    and(row("DB-TABLE", "fail", &[Both("CREATE TABLE campus.x (id INT PRIMARY KEY); CREATE TRIGGER campus.loud AFTER INSERT ON campus.x FOR EACH ROW SET @loud = 1")],
        &["trigger `loud`", "IF @tandem_applying IS NULL THEN"],
        Fix::ByHand(WRONG, &[Both("CREATE OR REPLACE TRIGGER campus.loud AFTER INSERT ON campus.x FOR EACH ROW IF @tandem_applying IS NULL THEN SET @loud = 1; END IF")])),
        &[Both("DROP TABLE campus.x")]),
    and(row("DB-TABLE", "fail", &[Both("CREATE DATABASE shop; CREATE TABLE shop.bills (id INT PRIMARY KEY, rider INT, FOREIGN KEY (rider) REFERENCES campus.riders (id))")],
        &["shop.bills, which is not captured, refers to it"], Fix::ByHand(WRONG, &[Both("DROP TABLE shop.bills")])), &[Both("DROP DATABASE shop")]),
    and(row("DB-KEY", "warn", &[Both("CREATE TABLE campus.x (id INT, line TEXT)")], &["campus.x has no primary key"], Fix::Printed(&[("…", "id")])), &[Both("DROP TABLE campus.x")]),
    and(row("DB-REFERENCE", "warn", &[Both("CREATE DATABASE shop; CREATE TABLE shop.towns (id INT PRIMARY KEY); CREATE TABLE campus.x (id INT PRIMARY KEY, town INT, FOREIGN KEY (town) REFERENCES shop.towns (id) ON DELETE CASCADE ON UPDATE CASCADE)")],
        &["campus.x refers to shop.towns", "capture both"], Fix::ByHand(WRONG, &[Env(&[("TANDEM__TABLES__INCLUDE", "campus.*, shop.*")])])),
        &[NoEnv, Both("DROP TABLE campus.x; DROP DATABASE shop")]),
    row("DB-UNIQUE", "good", &[Both("ALTER TABLE campus.riders ADD UNIQUE KEY by_name (name)")], &["by_name", "the older row goes"],
        Fix::ByHand("it is no fault", &[Both("ALTER TABLE campus.riders DROP KEY by_name")])),
    row("DB-PARTITION", "warn", &[Both("CREATE TABLE campus.years (y INT PRIMARY KEY) PARTITION BY RANGE (y) (PARTITION p VALUES LESS THAN MAXVALUE)")],
        &["DELETE FROM campus.years"], Fix::ByHand("it is how to go on living with it", &[Both("DROP TABLE campus.years")])),
    and(row("DB-EVENT", "warn", &[Sql("SET GLOBAL event_scheduler=ON")], &["may not see", "SHOW EVENTS"], Fix::Statement("SET GLOBAL event_scheduler=OFF", &[("OFF where none is needed", "OFF")])), &[]),
    and(row("DB-EVENT", "warn", &[Both("CREATE EVENT campus.nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM campus.riders WHERE id < 0"), Sql("SET GLOBAL event_scheduler=ON; GRANT EVENT ON *.* TO tandem@'%'")],
        &["ALTER EVENT `campus`.`nightly` DISABLE"], AS_PRINTED), &[Both("DROP EVENT campus.nightly"), Sql("SET GLOBAL event_scheduler=OFF; REVOKE EVENT ON *.* FROM tandem@'%'")]),

    // Beside the other node.
    row("NODES-SERVERID", "fail", &[Args(&["--server-id=1"])], &["server_id is 1 here and on laptop-a"], AS_PRINTED),
    row("NODES-DOMAIN", "fail", &[Args(&["--gtid-domain-id=1"])], &["gtid_domain_id is 1 here and on laptop-a"], AS_PRINTED),
    row("NODES-DOMAIN", "fail", &[Args(&["--gtid-domain-id=1"]), Env(&[("TANDEM__NODES__LAPTOP_A__DATABASE", "mysql://tandem@127.0.0.1:{port}/campus")])],
        &["gtid_domain_id is 1 here and on laptop-a"], AS_PRINTED),
    row("NODES-AUTOINC", "fail", &[Args(&["--auto-increment-offset=1"])], &["offset is 1 here and on laptop-a", "auto_increment_offset=2"], AS_PRINTED),
    row("NODES-CASE", "warn", &[Args(&["--lower-case-table-names=1"])], &["lower_case_table_names is 1 here and 0 on laptop-a"], Fix::ByHand(WRONG, &[NoArgs])),
    row("NODES-SQLMODE", "warn", &[Args(&["--sql-mode="])], &["sql_mode is empty here"], AS_PRINTED),
    row("NODES-COLLATION", "warn", &[Sql("ALTER DATABASE campus COLLATE utf8mb4_bin")], &["utf8mb4_bin here and utf8mb4_general_ci on laptop-a"], AS_PRINTED),
    row("NODES-SCHEMA", "fail", &[Sql("ALTER TABLE campus.riders MODIFY name VARCHAR(20)")], &["`name` is varchar(20)"],
        Fix::ByHand(WRONG, &[Sql("ALTER TABLE campus.riders MODIFY name VARCHAR(40)")])),
    row("NODES-CLOCK", "warn", &[There("SET timestamp=UNIX_TIMESTAMP()+40; INSERT INTO campus.riders VALUES (3, 'Eve')")], &["laptop-a last published a change of", "in the future"],
        Fix::ByHand("a test does not turn on time synchronisation", &[There("INSERT INTO campus.riders VALUES (4, 'Ida')")])),
    row("NODES-COMPARED", "good", &[Env(&[("TANDEM__NODES__LAPTOP_A__DATABASE", "mysql://tandem@127.0.0.1:{port}/campus")])], &["is not reached from here"], AS_PRINTED),

    // Around the node.
    row("TOPIC", "fail", &[Env(&[("TANDEM__TOPIC__URL", "http://127.0.0.1:{port}")])], &["start what keeps the topics"], Fix::ByHand(WRONG, &[NoEnv])),
    row("STATE", "fail", &[Env(&[("TANDEM__STATE__FOLDER", "{dir}/tandem.toml/state")])], &["cannot be written"], Fix::ByHand(WRONG, &[NoEnv])),
    row("STATE-DISK", "warn", &[Env(&[("TANDEM__LIMITS__DISK_FREE_MIN", "1000000GiB")])], &["MiB are left", "lower disk_free_min"], Fix::ByHand(WRONG, &[NoEnv])),
    row("PORT", "fail", &[TakePort], &["another program listens on 127.0.0.1:", "set another `listen` under [web]"], Fix::ByHand(WRONG, &[LeavePort])),
    row("SECRET-FILE", "warn", &[File("web.key", "0123456789abcdef0123456789abcdef", 0o644), Env(&[("TANDEM__WEB__KEY_FILE", "web.key")])], &["chmod 600"], AS_PRINTED),
    row("WEB-TLS", "warn", &[Env(&[("TANDEM__WEB__KEY_FILE", "web.key"), ("TANDEM__WEB__LISTEN", "0.0.0.0:{port}")])], &["unencrypted"], AS_PRINTED),
    row("WEB-KEY", "warn", &[File("web.key", "sesame", 0o600), Env(&[("TANDEM__WEB__KEY_FILE", "web.key"), ("TANDEM__WEB__LISTEN", "0.0.0.0:{port}"), ("TANDEM__WEB__TLS", "true")])],
        &["fewer than 32 letters", "openssl rand -hex 32"], Fix::ByHand(WRONG, &[File("web.key", "0123456789abcdef0123456789abcdef", 0o600)])),
    row("CLOUD", "fail", &[Env(&[("TANDEM__CLOUD__MAIN__API__URL", "http://127.0.0.1:{port}/api")])], &["[cloud.main]"], Fix::ByHand(WRONG, &[NoEnv])),
    row("CLOUD-KEY", "fail", &[File("wrong.key", "no key of anybody, and a long one", 0o600), Env(&[("TANDEM__CLOUD__MAIN__API__KEY_FILE", "wrong.key")])], &["key"], Fix::ByHand(WRONG, &[NoEnv])),
    row("CLOUD-FILES", "fail", &[Env(&[("TANDEM__CLOUD__MAIN__FILES__ROOT", "{dir}/no-such-folder")])], &["no-such-folder", "mend `root`"], Fix::ByHand(WRONG, &[NoEnv])),
    row("CLOUD-STORE", "fail", &[Env(&[
        ("TANDEM__CLOUD__MAIN__ARCHIVE__URL", "s3://rows/laptops"), ("TANDEM__CLOUD__MAIN__ARCHIVE__ENDPOINT", "http://127.0.0.1:{port}"),
        ("TANDEM__CLOUD__MAIN__ARCHIVE__KEY_ID_ENV", "NODE_HUB_KEY"), ("TANDEM__CLOUD__MAIN__ARCHIVE__KEY_ENV", "NODE_HUB_KEY"),
    ])], &["cannot reach the cloud at s3://rows/laptops"], Fix::ByHand(WRONG, &[NoEnv])),
];

/// What only a broker can have wrong. It is broken there: `super::kafka`.
#[rustfmt::skip]
pub const BROKER: &[Row] = &[
    row("TOPIC-ADDRESS", "fail", &[], &["sends its clients to 127.0.0.1:", "advertised.listeners"], AS_PRINTED),
    row("TOPIC-RETENTION", "fail", &[], &["keeps records for 1 h", "on the topic campus.laptop-a set retention.ms=2592000000"], AS_PRINTED),
    row("TOPIC-SIZE", "warn", &[], &["takes records of", "on the topic campus.laptop-a set max.message.bytes=67125248"], AS_PRINTED),
];
