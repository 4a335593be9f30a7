//! The simulation: the real tailer and the real applier over the memory twins of database, topic and binlog, on one
//! thread with paused time. A seed decides everything: how many nodes, how wrong their clocks are, who writes what when,
//! what is delayed, refused, done and then reported as failed, cut off, and killed. The same seed is the same run.
//!
//! `make sim` runs many seeds, `make sim SEED=n` one. The checkers are in `tests/oracle`; that they can fail is shown by taking
//! one rule of the protocol away (`ablations`).

mod apart;
mod emptied;
mod existing;
mod keyless;
mod leaving;
mod met;
mod model;
#[path = "../oracle/mod.rs"]
mod oracle;
mod process;
mod quiet;
mod reference;
mod seeded;
mod trouble;
mod world;

use tandem::target::memory::OnDelete;
use world::{Scenario, Without, run};

/// Seeds of the ordinary test run. `TANDEM_SIM_SEEDS=from..to` and `TANDEM_SIM_SEED=n` choose others.
fn seeds(ordinary: u64) -> std::ops::Range<u64> {
    let number = |text: &str| text.trim().parse::<u64>().expect("a seed is a number");
    if let Ok(seed) = std::env::var("TANDEM_SIM_SEED") {
        let seed = number(&seed);
        return seed..seed + 1;
    }
    match std::env::var("TANDEM_SIM_SEEDS") {
        Ok(range) => {
            let (from, to) = range.split_once("..").expect("TANDEM_SIM_SEEDS is from..to");
            number(from)..number(to)
        }
        Err(_) => 0..ordinary,
    }
}

/// Seeds of the ordinary run.
const SEEDS: u64 = 1420;

/// The same, for each kind of foreign key.
const REFERENCE_SEEDS: u64 = 80;

#[test]
fn every_seed_converges_and_loses_nothing() {
    every_seed(seeds(SEEDS), &[]);
}

/// What the foreign keys of the tables that refer to each other in a row do.
const REFERENCES: [&[OnDelete]; 6] = [
    &[OnDelete::Restrict],
    &[OnDelete::Cascade],
    &[OnDelete::SetNull],
    &[OnDelete::Cascade, OnDelete::Cascade],
    &[OnDelete::Cascade, OnDelete::SetNull],
    &[OnDelete::Cascade, OnDelete::Restrict],
];

#[test]
fn every_seed_converges_where_a_foreign_key_restricts() {
    every_seed(seeds(REFERENCE_SEEDS), REFERENCES[0]);
}

#[test]
fn every_seed_converges_where_a_foreign_key_cascades() {
    every_seed(seeds(REFERENCE_SEEDS), REFERENCES[1]);
}

#[test]
fn every_seed_converges_where_a_foreign_key_sets_null() {
    every_seed(seeds(REFERENCE_SEEDS), REFERENCES[2]);
}

#[test]
fn every_seed_converges_where_a_cascade_goes_on_to_a_cascade() {
    every_seed(seeds(REFERENCE_SEEDS / 2), REFERENCES[3]);
}

#[test]
fn every_seed_converges_where_a_cascade_goes_on_to_a_set_null() {
    every_seed(seeds(REFERENCE_SEEDS), REFERENCES[4]);
}

#[test]
fn every_seed_converges_where_a_cascade_goes_on_to_a_restrict() {
    every_seed(seeds(REFERENCE_SEEDS / 2), REFERENCES[5]);
}

/// The same, for tables without a key.
const KEYLESS_SEEDS: u64 = 40;

/// Each node changes the rows that it made itself, equal ones among them.
#[test]
fn every_seed_carries_the_rows_of_a_table_without_a_key() {
    every_seed_of(seeds(KEYLESS_SEEDS), |scenario| scenario.keyless = true);
}

#[test]
fn the_seeds_meet_rows_without_a_key_that_are_equal_changed_and_deleted() {
    let mut sum = met::Met::default();
    for seed in 3..12 {
        sum += run(&Scenario { keyless: true, ..Scenario::of(seed, Without::default()) }).unwrap().met;
    }
    assert!(sum.keyless_changed > 50, "{sum:?}");
    assert!(sum.keyless_equal > 20, "{sum:?}");
    assert!(sum.crashes > 5, "{sum:?}");
}

