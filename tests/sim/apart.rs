//! Runs with a node that is seeded, or removed: seeds, what they meet, and what the checkers say where a rule is away.

use tandem::target::SeedKind;

use crate::met::Met;
use crate::world::{Scenario, Without, run};
use crate::{every_seed_of, noticed_from, noticed_of, seeds};

/// Seeds of the ordinary run, for each.
const SEEDS: u64 = 40;

fn seeded(kind: SeedKind) -> impl Fn(&mut Scenario) + Sync {
    move |scenario| scenario.seeds = Some(kind)
}

fn removed(scenario: &mut Scenario) {
    scenario.removes = true;
}

#[test]
fn every_seed_converges_where_a_node_was_away_too_long_and_is_seeded() {
    every_seed_of(seeds(SEEDS), seeded(SeedKind::Away));
}

#[test]
fn every_seed_converges_where_a_node_has_lost_its_history_and_is_seeded() {
    every_seed_of(seeds(SEEDS), seeded(SeedKind::HistoryLost));
}

#[test]
fn every_seed_converges_where_a_new_node_is_seeded() {
    every_seed_of(seeds(SEEDS), seeded(SeedKind::New));
}

#[test]
fn every_seed_converges_where_a_node_is_removed() {
    every_seed_of(seeds(SEEDS), removed);
}

fn check(kind: SeedKind, found_in: &[u64]) {
    met_in(found_in.iter().copied(), seeded(kind));
}

/// The applier stopped for good where retention took what it was about to read, and had applied long ago.
#[test]
fn seeds_1_2_9_30_and_37_old_records_that_are_taken_while_they_are_read_stop_nobody() {
    check(SeedKind::Away, &[1, 2, 9, 30, 37]);
}

/// An ordinary change of another node replaced a row that was published nowhere. And a node that had only written was taken for a new one.
#[test]
fn seeds_8_and_14_what_was_published_nowhere_is_kept_whoever_replaces_it() {
    check(SeedKind::HistoryLost, &[8, 14]);
}

/// The last published write of a row spoke for what had come after it; and a delete that tells the key alone had seen nothing of the row.
#[test]
fn seeds_21_and_43_no_earlier_write_speaks_for_what_was_published_nowhere() {
    check(SeedKind::HistoryLost, &[21, 43]);
}

/// A row that a new node alone had gave its unique value away, and came from nobody any more.
#[test]
fn seeds_5_11_and_13_a_row_of_a_new_node_that_loses_its_unique_value_is_kept() {
    check(SeedKind::New, &[5, 11, 13]);
}

/// A write that lost to one which had been skipped was taken for the last one of its row, where the node started anew and the index had
/// forgotten the other: the row stood on that node alone.
#[test]
fn seed_73_what_was_skipped_is_remembered_until_the_seeding_ends() {
    check(SeedKind::HistoryLost, &[73]);
}

/// A write that retention had taken was replaced by one that had not seen it, and was kept nowhere.
#[test]
fn seed_225_a_write_that_the_topic_no_longer_keeps_is_kept_as_a_loser() {
    check(SeedKind::Away, &[225]);
}

/// A tailer that was started anew published the question for rows before it had come as far as the one before it, so that the answer
/// could lack what this node had skipped; or it had taken the question with it, and nobody asked.
#[test]
fn seeds_63_279_and_176_a_question_that_was_taken_by_a_tailer_that_ended_is_asked_in_its_place() {
    check(SeedKind::New, &[63, 279]);
    check(SeedKind::HistoryLost, &[176]);
}

/// A row that existed, and had been written in the same group of transactions, was taken for one that is not there.
#[test]
fn seeds_347_616_and_954_a_row_that_is_told_in_the_group_that_writes_it_is_there() {
    check(SeedKind::New, &[347, 616, 954]);
}

/// A row changed while the seeder read it; the change came when the seeding had ended, and replaced what was published nowhere.
#[test]
fn seed_610_a_row_that_the_seeder_leaves_out_is_kept_where_it_may_be_published_nowhere() {
    check(SeedKind::HistoryLost, &[610]);
}

