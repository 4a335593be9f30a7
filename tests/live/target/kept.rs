//! What is kept for people comes back as it was kept.

use tandem::change::Rewrite;
use tandem::target::keep::{Conflict, ConflictKind, DeadLetter, Side};
use tandem::target::mariadb::Kept;

use super::*;

fn conflict(id: &str, open: bool) -> Conflict {
    let side = |origin: &str, hlc, row| Side { origin: OriginId::new(origin), hlc: Hlc(hlc), row };
    let held = rider("ann", Some("it's \\ \u{1f600}"), 3);
    let winner = side("laptop-a", 7, Some((key("ann"), held.after.unwrap())));
    // An image that does not hold its key.
    let partial = Image::of([None, Some(Value::Bytes(Box::new([0, 0xff]))), None]);
    let loser = side("laptop-b", 6, Some((key("ann"), partial)));
    Conflict { id: id.into(), kind: ConflictKind::UpdateOriginDiffers, key: key("ann"), winner, loser, open }
}

#[tokio::test]
async fn conflicts_and_dead_letters_come_back_whole() {
    let Site::Mariadb { target, server } = Site::mariadb().await else { unreachable!() };
    let letter = DeadLetter {
        origin: OriginId::new("laptop-b"),
        offset: Offset(12),
        gtid: "2-2-5".parse().unwrap(),
        hlc: Hlc(99),
        change: rider("bob", None, 4),
        reason: "the value is too long for column `name` here".into(),
        attempts: 3,
    };
    let mut transaction = target.begin(&mark(1)).await.unwrap();
    let mut deleted = conflict("c-2", false);
    deleted.winner.row = None;
    transaction.keep_conflicts(&[conflict("c-1", true), deleted.clone()]).await.unwrap();
    transaction.keep_dead_letters(std::slice::from_ref(&letter)).await.unwrap();
    transaction.commit().await.unwrap();

    let kept = target.kept(&OriginId::new("nobody")).await.unwrap();
    let sum = |count: fn(&Kept) -> u64| kept.values().map(count).sum::<u64>();
    assert_eq!((sum(|kept| kept.conflicts), sum(|kept| kept.conflicts_open), sum(|kept| kept.dead_letters)), (2, 1, 1));
    assert_eq!(target.conflicts(false, 0, 10).await.unwrap().len(), 2);
    assert_eq!(target.conflicts(false, 0, 1).await.unwrap().len(), 1);
    assert_eq!(target.conflicts(false, 1, 10).await.unwrap()[0], target.conflicts(false, 0, 10).await.unwrap()[1]);
    let open = target.conflicts(true, 0, 10).await.unwrap();
    let expected = conflict("c-1", true);
    assert_eq!(
        (open[0].id.as_str(), open[0].kind.as_str(), open[0].key.as_str()),
        ("c-1", "update_origin_differs", "{\"name\":\"ann\"}")
    );
    let known = |side: &Side| {
        let (key, image) = side.row.as_ref().unwrap();
        let named = |(column, value): (&Column, Option<ValueRef>)| Some((column.name.to_string(), value?.to_value()));
        let mut columns: Vec<_> = key.shape.columns.iter().zip(image.values()).filter_map(named).collect();
        columns.sort_by(|one, other| one.0.cmp(&other.0));
        (side.origin.clone(), side.hlc, key.values.clone(), columns)
    };
    assert_eq!(known(&open[0].winner), known(&expected.winner));
    assert_eq!(known(&open[0].loser), known(&expected.loser));
    let shown = target.conflict("c-2").await.unwrap().unwrap();
    assert_eq!((shown.open, shown.winner.row, shown.table.as_str()), (false, None, "campus.riders"));
    assert!(target.conflict("c-3").await.unwrap().is_none());
    let letters = target.dead_letters(0, 10).await.unwrap();
    assert_eq!((letters[0].letter.reason.as_str(), letters[0].letter.attempts), (letter.reason.as_str(), 3));
    assert_eq!(letters[0].letter.change.after, letter.change.after);

    // Met again: a conflict stays as it was told first, a dead letter counts its attempts.
    let mut transaction = target.begin(&mark(2)).await.unwrap();
    transaction.keep_conflicts(&[Conflict { open: false, ..conflict("c-1", true) }]).await.unwrap();
    transaction.keep_dead_letters(&[DeadLetter { attempts: 6, ..letter }]).await.unwrap();
    transaction.rewrite(&[Rewrite { change: change(&riders(), Op::Delete, rider("bob", None, 1).after, None) }]).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(target.kept(&OriginId::new("nobody")).await.unwrap(), kept);
    assert_eq!(target.dead_letters(0, 10).await.unwrap()[0].letter.attempts, 6);
    assert_eq!(server.first::<u64>("SELECT COUNT(*) FROM tandem.resolutions").await, Some(1));
}

#[tokio::test]
async fn old_resolutions_go_away_by_themselves() {
    let Site::Mariadb { target, server } = Site::mariadb().await else { unreachable!() };
    server
        .query("INSERT INTO tandem.resolutions (row_change, noted_at) VALUES ('{}', NOW() - INTERVAL 8 DAY), ('{}', NOW())")
        .await;
    let mut transaction = target.begin(&mark(1)).await.unwrap();
    transaction.rewrite(&[Rewrite { change: change(&riders(), Op::Delete, rider("bob", None, 1).after, None) }]).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(server.first::<u64>("SELECT COUNT(*) FROM tandem.resolutions").await, Some(2));
}

#[tokio::test]
async fn the_own_database_is_made_once_and_a_newer_one_is_refused() {
    let server = server().await;
    target_of(&server).await;
    let logged = server.first::<String>("SELECT @@gtid_binlog_pos").await;
    target_of(&server).await;
    let position = server.first::<String>("SELECT @@gtid_binlog_pos").await;
    assert_eq!(position, logged, "the second start writes nothing");
    server.query("UPDATE tandem.version SET version = 9").await;
    let options = MariadbOptions::new(server.url(), Some(server.password().into()));
    let error = MariadbTarget::connect(options).await.err().unwrap();
    assert_eq!(error.disposition(), Disposition::Halt);
    assert!(error.to_string().contains("version 9"), "{error}");
}
