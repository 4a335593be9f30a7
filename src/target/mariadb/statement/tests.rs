//! What each statement looks like, and how writes are joined into one.

use super::*;
use crate::change::{Column, TableName, Value};
use crate::target::mariadb::schema::UniqueKey;
use crate::target::mariadb::schema::testing::table;

fn riders(unique: bool) -> Arc<Table> {
    let mut riders = table("campus", "riders", &["id", "age"]);
    if unique {
        riders.unique.push(UniqueKey { name: "age".into(), columns: vec![1], prefix: false, hashed: false });
    }
    Arc::new(riders)
}

fn change(op: Op, names: &[&str], values: &[Option<i64>]) -> Write {
    let column = |name: &&str| Column { name: (*name).into(), kind: ColumnKind::Unknown, generated: false };
    let columns = names.iter().map(column).collect();
    let shape = Arc::new(Shape { table: TableName::new("campus", "riders"), columns, key: vec![0] });
    let image = |values: &[Option<i64>]| Some(Image::of(values.iter().map(|value| value.map(Value::Int))));
    let before = (op == Op::Update).then(|| image(&[Some(7), None])).flatten();
    Write::Put(Change { shape, op, before, after: image(values), checks: Checks::default() })
}

fn check(table: Arc<Table>, write: &Write, form: Form, sql: &str) {
    let run = Run::new(table, 0, write, None).unwrap();
    assert_eq!(run.form, form);
    let found = run.statement().unwrap_or_else(|| run.updates(0..1));
    assert_eq!(String::from_utf8(found).unwrap(), sql);
}

#[test]
fn each_write_takes_the_form_its_table_and_image_allow() {
    let inserted = change(Op::Insert, &["id", "age"], &[Some(7), Some(30)]);
    let insert = "INSERT INTO `campus`.`riders` (`id`,`age`) VALUES (7,30)";
    let guard = "`id`=IF(`id`=VALUES(`id`),VALUES(`id`),NULL)";
    let upsert = format!("{insert} ON DUPLICATE KEY UPDATE {guard},`age`=VALUES(`age`)");
    check(riders(false), &inserted, Form::Upsert, &upsert);
    check(riders(true), &inserted, Form::Insert, insert);
    let updated = change(Op::Update, &["id", "age"], &[Some(7), Some(30)]);
    let update = "UPDATE `campus`.`riders` SET `age`=30 WHERE `id`=7";
    check(riders(false), &updated, Form::Upsert, &upsert);
    check(riders(true), &updated, Form::Update { or_insert: true }, update);
    let partial = change(Op::Update, &["id", "age"], &[None, Some(30)]);
    check(riders(false), &partial, Form::Update { or_insert: false }, update);
    let Write::Put(change) = &inserted else { unreachable!() };
    let delete = Write::Delete(change.key().unwrap());
    let sql = "DELETE FROM `campus`.`riders` WHERE `id` IN (7) ORDER BY `id` LIMIT 1";
    check(riders(true), &delete, Form::Delete, sql);
}

#[test]
fn an_update_that_does_not_tell_every_column_never_inserts() {
    let mut lacks_age = change(Op::Update, &["id"], &[Some(7)]);
    let Write::Put(told) = &mut lacks_age else { unreachable!() };
    told.checks.partial = true;
    let sql = "UPDATE `campus`.`riders` SET `id`=`id` WHERE `id`=7";
    check(riders(false), &lacks_age, Form::Update { or_insert: false }, sql);
    // All that its table had is told: what came to be here since has its default.
    let older = change(Op::Update, &["id"], &[Some(7)]);
    let guard = "`id`=IF(`id`=VALUES(`id`),VALUES(`id`),NULL)";
    let sql = format!("INSERT INTO `campus`.`riders` (`id`) VALUES (7) ON DUPLICATE KEY UPDATE {guard}");
    check(riders(false), &older, Form::Upsert, &sql);
    // An insert without it takes the default.
    let lacks_age = change(Op::Insert, &["id"], &[Some(7)]);
    let sql = "INSERT INTO `campus`.`riders` (`id`) VALUES (7)";
    check(riders(true), &lacks_age, Form::Insert, sql);
}

