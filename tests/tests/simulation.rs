//! The simulation's rules: see `midge_tests::sim`.
//!
//! `MIDGE_SEEDS=FROM..TO cargo test -p midge-tests --test simulation` runs other seeds than the usual ones.

use std::collections::BTreeMap;
use std::ops::Range;

use midge_tests::sim::{Fence, Summary, TickFault, run, run_with_tick_fault};

/// Seeds that once found a bug. They stay, though the world may have changed so much that they find it no more: the
/// rules that they found are told again in `midge-server`'s `tests/all/rules.rs`.
const SEEDS: &[u64] = &[15, 658, 1976];
/// Seeds of every run of the tests: as many as take some ten seconds in dev.
const SEEDS_USUAL: Range<u64> = 0..200;
/// Seeds among which a missing fence must show.
const SEEDS_WITHOUT_FENCE: Range<u64> = 0..100;

/// What the usual seeds must have seen, taken together.
const MUST_HAPPEN: &[&str] = &[
    "Machines that gave way",
    "Machines that stopped",
    "attempts given twice",
    "attempts that could not begin",
    "batches cancelled",
    "batches that ended",
    "batches that failed",
    "callbacks that ran",
    "cancels",
    "crashes by guests",
    "crashes of the server",
    "deploys",
    "hosts cut off",
    "hosts denied",
    "hosts that hung",
    "hosts that left",
    "hosts that lost the server",
    "hosts told to drain",
    "hosts told to stop",
    "jobs cancelled",
    "jobs completed",
    "jobs discarded",
    "jobs that expired",
    "jobs that lost Machines",
    "jobs that no batch took",
    "jobs that were held",
    "jobs that waited for others",
    "jobs that were not tried again",
    "jobs whose dependency failed",
    "messages lost",
    "pauses",
    "pauses of modules",
    "poison that was found",
    "requests without an answer",
    "retries by hand",
    "schedules paused",
    "schedules resumed",
    "stale requests",
    "suspects that were cleared",
    "ticks",
];

/// Returns the seeds that somebody asked for.
fn seeds_asked_for() -> Option<Range<u64>> {
    let range = std::env::var("MIDGE_SEEDS").ok()?;
    let (from, to) = range.split_once("..").expect("MIDGE_SEEDS is a range such as 0..10000");
    Some(from.parse().expect("a number")..to.parse().expect("a number"))
}

#[test]
fn whatever_fails_every_job_ends_once_and_no_machine_outlives_its_reason() {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let asked_for = seeds_asked_for();
    let seeds: Vec<u64> = match asked_for.clone() {
        Some(seeds) => seeds.collect(),
        None => SEEDS.iter().copied().chain(SEEDS_USUAL).collect(),
    };
    for seed in seeds {
        match run(seed, Fence::Standing) {
            Ok(summary) => {
                for (what, count) in summary.counts {
                    *counts.entry(what).or_default() += count;
                }
            }
            Err(violation) => panic!("{violation}"),
        }
    }
    if asked_for.is_some_and(|asked_for| asked_for.end - asked_for.start < SEEDS_USUAL.end) {
        return;
    }
    // A world in which nothing goes wrong would find nothing.
    for what in MUST_HAPPEN {
        assert!(counts.contains_key(what), "no run saw {what}: {counts:#?}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let hash = |seed| run(seed, Fence::Standing).map(|summary: Summary| summary.trace_hash);
    for seed in 0..5 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
    }
    assert_ne!(hash(0), hash(1));
}

#[test]
fn without_the_fence_a_late_report_is_found_to_finish_another_attempt() {
    let found = SEEDS_WITHOUT_FENCE.into_iter().find_map(|seed| run(seed, Fence::TakenOut).err());
    let violation = found.expect("no seed shows that the fence is missing");
    assert!(
        ["with the result", "what its host said"].iter().any(|words| violation.broken.contains(words)),
        "the fence was missed, but not by what it guards: {violation}"
    );
}

#[test]
fn a_tick_whose_job_has_no_id_of_its_own_is_found_to_fire_twice() {
    let run = |seed| run_with_tick_fault(seed, TickFault::IdAndStateLost);
    let violation = SEEDS_WITHOUT_FENCE.into_iter().find_map(|seed| run(seed).err());
    let violation = violation.expect("no seed shows that a tick fires twice");
    assert!(violation.broken.contains("tick fired twice"), "{violation}");
}

#[test]
fn a_tick_whose_state_is_lost_fires_once_since_its_job_is_there() {
    let mut spoilt = 0;
    for seed in 0..20 {
        let summary =
            run_with_tick_fault(seed, TickFault::StateLost).unwrap_or_else(|violation| panic!("{violation}"));
        spoilt += summary.counts.get("ticks that were spoilt").copied().unwrap_or(0);
    }
    assert!(spoilt > 0, "no state was lost");
}
