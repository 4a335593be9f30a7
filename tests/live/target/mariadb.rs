//! What only a real server can show: its errors, its locks on small tables, its defaults, its binlog.

use tandem::change::TableFilter;

use super::*;

async fn campus(tables: &str) -> (PrivateServer, MariadbTarget) {
    let server = server().await;
    server.query(&format!("CREATE DATABASE campus; USE campus; {tables}")).await;
    let target = target_of(&server).await;
    (server, target)
}

#[tokio::test]
async fn what_a_row_lacks_is_said_without_its_values() {
    let (_server, target) = campus(
        "CREATE TABLE towns (id INT PRIMARY KEY, mayor INT, FOREIGN KEY (mayor) REFERENCES towns (id));
         CREATE TABLE riders (id INT PRIMARY KEY, name VARCHAR(5) NOT NULL, age TINYINT CHECK (age > 0), town INT, born DATE,
         CONSTRAINT lives_in FOREIGN KEY (town) REFERENCES towns (id)); INSERT INTO towns VALUES (1, NULL), (2, 1)",
    )
    .await;
    let riders = shape("campus.riders", &["id", "name", "age", "town", "born"], &[0]);
    let text = Value::text;
    let null = || Value::Null;
    let cases: [(Vec<Value>, &str); 8] = [
        (vec![text("1"), text("geheim"), Value::Int(1), null(), null()], "too long for column `name`"),
        (vec![text("1"), null(), Value::Int(1), null(), null()], "column `name` must not be NULL"),
        (vec![text("1"), text("a"), Value::Int(777), null(), null()], "out of range for column `age`"),
        (vec![text("1"), text("a"), Value::Int(-7), null(), null()], "the check `riders.age` refuses it"),
        (
            vec![text("1"), text("a"), Value::Int(7), Value::Int(777), null()],
            "a row of another table that is not here (constraint `lives_in`)",
        ),
        (vec![text("1"), text("a"), text("geheim"), null(), null()], "does not fit the type of column `age`"),
        (vec![text("1"), text("a"), null(), null(), text("geheim")], "does not fit the type of column `born`"),
        (vec![text("geheim"), text("a"), null(), null(), null()], "does not fit the type of column `id`"),
    ];
    let mut transaction = target.begin(&mark(1)).await.unwrap();
    for (values, expected) in cases {
        let (failed, error) = failure(&mut transaction, &[Write::Put(inserted(&riders, values))]).await;
        assert_eq!((failed, error.disposition()), (Some(0), Disposition::DeadLetter), "{error}");
        assert!(error.to_string().contains(expected), "{error} for {expected}");
        assert!(!format!("{error:?}").contains("geheim") && !error.to_string().contains("777"), "{error:?}");
    }
    let towns = shape("campus.towns", &["id"], &[0]);
    let town = |id| RowKey { shape: towns.clone(), values: Box::new([Value::Int(id)]) };
    let (_, error) = failure(&mut transaction, &[Write::Delete(town(1))]).await;
    assert!(error.to_string().contains("other rows here still refer to it"), "{error}");
    // One of several: which is not known, so the whole is to be done singly.
    let (failed, _) = failure(&mut transaction, &[Write::Delete(town(1)), Write::Delete(town(2))]).await;
    assert_eq!(failed, None);
    transaction.write(&[Write::Delete(town(2))]).await.unwrap();
    transaction.write(&[Write::Delete(town(1))]).await.unwrap();
    transaction.commit().await.unwrap();
}