/// The same, for rows that are there before the topics begin.
const SNAPSHOT_SEEDS: u64 = 100;

/// Rows that differ on two nodes come to be one, and no row of a snapshot beats a write.
#[test]
fn every_seed_converges_with_existing_rows_and_snapshots_amid_writes() {
    every_seed_of(seeds(SNAPSHOT_SEEDS), |scenario| scenario.snapshots = true);
}

/// The same, where a table is emptied by a statement now and then.
const TRUNCATE_SEEDS: u64 = 100;

/// Rows that were written without having seen it, and later, stay on all nodes; the others go on all.
#[test]
fn every_seed_converges_where_a_table_is_emptied() {
    every_seed_of(seeds(TRUNCATE_SEEDS), |scenario| scenario.truncates = true);
}

#[test]
fn the_seeds_meet_tables_that_are_emptied_amid_writes() {
    let seeds = (0..12).map(|seed| run(&Scenario { truncates: true, ..Scenario::of(seed, Without::default()) }).unwrap().met);
    let emptied: usize = seeds.map(|met| met.emptied).sum();
    assert!(emptied > 40, "{emptied}");
}

/// A node forgets at once that a table was emptied, and writes back what comes late from a third.
#[test]
fn without_the_note_that_a_table_was_emptied_the_checkers_notice() {
    assert!(noticed_of(Without { emptied: true, ..Without::default() }, |scenario| scenario.truncates = true));
}

fn every_seed(seeds: std::ops::Range<u64>, refers: &'static [OnDelete]) {
    every_seed_of(seeds, |scenario| scenario.refers = refers);
}

fn every_seed_of(seeds: std::ops::Range<u64>, change: impl Fn(&mut Scenario) + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let faults: Vec<(u64, String)> = std::thread::scope(|scope| {
        let change = &change;
        let work = |part: u64| {
            let seeds = seeds.clone();
            move || seeds.filter(|seed| seed / 2 % threads == part).filter_map(|seed| fault(seed, change)).collect::<Vec<_>>()
        };
        let parts: Vec<_> = (0..threads).map(|part| scope.spawn(work(part))).collect();
        parts.into_iter().flat_map(|part| part.join().expect("a run reports its panics as faults")).collect()
    });
    assert!(faults.is_empty(), "{} of {} seeds failed", faults.len(), seeds.count());
}

fn fault(seed: u64, change: impl Fn(&mut Scenario)) -> Option<(u64, String)> {
    let mut scenario = Scenario::of(seed, Without::default());
    change(&mut scenario);
    let outcome = std::panic::catch_unwind(|| run(&scenario));
    let fault = match outcome {
        Ok(Ok(_)) => return None,
        Ok(Err(fault)) => fault,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or("panic".into())
        }
    };
    // At once, because a run over many seeds may be ended before its end.
    let Scenario { refers, keyless, snapshots, truncates, seeds, removes, .. } = scenario;
    eprintln!(
        "seed {seed}: {fault}\n  repeat it with: make sim SEED={seed} (foreign key: {refers:?}, a table without a key: {keyless}, \
         snapshots: {snapshots}, emptied: {truncates}, seeded: {seeds:?}, removed: {removes})"
    );
    Some((seed, fault))
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 4, 11] {
        let once = run(&Scenario::of(seed, Without::default())).unwrap();
        let again = run(&Scenario::of(seed, Without::default())).unwrap();
        assert_eq!(once, again, "seed {seed}");
    }
}

/// A row was removed for a unique value, and a later change of the same group wrote it again on that node alone.
#[test]
fn seed_25_a_row_that_was_removed_for_its_unique_value_stays_removed_in_the_group() {
    run(&Scenario::of(25, Without::default())).unwrap();
}

/// The topic had kept an append whose answer was lost. The tailer that ran again said that it was through, and the applier
/// decided without knowing those writes.
#[test]
fn seeds_141_and_231_writes_whose_append_was_kept_without_an_answer_are_known_to_the_applier() {
    for seed in [141, 231] {
        run(&Scenario::of(seed, Without::default())).unwrap();
    }
}

#[test]
fn seed_758_nothing_is_applied_before_the_tailer_has_found_where_its_topic_begins() {
    run(&Scenario::of(758, Without::default())).unwrap();
}