#[test]
fn what_the_table_lacks_is_named() {
    let write = change(Op::Insert, &["id", "colour"], &[Some(7), Some(1)]);
    let error = Run::new(riders(false), 0, &write, None).err().unwrap();
    assert_eq!(error.to_string(), "campus.riders: there is no column `colour` here");
    let Write::Put(mut keyless) = change(Op::Insert, &["age", "id"], &[Some(7), Some(1)]) else { unreachable!() };
    let error = Run::new(riders(false), 0, &Write::Put(keyless.clone()), None).err().unwrap();
    assert_eq!(error.to_string(), "campus.riders: its primary key here is (id), and not the one of the change");
    keyless.shape = Arc::new(Shape { key: Vec::new(), ..(*keyless.shape).clone() });
    assert!(Run::new(riders(false), 0, &Write::Put(keyless), None).is_err());
}

#[test]
fn neighbours_share_a_statement_where_nothing_differs() {
    let table = riders(false);
    let writes = [
        change(Op::Insert, &["id", "age"], &[Some(7), Some(1)]),
        change(Op::Update, &["id", "age"], &[Some(8), Some(2)]),
        change(Op::Insert, &["age", "id"], &[Some(7), Some(1)]),
    ];
    let mut run = Run::new(table.clone(), 0, &writes[0], None).unwrap();
    let next = Run::new(table.clone(), 1, &writes[1], Some(&run)).unwrap();
    assert!(run.join(next).is_none());
    assert_eq!(run.len(), 2);
    assert!(String::from_utf8(run.statement().unwrap()).unwrap().contains("VALUES (7,1),(8,2) ON"));
    assert!(Run::new(table, 2, &writes[2], Some(&run)).is_err(), "another key");
}

/// `campus.rooms`: a name in latin1 and a floor as the key, and an enum.
fn rooms(without_blank: bool) -> (Arc<Table>, Arc<Shape>) {
    let mut rooms = table("campus", "rooms", &["name", "floor", "state"]);
    let mut shape = (*rooms.shape).clone();
    shape.key = vec![0, 1];
    shape.columns = [("name", ColumnKind::Text), ("floor", ColumnKind::Integer), ("state", ColumnKind::Enum)]
        .map(|(name, kind)| Column { name: name.into(), kind, generated: false })
        .into();
    rooms.shape = Arc::new(shape);
    rooms.columns[0].charset = Some("latin1".into());
    rooms.columns[2].without_blank = without_blank;
    let shape = rooms.shape.clone();
    (Arc::new(rooms), shape)
}

fn room(shape: &Arc<Shape>, state: &str) -> Change {
    let state = if state == "0" { Value::Int(0) } else { Value::text(state) };
    let image = Image::of([Some(Value::text("caf\u{e9}")), Some(Value::Int(2)), Some(state)]);
    Change { shape: shape.clone(), op: Op::Insert, before: None, after: Some(image), checks: Checks::default() }
}

/// `(name, floor) IN (('é', 2))` with a name that is not in the session's character set finds nothing (MariaDB 10.11).
#[test]
fn texts_in_a_list_of_rows_are_in_the_character_set_of_their_column() {
    let (rooms, shape) = rooms(true);
    let delete = Write::Delete(room(&shape, "open").key().unwrap());
    let sql = "DELETE FROM `campus`.`rooms` WHERE (`name`,`floor`) IN ((CONVERT('caf\u{e9}' USING latin1),2)) ORDER BY `name`,`floor` LIMIT 1";
    check(rooms, &delete, Form::Delete, sql);
}

#[test]
fn only_a_value_that_an_enum_refused_is_written_by_a_lax_statement() {
    for (state, without_blank, lax) in [("", true, true), ("", false, false), ("0", false, true), ("open", true, false)] {
        let (rooms, shape) = rooms(without_blank);
        let write = Write::Put(room(&shape, state));
        let run = Run::new(rooms.clone(), 0, &write, None).unwrap();
        let sql = String::from_utf8(run.statement().unwrap()).unwrap();
        assert_eq!(sql.starts_with("SET STATEMENT sql_mode='ALLOW_INVALID_DATES"), lax, "{sql}");
        assert!(!sql.contains("STRICT"), "{sql}");
        let strict = Write::Put(room(&shape, "open"));
        let joined = Run::new(rooms.clone(), 0, &strict, Some(&run)).unwrap();
        let mut run = run;
        assert_eq!(run.join(joined).is_some(), lax, "rows that a strict session takes stay in one");
    }
}