/// The server takes such bytes by no statement; what it would make of them in a lax session (`a?(`) is another value.
#[tokio::test]
async fn bytes_that_are_no_text_are_refused_by_their_column_and_not_changed() {
    let (server, target) = campus(
        "CREATE TABLE notes (id INT PRIMARY KEY, v VARCHAR(20) CHARACTER SET utf8mb4, w TEXT CHARACTER SET utf8mb3, \
         x VARCHAR(20) CHARACTER SET sjis)",
    )
    .await;
    let notes = shape("campus.notes", &["id", "v", "w", "x"], &[0]);
    let bad = || Value::Bytes(Box::new([b'a', 0xc3, b'(']));
    let good = || Value::text("a");
    let mut transaction = target.begin(&mark(1)).await.unwrap();
    for (column, values) in [
        ("v", [Value::Int(1), bad(), good(), good()]),
        ("w", [Value::Int(1), good(), bad(), good()]),
        ("x", [Value::Int(1), good(), good(), Value::Bytes(Box::new([0x81, 0xff]))]),
    ] {
        let (failed, error) = failure(&mut transaction, &[Write::Put(inserted(&notes, values))]).await;
        assert_eq!((failed, error.disposition()), (Some(0), Disposition::DeadLetter), "{error}");
        let expected = format!("not text in the character set of column `{column}`");
        assert!(error.to_string().contains(&expected), "{error}");
    }
    transaction.commit().await.unwrap();
    assert_eq!(server.first::<u64>("SELECT COUNT(*) FROM campus.notes").await, Some(0));
}

#[tokio::test]
async fn a_session_that_had_foreign_keys_off_is_followed() {
    let (server, target) = campus(
        "CREATE TABLE towns (id INT PRIMARY KEY); CREATE TABLE riders (id INT PRIMARY KEY, town INT, FOREIGN KEY (town) REFERENCES towns (id))",
    )
    .await;
    let riders = shape("campus.riders", &["id", "town"], &[0]);
    let mut orphan = inserted(&riders, [Value::Int(1), Value::Int(9)]);
    orphan.checks = Checks { foreign_keys_off: true, unique_off: true, partial: false };
    apply(&target, 1, &[Write::Put(orphan)]).await;
    assert_eq!(server.first::<u64>("SELECT COUNT(*) FROM campus.riders").await, Some(1));
    let mut transaction = target.begin(&mark(2)).await.unwrap();
    let (_, error) = failure(&mut transaction, &[Write::Put(inserted(&riders, [Value::Int(2), Value::Int(9)]))]).await;
    assert!(error.to_string().contains("not here"), "the next change is checked again: {error}");
}

#[tokio::test]
async fn a_row_lacks_its_parent_where_one_of_its_foreign_keys_leads_nowhere() {
    let (server, target) = campus(
        "CREATE TABLE towns (id INT PRIMARY KEY, code VARCHAR(5), part INT, KEY (code, part));
         CREATE TABLE riders (id INT PRIMARY KEY, town INT, part INT, code VARCHAR(5), boss INT, FOREIGN KEY (town) REFERENCES towns (id),
            FOREIGN KEY (code, part) REFERENCES towns (code, part), FOREIGN KEY (boss) REFERENCES riders (id));
         INSERT INTO towns VALUES (1, 'a', 1), (2, 'b', NULL); SET foreign_key_checks = 0;
         INSERT INTO riders VALUES (1, 1, 1, 'A', 1), (2, NULL, 1, NULL, NULL), (3, 2, NULL, 'zz', 2), (4, 9, NULL, NULL, NULL),
            (5, 1, 2, 'a', NULL), (6, 1, 1, 'a', 77)",
    )
    .await;
    let riders = shape("campus.riders", &["id"], &[0]);
    let mut transaction = target.begin(&mark(1)).await.unwrap();
    let mut lacking = Vec::new();
    for id in 1..=6 {
        let key = RowKey { shape: riders.clone(), values: Box::new([Value::Int(id)]) };
        let held = transaction.lock(&[key]).await.unwrap().pop().flatten().expect("it is there");
        if transaction.lacks_parent(&held).await.unwrap() {
            lacking.push(id);
        }
    }
    assert_eq!(lacking, [4, 5, 6]);
    assert!(!tried(&server, "DELETE FROM campus.towns WHERE id = 2").await, "what is referred to is held");
    transaction.rollback().await;
}

