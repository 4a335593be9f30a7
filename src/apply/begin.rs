//! How the seeding of a node begins, and how its history goes on where it was lost.
//!
//! Both is done by whoever gives the command, while the applier of the node does not run. Each part is safe to repeat, and may be cut
//! off at any moment.

use std::collections::BTreeMap;

use super::ApplyError;
use crate::change::{AskedTable, Cluster, GtidPosition, Hlc, Mark, Offset, OriginId, Record, TableName};
use crate::target::{SeedKind, Seeding, Target};
use crate::topic::{Extent, TopicError, TopicReader, TopicWriter};

/// A seeding that somebody wants.
pub struct SeedingWish {
    /// By which the answers are known: another one for each seeding of the node.
    pub number: u64,
    pub seeder: OriginId,
    pub kind: SeedKind,
    pub tables: Vec<TableName>,
    /// Tables that cannot be seeded, and why.
    pub refused: Vec<(TableName, String)>,
    /// Where the history of the node begins anew, if it was lost. Read before this, so that the tailer comes to the marks.
    pub anew: Option<GtidPosition>,
}

/// What becomes of rows that differ. `applied` where the node has applied anything before; `lost` where its history is.
///
/// While a seeding is under way, what it was begun for holds: the marks that it set do not make up for what was published nowhere.
pub fn seed_kind(applied: bool, lost: bool, earlier: Option<&Seeding>) -> SeedKind {
    let open = earlier.filter(|seeding| seeding.is_open()).map(|seeding| seeding.kind);
    match (lost, open, applied) {
        (true, ..) => SeedKind::HistoryLost,
        (false, Some(kind), _) => kind,
        (false, None, true) => SeedKind::Away,
        (false, None, false) => SeedKind::New,
    }
}

/// Sets the checkpoints of all others to where their topics end now, and notes that this node is being seeded.
pub async fn begin_seeding(
    target: &dyn Target,
    reader: &dyn TopicReader,
    cluster: &Cluster,
    wish: SeedingWish,
) -> Result<Seeding, ApplyError> {
    let mut marks = Vec::new();
    for node in cluster.others() {
        let origin = cluster.name(node);
        marks.extend(mark_at_end(origin, &reader.extent(origin).await?));
    }
    let mut floors: BTreeMap<OriginId, Hlc> = marks.iter().map(|mark| (mark.origin.clone(), mark.hlc)).collect();
    let mut own = marks.iter().map(|mark| mark.hlc).max().unwrap_or_default();
    if wish.kind == SeedKind::HistoryLost {
        // What stands here may have come after the last write that is published, so that none of them speaks for its row.
        let last = reader.extent(cluster.own()).await?.last;
        own = own.max(last.map_or(Hlc::default(), |last| last.hlc));
    }
    floors.insert(cluster.own().clone(), own);
    let asked = |table: &TableName| AskedTable {
        database: table.database.to_string(),
        table: table.table.to_string(),
        keys: Vec::new(),
    };
    let seeding = Seeding {
        number: wish.number,
        seeder: wish.seeder,
        kind: wish.kind,
        floors,
        tables: wish.tables.iter().map(asked).collect(),
        failed: wish.refused.into_iter().map(|(table, why)| (table.to_string(), why)).collect(),
        rows: 0,
        removed: 0,
        anew: wish.anew.as_ref().map(GtidPosition::to_string),
    };
    target.begin_seeding(&marks, &seeding).await?;
    Ok(seeding)
}

/// The checkpoint after all that the topic holds.
fn mark_at_end(origin: &OriginId, extent: &Extent) -> Option<Mark> {
    let last = extent.last.as_ref()?;
    Some(Mark {
        origin: origin.clone(),
        next: extent.end,
        data: Some(Offset(extent.end.0.checked_sub(1)?)),
        position: GtidPosition::clone(&last.position),
        hlc: last.hlc,
    })
}

/// Has the own history go on from where the seeding says. Safe to repeat while the tailer does not run.
pub async fn begin_anew(writer: &mut dyn TopicWriter, seeding: &Seeding) -> Result<(), TopicError> {
    let Some(position) = seeding.anew.as_deref().and_then(|text| text.parse::<GtidPosition>().ok()) else { return Ok(()) };
    let extent = writer.resume().await?;
    let Some(last) = extent.last else { return Ok(()) };
    writer.append(extent.end, &[Record::anew(&last, position)]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seeding_that_is_begun_anew_is_of_the_same_kind() {
        let table = AskedTable { database: "campus".into(), table: "riders".into(), keys: Vec::new() };
        let seeding = |kind, open: bool| Seeding {
            number: 7,
            seeder: OriginId::new("b"),
            kind,
            floors: BTreeMap::new(),
            tables: open.then(|| table.clone()).into_iter().collect(),
            failed: Vec::new(),
            rows: 0,
            removed: 0,
            anew: None,
        };
        let check = |applied: bool, lost: bool, earlier: Option<(SeedKind, bool)>, expected: SeedKind| {
            let earlier = earlier.map(|(kind, open)| seeding(kind, open));
            assert_eq!(seed_kind(applied, lost, earlier.as_ref()), expected, "{applied} {lost} {earlier:?}");
        };
        check(false, false, None, SeedKind::New);
        check(true, false, None, SeedKind::Away);
        check(true, true, None, SeedKind::HistoryLost);
        // It has taken part, if only by writing.
        check(false, true, None, SeedKind::HistoryLost);
        // Its marks stand, and what it had written is as little published as before.
        check(true, false, Some((SeedKind::HistoryLost, true)), SeedKind::HistoryLost);
        check(true, false, Some((SeedKind::New, true)), SeedKind::New);
        check(true, false, Some((SeedKind::Away, true)), SeedKind::Away);
        check(true, true, Some((SeedKind::New, true)), SeedKind::HistoryLost);
        check(true, false, Some((SeedKind::HistoryLost, false)), SeedKind::Away);
        check(true, false, Some((SeedKind::New, false)), SeedKind::Away);
    }
}