/// A row of the seeder that answered an earlier question, from before it had come to what this node wrote, replaced that.
#[test]
fn seed_146_what_answers_an_earlier_question_replaces_no_write_that_it_had_not_seen() {
    check(SeedKind::HistoryLost, &[146]);
}

/// What was built from many reads was begun anew for each answer that was lost, and came to no end.
#[test]
fn seeds_248_and_310_a_lost_answer_does_not_have_all_read_again() {
    check(SeedKind::Away, &[248]);
    check(SeedKind::HistoryLost, &[310]);
}

/// A node that had left another out of its configuration, as it may, took older changes of a third that had not seen the other's last ones.
#[test]
fn seed_213_the_writes_of_a_node_that_has_left_are_known_until_all_that_had_not_seen_them_is_here() {
    met_in([213], removed);
}

/// The index of a node that started anew held writes of a transaction that was cut off by the removal of its node, and an older write
/// lost to them there alone.
#[test]
fn seed_12_what_was_cut_off_by_a_removal_beats_nothing() {
    met_in([12], removed);
}

fn met_in(seeds: impl IntoIterator<Item = u64>, change: impl Fn(&mut Scenario)) -> Met {
    let mut sum = Met::default();
    for seed in seeds {
        let mut scenario = Scenario::of(seed, Without::default());
        change(&mut scenario);
        sum += run(&scenario).unwrap().met;
    }
    sum
}

/// They are only worth something if they meet what they are there for.
#[test]
fn the_seeds_meet_seedings_that_are_cut_off_and_begun_anew_and_histories_that_end() {
    let mut cut_off = 0;
    for kind in [SeedKind::Away, SeedKind::HistoryLost, SeedKind::New] {
        let sum = met_in(0..8, seeded(kind));
        assert!(sum.seedings > 5 && sum.forgotten > 50 && sum.crashes > 10, "{kind:?}: {sum:?}");
        assert!((kind == SeedKind::HistoryLost) == (sum.unpublished > 10), "{kind:?}: {sum:?}");
        cut_off += sum.cut_off;
    }
    assert!(cut_off > 2, "{cut_off}");
    let sum = met_in(0..8, removed);
    assert!(sum.unpublished > 20 && sum.crashes > 20, "{sum:?}");
}

/// What is still to come from the seeder is taken for what everybody has.
#[test]
fn without_the_notion_of_what_is_stale_the_checkers_notice() {
    assert!(noticed_from(60, Without { stale: true, ..Without::default() }, seeded(SeedKind::Away)));
}

/// The seeder tells its rows before it has decided about what this node wrote.
#[test]
fn without_the_wait_before_the_seeder_is_asked_the_checkers_notice() {
    assert!(noticed_from(0, Without { ask_wait: true, ..Without::default() }, seeded(SeedKind::Away)));
}

/// As if all that the node ever wrote were published: what is not vanishes.
#[test]
fn without_the_kind_of_a_seeding_the_checkers_notice() {
    for kind in [SeedKind::HistoryLost, SeedKind::New] {
        assert!(noticed_of(Without { kind: true, ..Without::default() }, seeded(kind)), "{kind:?}");
    }
}

/// The tailer of a new node begins behind what the command wrote, so the seeder is asked by a node that tells nothing of what it skips.
#[test]
fn without_the_beginning_of_the_topic_before_a_new_node_is_seeded_the_checkers_notice() {
    assert!(noticed_of(Without { begin: true, ..Without::default() }, seeded(SeedKind::New)));
}

/// A removed node is waited for as before, so nothing is ever forgotten.
#[test]
fn without_the_end_of_a_removed_node_the_checkers_notice() {
    assert!(noticed_of(Without { removal: true, ..Without::default() }, removed));
}

/// The node leaves the configuration before the others have all that it had published, and nobody asks.
#[test]
fn without_the_question_whether_a_node_can_leave_the_checkers_notice() {
    assert!(noticed_of(Without { unlisted: true, ..Without::default() }, removed));
}