#[tokio::test]
async fn a_small_table_is_locked_by_row_too() {
    let (server, target) = campus(
        "CREATE TABLE seats (hall INT, seat INT, who INT, PRIMARY KEY (hall, seat)); INSERT INTO seats SELECT 1, seq, 0 FROM seq_2_to_9;
         CREATE TABLE bikes (id INT PRIMARY KEY, who INT); INSERT INTO bikes SELECT seq * 10, 0 FROM seq_1_to_6",
    )
    .await;
    let bikes = shape("campus.bikes", &["id"], &[0]);
    let bike = |id| RowKey { shape: bikes.clone(), values: Box::new([Value::Int(id)]) };
    let seats = shape("campus.seats", &["seat", "hall"], &[1, 0]);
    let seat = |number| RowKey { shape: seats.clone(), values: Box::new([Value::Int(1), Value::Int(number)]) };
    let mut transaction = target.begin(&mark(1)).await.unwrap();
    let held =
        transaction.lock(&[bike(10), bike(20), bike(30), bike(40), seat(2), seat(3), seat(4), seat(5), seat(6)]).await.unwrap();
    assert!(held.iter().all(Option::is_some), "{held:?}");
    assert!(tried(&server, "UPDATE campus.bikes SET who = 1 WHERE id = 50").await);
    assert!(tried(&server, "INSERT INTO campus.bikes VALUES (55, 1), (70, 1)").await);
    assert!(tried(&server, "UPDATE campus.seats SET who = 1 WHERE hall = 1 AND seat = 7").await);
    assert!(!tried(&server, "UPDATE campus.bikes SET who = 1 WHERE id = 40").await);
    assert!(!tried(&server, "UPDATE campus.seats SET who = 1 WHERE hall = 1 AND seat = 6").await);
    transaction.rollback().await;

    let mut transaction = target.begin(&mark(1)).await.unwrap();
    transaction.write(&[10, 20, 30, 40].map(|id| Write::Delete(bike(id)))).await.unwrap();
    transaction.write(&[2, 3, 4, 5].map(|number| Write::Delete(seat(number)))).await.unwrap();
    assert!(tried(&server, "UPDATE campus.bikes SET who = 2 WHERE id = 60").await, "a delete locks only its rows");
    assert!(tried(&server, "UPDATE campus.seats SET who = 2 WHERE hall = 1 AND seat = 9").await);
    transaction.commit().await.unwrap();
    assert_eq!(server.first::<u64>("SELECT COUNT(*) FROM campus.bikes WHERE id < 50").await, Some(0));
    assert_eq!(server.first::<u64>("SELECT COUNT(*) FROM campus.seats").await, Some(4));
}

#[tokio::test]
async fn what_a_change_does_not_tell_stays_as_it_is() {
    let (server, target) = campus(
        "CREATE TABLE riders (id INT PRIMARY KEY, name VARCHAR(20), email VARCHAR(20) UNIQUE, note VARCHAR(20) DEFAULT 'none',
         seen TIMESTAMP NOT NULL DEFAULT '2001-01-01' ON UPDATE CURRENT_TIMESTAMP);
         INSERT INTO riders (id, name, email) VALUES (1, 'ann', 'a')",
    )
    .await;
    let rows = "SELECT id, name, email, note, CAST(seen AS CHAR) FROM campus.riders ORDER BY id";
    type Rider = (i64, Option<String>, Option<String>, String, String);
    let partial = shape("campus.riders", &["id", "name"], &[0]);
    let whole = |id, name: &str| change(&partial, Op::Update, None, image([Value::Int(id), Value::text(name)]));
    let update = |id, name: &str| {
        let mut change = whole(id, name);
        change.checks.partial = true;
        change
    };
    apply(&target, 1, &[Write::Put(update(1, "bea"))]).await;
    let seen = "2001-01-01 00:00:00";
    let bea: Rider = (1, Some("bea".into()), Some("a".into()), "none".into(), seen.into());
    assert_eq!(server.rows::<Rider>(rows).await, std::slice::from_ref(&bea));
    let mut transaction = target.begin(&mark(2)).await.unwrap();
    let (failed, error) = failure(&mut transaction, &[Write::Put(update(2, "cid"))]).await;
    assert_eq!(failed, Some(0));
    assert!(error.to_string().contains("only some of its columns"), "{error}");
    // An inserted row that does not tell a column has its default.
    transaction.write(&[Write::Put(inserted(&partial, [Value::Int(3), Value::text("dan")]))]).await.unwrap();
    transaction.commit().await.unwrap();
    let dan: Rider = (3, Some("dan".into()), None, "none".into(), seen.into());
    assert_eq!(server.rows::<Rider>(rows).await, [bea, dan]);
}