#[test]
fn seed_1136_a_large_group_that_a_bad_connection_cuts_again_and_again_is_taken_in_smaller_ones() {
    run(&Scenario::of(1136, Without::default())).unwrap();
}

/// A row that stands by the policy `prefer`, and is published anew, held a unique value that a later change of the same group
/// wanted. It was taken for the older one and removed, here alone.
#[test]
fn seed_227_a_row_that_is_published_anew_is_newer_than_the_group_that_met_it() {
    run(&Scenario::of(227, Without::default())).unwrap();
}

/// The simulation is only worth something if it meets what it is there for.
#[test]
fn the_seeds_meet_conflicts_collisions_crashes_and_lost_answers() {
    let mut sum = met::Met::default();
    for seed in 0..40 {
        sum += run(&Scenario::of(seed, Without::default())).unwrap().met;
    }
    assert!(sum.writes > 1000, "{sum:?}");
    assert!(sum.conflicts > 50, "{sum:?}");
    assert!(sum.unique_conflicts > 5, "{sum:?}");
    assert!(sum.crashes > 20, "{sum:?}");
    assert!(sum.restarts > 50, "{sum:?}");
    assert!(sum.large > 50, "{sum:?}");
}

/// Seeds that are tried until a checker notices that a rule is away.
const PATIENCE: u64 = 400;

/// True where, with a rule taken away, a checker notices in one of the seeds; says in which and what.
fn noticed(without: Without) -> bool {
    noticed_with(without, &[])
}

fn noticed_with(without: Without, refers: &'static [OnDelete]) -> bool {
    noticed_of(without, |scenario| scenario.refers = refers)
}

fn noticed_of(without: Without, change: impl Fn(&mut Scenario)) -> bool {
    noticed_from(0, without, change)
}

/// The same from a seed on, where it is known that the ones before notice nothing.
fn noticed_from(first: u64, without: Without, change: impl Fn(&mut Scenario)) -> bool {
    let found = (first..first + PATIENCE).find_map(|seed| {
        let mut scenario = Scenario::of(seed, without);
        change(&mut scenario);
        let outcome = std::panic::catch_unwind(|| run(&scenario));
        let fault = outcome.map_or(Some("an assertion of the program failed".to_owned()), |run| run.err())?;
        Some((seed, fault))
    });
    if let Some((seed, fault)) = &found {
        eprintln!("{without:?}: seed {seed}: {fault}");
    }
    found.is_some()
}

#[test]
fn without_the_wait_for_the_tailer_the_checkers_notice() {
    assert!(noticed(Without { wait: true, ..Without::default() }));
}

#[test]
fn without_the_clock_merge_the_checkers_notice() {
    assert!(noticed(Without { clock_merge: true, ..Without::default() }));
}

/// Rows of a snapshot are published although they changed while they were read.
#[test]
fn without_the_snapshot_s_window_the_checkers_notice() {
    assert!(noticed_of(Without { snapshot_window: true, ..Without::default() }, |scenario| scenario.snapshots = true));
}

/// The snapshots are only worth something if they meet rows that differ, and rows that want one unique value.
#[test]
fn the_seeds_meet_existing_rows_that_differ() {
    let (mut differ, mut unique, mut filled) = (0, 0, 0);
    for seed in 0..12 {
        let met = run(&Scenario { snapshots: true, ..Scenario::of(seed, Without::default()) }).unwrap().met;
        differ += met.existing_conflicts;
        unique += met.existing_unique_conflicts;
        filled += met.existing_rows;
    }
    assert!(differ > 3 && unique > 3 && filled > 30, "{differ} differed, {unique} wanted one value, {filled} were published");
}

#[test]
fn without_tombstones_the_checkers_notice() {
    assert!(noticed(Without { tombstones: true, ..Without::default() }));
}

#[test]
fn without_the_published_resolution_the_checkers_notice() {
    assert!(noticed(Without { resolution: true, ..Without::default() }));
}

/// Nobody answers for a row that was written without knowing that the row which it refers to was deleted.
#[test]
fn without_the_author_s_answer_the_checkers_notice() {
    for refers in REFERENCES {
        assert!(noticed_with(Without { author: true, ..Without::default() }, refers), "{refers:?}");
    }
}

