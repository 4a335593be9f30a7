//! Damaged bytes give errors: never a panic, never an endless loop, never memory without end.

use std::collections::HashMap;

use tandem::source::binlog::{Layout, RowsKind, TableMap, decompress, rows};

use crate::file::TABLE_MAP;
use crate::golden::Golden;

/// Mutations of each golden event: about two seconds in a debug build. `TANDEM_MUTATIONS` asks for another number, and
/// then other mutations come each time.
const ROUNDS: usize = 60;

fn rounds() -> (usize, fastrand::Rng) {
    match std::env::var("TANDEM_MUTATIONS").map(|rounds| rounds.parse()) {
        Ok(Ok(rounds)) => (rounds, fastrand::Rng::new()),
        Ok(Err(error)) => panic!("TANDEM_MUTATIONS is no number: {error}"),
        Err(_) => (ROUNDS, fastrand::Rng::with_seed(0x7a6e)),
    }
}

/// Flips, overwrites, cuts, repeats or removes bytes at a few places.
fn mutate(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.usize(..bytes.len());
        match random.u8(..6) {
            0 => bytes[at] ^= 1 << random.u8(..8),
            1 => bytes[at] = *random.choice(&[0, 1, 0x7f, 0x80, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff]).expect("there are some"),
            2 => bytes[at] = random.u8(..),
            3 => bytes.truncate(at),
            4 => bytes.insert(at, random.u8(..)),
            _ => drop(bytes.drain(at..bytes.len().min(at + random.usize(1..9)))),
        }
    }
}

/// Reads an event as the session would; gives how many rows came out and whether it ended well.
fn read(kind: RowsKind, layout: &Layout, body: &[u8]) -> (usize, bool) {
    rows::changes(kind, layout, body).map_or((0, false), |changes| (changes.count(), true))
}

#[test]
fn damaged_events_are_errors() {
    let (rounds, mut random) = rounds();
    println!("seed {}", random.get_seed());
    let (mut good, mut bad) = (0, 0);
    for golden in Golden::all() {
        let known = golden.known();
        let mut layouts: HashMap<u64, Layout> = HashMap::new();
        for event in &golden.events {
            if event.kind == TABLE_MAP {
                let map = TableMap::parse(&event.body).expect("a golden event is whole");
                let known = known.get(&*map.table.table).copied();
                if let Ok(layout) = Layout::new(&map, known) {
                    layouts.insert(map.table_id, layout);
                }
                for _ in 0..rounds {
                    let mut body = event.body.clone();
                    mutate(&mut body, &mut random);
                    if let Ok(map) = TableMap::parse(&body) {
                        for known in [known, None] {
                            match Layout::new(&map, known) {
                                Ok(_) => good += 1,
                                Err(_) => bad += 1,
                            }
                        }
                    }
                }
            } else if let Some(kind) = RowsKind::of(event.kind) {
                let Some(layout) = layouts.get(&rows::table_id(&event.body).expect("a golden event is whole")) else {
                    continue;
                };
                assert!(read(kind, layout, &event.body).1, "{}", golden.name);
                for _ in 0..rounds {
                    let mut body = event.body.clone();
                    mutate(&mut body, &mut random);
                    let (count, well) = read(kind, layout, &body);
                    // Compression makes a thousand bytes of one, and a row takes a byte at least.
                    assert!(count <= body.len().max(1) * 1100);
                    *if well { &mut good } else { &mut bad } += 1;
                }
            }
        }
    }
    println!("{good} read well, {bad} did not");
    assert!(good > 1_000 && bad > 1_000, "both happen: {good} read well, {bad} did not");
}

#[test]
fn rows_of_another_table_are_errors_or_rows() {
    // A layout that does not fit must not panic either; that it is never used so is the session's care.
    let golden = Golden::read("full");
    let known = golden.known();
    let maps = golden.events.iter().filter(|event| event.kind == TABLE_MAP);
    let maps: Vec<_> = maps.map(|event| TableMap::parse(&event.body).expect("a golden event is whole")).collect();
    let layouts: Vec<_> = maps.iter().filter_map(|map| Layout::new(map, known.get(&*map.table.table).copied()).ok()).collect();
    let mut bad = 0;
    for event in &golden.events {
        if let Some(kind) = RowsKind::of(event.kind) {
            bad += layouts.iter().filter(|layout| !read(kind, layout, &event.body).1).count();
        }
    }
    assert!(bad > 100, "{bad}");
}

#[test]
fn compressed_payloads_that_lie_are_errors() {
    assert!(decompress(&[]).is_err());
    assert!(decompress(&[0x80]).is_err());
    assert!(decompress(&[0x84, 0xff, 0xff, 0xff, 0xff]).is_err(), "more than any event");
    assert!(decompress(&[0x91, 1]).is_err(), "an algorithm that does not exist");
}