#[tokio::test]
async fn many_rows_with_a_unique_key_change_in_their_order() {
    let (server, target) = campus("CREATE TABLE riders (id INT PRIMARY KEY, place INT, UNIQUE KEY place (place))").await;
    let riders = shape("campus.riders", &["id", "place"], &[0]);
    let values = |id, place| [Value::Int(id), place];
    let insert = |id, place| Write::Put(inserted(&riders, values(id, Value::Int(place))));
    let update = |id, place| Write::Put(change(&riders, Op::Update, image(values(id, Value::Null)), image(values(id, place))));
    let inserts: Vec<Write> = (1..=1500).map(|id| insert(id, id)).collect();
    apply(&target, 1, &inserts).await;
    // Everybody moves one place on, the last first; the rows of some are missing here.
    server.query("DELETE FROM campus.riders WHERE id % 7 = 0").await;
    let moves: Vec<Write> = (1..=1500).rev().map(|id| update(id, Value::Int(id + 1))).collect();
    apply(&target, 2, &moves).await;
    let (rows, right): (u64, u64) = server.first("SELECT COUNT(*), SUM(place = id + 1) FROM campus.riders").await.unwrap();
    assert_eq!((rows, right), (1500, 1500));
    // Inserts of rows that are there, as a snapshot brings them.
    let again: Vec<Write> = (1..=1500).map(|id| insert(id, id + 1)).collect();
    apply(&target, 3, &again).await;
    let mut transaction = target.begin(&mark(4)).await.unwrap();
    let (failed, error) = failure(&mut transaction, &[insert(2001, 2001), insert(2002, 5)]).await;
    assert!(matches!(&error, TargetError::UniqueTaken { index, .. } if index == "place") && failed.is_none(), "{error}");
    transaction.rollback().await;
    assert_eq!(server.first::<u64>("SELECT COUNT(*) FROM campus.riders").await, Some(1500));
    // A row that is missing here and changed twice.
    apply(&target, 5, &[update(3001, Value::Int(1)), update(3002, Value::Int(3002)), update(3001, Value::Int(3001))]).await;
    let added = server.rows::<(i64, i64)>("SELECT * FROM campus.riders WHERE id > 3000 ORDER BY id").await;
    assert_eq!(added, [(3001, 3001), (3002, 3002)]);
}

#[tokio::test]
async fn a_unique_key_that_came_to_be_unseen_misleads_no_write() {
    let (server, target) = campus("CREATE TABLE riders (id INT PRIMARY KEY, place INT)").await;
    let riders = shape("campus.riders", &["id", "place"], &[0]);
    let insert = |id, place| Write::Put(inserted(&riders, [Value::Int(id), Value::Int(place)]));
    apply(&target, 1, &[insert(1, 1)]).await;
    server.query("ALTER TABLE campus.riders ADD UNIQUE KEY place (place)").await;
    let mut transaction = target.begin(&mark(2)).await.unwrap();
    let (_, error) = failure(&mut transaction, &[insert(2, 1)]).await;
    assert!(matches!(error, TargetError::UniqueTaken { .. }), "{error}");
    transaction.write(&[insert(3, 3), insert(1, 2)]).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(server.rows::<(i64, i64)>("SELECT * FROM campus.riders ORDER BY id").await, [(1, 2), (3, 3)]);
}