/// What a large transaction had written could not be noted because of somebody's lock, and it was applied once more: of rows with a
/// key twice is once, of others it is not.
#[test]
fn seed_2_a_large_transaction_that_is_committed_is_not_applied_again() {
    run(&Scenario { keyless: true, ..Scenario::of(2, Without::default()) }).unwrap();
}

/// Nobody answers for what is tied to rows that are gone already, or have moved away.
#[test]
fn without_the_answer_for_what_is_tied_the_checkers_notice() {
    assert!(noticed_with(Without { ties: true, ..Without::default() }, REFERENCES[3]));
}

/// A row whose key was only spelled in another way was taken for one that moves; a delete that lost to another delete left behind
/// what its cascade had taken along where it was made.
#[test]
fn seeds_3_and_9_deletes_that_lose_and_keys_that_are_respelled_leave_no_row_behind() {
    for (seed, on_delete) in
        [(3, &OnDelete::Cascade), (3, &OnDelete::SetNull), (9, &OnDelete::Cascade), (9, &OnDelete::SetNull)]
    {
        run(&Scenario { refers: std::slice::from_ref(on_delete), ..Scenario::of(seed, Without::default()) }).unwrap();
    }
}

/// A row that waited for its author's answer was published anew as it stood, and refers to nothing since; and where its parent was
/// written once more elsewhere, it was taken away on one node alone.
#[test]
fn seed_9_over_three_tables_what_waits_for_its_author_is_left_as_it_is() {
    for refers in [REFERENCES[3], REFERENCES[4]] {
        run(&Scenario { refers, ..Scenario::of(9, Without::default()) }).unwrap();
    }
}

/// Two nodes deleted one rider. The bike of it went with it on both, and led the author of a lamp on that bike to its lamp no more, which stayed
/// as it was where its own delete had not set it to NULL.
#[test]
fn seeds_38_and_66_over_three_tables_what_went_on_both_sides_does_not_hide_what_referred_to_it() {
    for seed in [38, 66] {
        run(&Scenario { refers: REFERENCES[4], ..Scenario::of(seed, Without::default()) }).unwrap();
    }
}

/// A row was removed for its unique value, with those that referred to it; what came to refer to these in the same commit stayed.
#[test]
fn seed_167_over_three_tables_what_comes_late_to_a_row_that_went_along_follows_it() {
    run(&Scenario { refers: REFERENCES[3], ..Scenario::of(167, Without::default()) }).unwrap();
}

/// The applier read each of many earlier writes from its topic before it could settle one delete, and never came to an end where one
/// answer in a few is lost.
#[test]
fn seed_49_a_delete_is_settled_without_reading_all_that_once_referred_to_its_row() {
    run(&Scenario { refers: REFERENCES[1], ..Scenario::of(49, Without::default()) }).unwrap();
}

/// A row came to refer to another in a large transaction, in place of a row of ours; to a later part of it our write was still the
/// newest one, and was published anew as what the transaction had made of it.
#[test]
fn seed_30_what_an_earlier_part_of_a_large_transaction_has_written_is_no_write_of_ours() {
    run(&Scenario { refers: REFERENCES[1], ..Scenario::of(30, Without::default()) }).unwrap();
}

/// A delete was refused for a row of ours, and the row published anew: which itself referred to one that was gone. Before that the
/// attempt was made again and again, because rows that it came to late were not locked by the next one either.
#[test]
fn seed_9_over_three_tables_what_has_lost_its_parent_does_not_stay_for_what_refers_to_it() {
    run(&Scenario { refers: REFERENCES[5], ..Scenario::of(9, Without::default()) }).unwrap();
}

/// The references are only worth something if they meet what they are there for.
#[test]
fn the_seeds_meet_parents_that_stay_and_children_that_follow() {
    for refers in REFERENCES {
        let met = (0..16).map(|seed| run(&Scenario { refers, ..Scenario::of(seed, Without::default()) }).unwrap().met);
        let conflicts: usize = met.map(|met| met.reference_conflicts).sum();
        assert!(conflicts > 5, "{refers:?}: {conflicts}");
    }
}

#[test]
fn without_the_echo_filter_the_checkers_notice() {
    assert!(noticed(Without { echo_filter: true, ..Without::default() }));
}