/// Only the server's own hash finds it: the first write says that somebody holds the value, and then all rows are looked at.
#[tokio::test]
async fn who_holds_a_value_that_is_too_long_for_an_index_is_found_once_a_write_failed() {
    let long = |letter: &str| format!("{}{letter}", "x".repeat(4000));
    let (server, target) = campus("CREATE TABLE pages (id INT PRIMARY KEY, url TEXT UNIQUE, n INT) CHARSET utf8mb4").await;
    let pages = shape("campus.pages", &["id", "url", "n"], &[0]);
    let page = |id, url: &str| inserted(&pages, [Value::Int(id), Value::text(long(url)), Value::Int(0)]);
    let put = |id, url: &str| Write::Put(page(id, url));
    apply(&target, 1, &[put(1, "a"), put(2, "b")]).await;
    // It says so of the row's own value, too, and before it looks at the key.
    apply(&target, 2, &[put(1, "a"), put(4, "d"), put(4, "d"), put(2, "b")]).await;
    apply(&target, 3, &[Write::Delete(page(4, "d").key().unwrap())]).await;
    let mut transaction = target.begin(&mark(4)).await.unwrap();
    assert_eq!(transaction.holders(&page(3, "A")).await.unwrap(), [], "not asked for before a write fails");
    let (failed, error) = failure(&mut transaction, &[put(3, "A")]).await;
    assert!(failed == Some(0) && matches!(&error, TargetError::UniqueTaken { index, .. } if index == "url"), "{error}");
    let holders = transaction.holders(&page(3, "A")).await.unwrap();
    assert_eq!(holders.iter().map(|held| held.key.values[0].clone()).collect::<Vec<_>>(), [Value::Int(1)]);
    assert_eq!(transaction.holders(&page(1, "A")).await.unwrap(), [], "not in its own way");
    assert_eq!(transaction.holders(&page(3, "free")).await.unwrap(), []);
    assert!(!tried(&server, "DELETE FROM campus.pages WHERE id = 1").await, "the holder is locked");
    assert!(tried(&server, "UPDATE campus.pages SET n = 7 WHERE id = 2").await, "and no other row");
    // What this transaction itself wrote or took away counts as it is now.
    transaction.write(&[Write::Delete(holders[0].key.clone()), put(3, "A")]).await.unwrap();
    let holders = transaction.holders(&page(4, "a")).await.unwrap();
    assert_eq!(holders.iter().map(|held| held.key.values[0].clone()).collect::<Vec<_>>(), [Value::Int(3)]);
    transaction.commit().await.unwrap();
    assert_eq!(server.rows::<(i64, i64)>("SELECT id, n FROM campus.pages ORDER BY id").await, [(2, 7), (3, 0)]);
    // All rows are looked at for each: no longer than somebody is found.
    let mut transaction = target.begin(&mark(5)).await.unwrap();
    assert_eq!(transaction.holders(&page(9, "A")).await.unwrap().len(), 1);
    transaction.rollback().await;
    let mut transaction = target.begin(&mark(5)).await.unwrap();
    assert_eq!(transaction.holders(&page(9, "free")).await.unwrap(), []);
    transaction.commit().await.unwrap();
    let mut transaction = target.begin(&mark(6)).await.unwrap();
    assert_eq!(transaction.holders(&page(9, "A")).await.unwrap(), [], "not asked for before a write fails again");
    transaction.rollback().await;
}

#[tokio::test]
async fn columns_that_come_and_go_are_noticed() {
    let (server, target) = campus("CREATE TABLE riders (id INT PRIMARY KEY, age INT)").await;
    let old = shape("campus.riders", &["id", "age"], &[0]);
    let new = shape("campus.riders", &["id", "name"], &[0]);
    let one = || Write::Put(inserted(&old, [Value::Int(1), Value::Int(1)]));
    let two = || Write::Put(inserted(&new, [Value::Int(2), Value::text("ann")]));
    apply(&target, 1, &[one()]).await;
    server.query("ALTER TABLE campus.riders DROP COLUMN age, ADD COLUMN name VARCHAR(10)").await;
    apply(&target, 2, &[two()]).await;
    // It was here: what comes for it is left out, and counted.
    let three = || Write::Put(inserted(&old, [Value::Int(3), Value::Int(3)]));
    apply(&target, 3, &[three()]).await;
    let ids: Vec<i64> = server.rows("SELECT id FROM campus.riders ORDER BY id").await;
    assert_eq!(ids, [1, 2, 3]);
    let table = tandem::change::TableName::new("campus", "riders");
    assert_eq!(target.take_left_out().get(&table), Some(&1));
    // These were not: nobody said that they may be lost. The second has another name now.
    target.forget_columns(&table, &["AGE".to_owned()]).await.unwrap();
    let never = shape("campus.riders", &["id", "colour"], &[0]);
    for (write, column) in [(Write::Put(inserted(&never, [Value::Int(4), Value::Int(4)])), "colour"), (three(), "age")] {
        let mut transaction = target.begin(&mark(4)).await.unwrap();
        let (_, error) = failure(&mut transaction, &[write]).await;
        assert!(error.to_string().contains(&format!("no column `{column}` here")), "{error}");
        transaction.rollback().await;
    }
}

#[tokio::test]
async fn a_mark_is_seen_even_if_it_says_nothing_new() {
    let (server, target) = campus("CREATE TABLE riders (id INT PRIMARY KEY)").await;
    let riders = shape("campus.riders", &["id"], &[0]);
    for round in 0..3 {
        let before = server.first::<String>("SELECT @@gtid_binlog_pos").await;
        apply(&target, 5, &[Write::Put(inserted(&riders, [Value::Int(round)]))]).await;
        assert_ne!(server.first::<String>("SELECT @@gtid_binlog_pos").await, before);
        let file: (String, u64) =
            server.first("SHOW MASTER STATUS").await.map(|row: (String, u64, String, String)| (row.0, row.1)).unwrap();
        let events: Vec<(String, u64, String, u64, u64, String)> =
            server.rows(&format!("SHOW BINLOG EVENTS IN '{}'", file.0)).await;
        let last = events.iter().rposition(|event| event.2 == "Gtid").unwrap();
        let first_map = events[last..].iter().find(|event| event.2 == "Table_map").unwrap();
        assert!(first_map.5.contains("tandem.applied"), "round {round}: {first_map:?}");
    }
}

#[tokio::test]
async fn rows_as_large_as_the_server_takes_and_larger() {
    let (server, target) = campus("CREATE TABLE files (id INT PRIMARY KEY, content LONGBLOB)").await;
    let files = shape("campus.files", &["id", "content"], &[0]);
    let file = |id, size: usize| Write::Put(inserted(&files, [Value::Int(id), Value::Bytes(vec![0xfe; size].into())]));
    apply(&target, 1, &[file(1, 3 << 20), file(2, 10), file(3, 17 << 20), file(4, 900_000), file(5, 900_000)]).await;
    let sizes: Vec<(i64, u64)> = server.rows("SELECT id, LENGTH(content) FROM campus.files ORDER BY id").await;
    assert_eq!(sizes, [(1, 3 << 20), (2, 10), (3, 17 << 20), (4, 900_000), (5, 900_000)]);
    server.query("SET GLOBAL max_allowed_packet = 2097152").await;
    let target = target_of(&server).await;
    let mut transaction = target.begin(&mark(2)).await.unwrap();
    let (failed, error) = failure(&mut transaction, &[file(6, 3 << 20)]).await;
    assert_eq!(failed, Some(0));
    assert!(error.to_string().contains("max_allowed_packet"), "{error}");
    transaction.write(&[file(7, 10)]).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_lost_connection_is_a_reason_to_try_again_and_the_next_one_works() {
    let (mut server, target) = campus("CREATE TABLE riders (id INT PRIMARY KEY)").await;
    let riders = shape("campus.riders", &["id"], &[0]);
    let put = |id| Write::Put(inserted(&riders, [Value::Int(id)]));
    apply(&target, 1, &[put(1)]).await;
    let kill = "SELECT GROUP_CONCAT('KILL ', id SEPARATOR ';') FROM information_schema.PROCESSLIST WHERE user = 'tandem'";
    let mut transaction = target.begin(&mark(2)).await.unwrap();
    transaction.write(&[put(2)]).await.unwrap();
    let all = server.first::<String>(kill).await.unwrap();
    server.query(&all).await;
    let (_, error) = failure(&mut transaction, &[put(3)]).await;
    assert!(matches!(error, TargetError::Unreachable { .. }), "{error}");
    assert!(transaction.commit().await.is_err());
    assert_eq!(target.checkpoints().await.unwrap()[&OriginId::new("laptop-b")], mark(1));
    // Idle connections that the server closed are no failure.
    target.checkpoints().await.unwrap();
    let all = server.first::<String>(kill).await.unwrap();
    server.query(&all).await;
    apply(&target, 3, &[put(4)]).await;

    server.kill9();
    let error = target.begin(&mark(4)).await.err().unwrap();
    assert_eq!(error.disposition(), Disposition::Retry, "{error}");
    server.restart().await;
    apply(&target, 5, &[put(5)]).await;
    assert_eq!(server.rows::<(i64,)>("SELECT id FROM campus.riders ORDER BY id").await, [(1,), (4,), (5,)]);
}

#[tokio::test]
async fn what_an_administrator_must_mend_is_said_with_the_remedy() {
    let mut options = ServerOptions::node(1);
    options.grants = vec!["SELECT ON *.*".into(), "ALL ON tandem.*".into()];
    let server = PrivateServer::start(options).await;
    server.query("CREATE DATABASE campus; CREATE TABLE campus.riders (id INT PRIMARY KEY)").await;
    let target = target_of(&server).await;
    let riders = shape("campus.riders", &["id"], &[0]);
    let mut transaction = target.begin(&mark(1)).await.unwrap();
    let error = transaction.write(&[Write::Put(inserted(&riders, [Value::Int(1)]))]).await.unwrap_err().error;
    assert_eq!(error.disposition(), Disposition::Halt);
    assert!(error.to_string().contains("may not write campus.riders"), "{error}");
    assert!(error.hint().unwrap().contains("GRANT SELECT, INSERT, UPDATE, DELETE ON `campus`.*"));
    drop(transaction);

    server.query("SET GLOBAL read_only = 1").await;
    let error = target.begin(&mark(1)).await.err().unwrap();
    assert!(error.to_string().contains("read-only"), "{error}");

    let wrong = MariadbOptions::new(server.url(), Some("geheim".into()));
    let error = MariadbTarget::connect(wrong).await.err().unwrap();
    assert_eq!(error.disposition(), Disposition::Halt);
    assert!(!format!("{error:?}").contains("geheim"), "{error:?}");
}

#[tokio::test]
async fn tables_that_cannot_be_kept_are_named_with_their_remedy() {
    let (_server, target) = campus(
        "CREATE TABLE fine (id INT PRIMARY KEY, email VARCHAR(50), UNIQUE (email));
         CREATE TABLE keyless (id INT, n INT, UNIQUE (n)); CREATE TABLE flat (id INT PRIMARY KEY) ENGINE=MyISAM;
         CREATE TABLE triggered (id INT PRIMARY KEY); CREATE TRIGGER t BEFORE INSERT ON triggered FOR EACH ROW SET NEW.id = NEW.id;
         CREATE TABLE child (id INT PRIMARY KEY, parent INT, CONSTRAINT c FOREIGN KEY (parent) REFERENCES fine (id) ON DELETE CASCADE);
         CREATE TABLE dated (id INT PRIMARY KEY) WITH SYSTEM VERSIONING; CREATE SEQUENCE numbers;
         CREATE TABLE prefixed (id INT PRIMARY KEY, name TEXT, UNIQUE KEY p (name(10))); CREATE VIEW seen AS SELECT * FROM fine;
         CREATE TABLE excluded (id INT);
         CREATE TABLE asked (id INT PRIMARY KEY); CREATE TABLE followed (id INT PRIMARY KEY);
         CREATE TABLE apart (asked INT, followed INT, FOREIGN KEY (asked) REFERENCES asked (id),
            FOREIGN KEY (followed) REFERENCES followed (id) ON DELETE SET NULL ON UPDATE CASCADE);
         CREATE TABLE loose (n INT, KEY (n)); CREATE TABLE held (id INT PRIMARY KEY, n INT, FOREIGN KEY (n) REFERENCES loose (n) ON DELETE CASCADE);
         CREATE TABLE holds (id INT, FOREIGN KEY (id) REFERENCES fine (id) ON DELETE CASCADE);
         CREATE TABLE otherwise (id INT NOT NULL, UNIQUE KEY number (id))",
    )
    .await;
    let pattern = |text| tandem::change::TablePattern::parse(text).unwrap();
    let filter =
        TableFilter { include: vec![pattern("campus.*")], exclude: vec![pattern("campus.excluded"), pattern("campus.apart")] };
    let faults = target.table_faults(&filter).await.unwrap();
    let found: Vec<(&str, &str)> = faults.iter().map(|fault| (&*fault.table.table, &*fault.reason)).collect();
    let expected = [
        ("asked", "campus.apart, which is not captured, refers to it"),
        ("dated", "system-versioned"),
        ("flat", "engine is MyISAM"),
        ("holds", "no primary key, and a foreign key that refers to campus.fine"),
        ("loose", "no primary key, and campus.held refers to it"),
        ("numbers", "a sequence"),
        ("otherwise", "told apart by the unique key `number`, and not by a primary key"),
        ("prefixed", "unique key `p` counts only the first characters"),
        ("triggered", "trigger `t`"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((table, reason), (expected_table, expected_reason)) in found.into_iter().zip(expected) {
        assert_eq!(table, expected_table);
        assert!(reason.contains(expected_reason), "{reason}");
    }
    assert!(faults.iter().all(|fault| !fault.remedy.is_empty()));
    let keyless: Vec<String> = target.keyless(&filter).await.unwrap().into_iter().map(|(table, _)| table.to_string()).collect();
    assert_eq!(keyless, ["campus.holds", "campus.keyless", "campus.loose"]);

    let mut options = ServerOptions::node(1);
    options.grants = vec!["SELECT, INSERT, UPDATE, DELETE ON *.*".into(), "ALL ON tandem.*".into()];
    let blind = PrivateServer::start(options).await;
    blind.query("CREATE DATABASE campus; CREATE TABLE campus.fine (id INT PRIMARY KEY)").await;
    let blinded = target_of(&blind).await;
    let faults = blinded.table_faults(&filter).await.unwrap();
    assert!(matches!(&faults[..], [fault] if fault.remedy.contains("GRANT TRIGGER ON `campus`.*")), "{faults:?}");
    blind.query("GRANT TRIGGER ON campus.* TO tandem").await;
    assert_eq!(blinded.table_faults(&filter).await.unwrap(), []);
}
