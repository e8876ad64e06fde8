//! Rules about listing jobs for people.

use midge_core::{Job, Phase, StateFilter};
use midge_protocol::JobId;

use super::Kept;
use super::fixtures::{
    Chance, ask, at, cancelled, completed, discarded, failed, id, job, job_of, module, put, queue, running,
};
use crate::{JobSearch, Store, StoreError};

async fn listed(store: &dyn Store, search: &JobSearch, limit: usize) -> Result<Vec<JobId>, StoreError> {
    let search = search.clone();
    let jobs = ask(store, move |rows| rows.jobs_listed(&search, limit)).await?;
    Ok(jobs.iter().map(|job| job.as_ref().expect("what was written can be read").id).collect())
}

/// Jobs of two queues and modules in all phases, the rare ones among the oldest: more than a store can look through.
fn many() -> Vec<Job> {
    let mut chance = Chance::new(1);
    let jobs = (1..6_000).map(|number| {
        let rare = number < 500;
        let queue = if rare && chance.below(2) == 0 { "rare" } else { "default" };
        let module = if rare && chance.below(2) == 0 { "resize" } else { "hello" };
        let job = job_of(number, queue, module, chance.below(100) as i64);
        match chance.below(if rare { 7 } else { 2 }) {
            0 => job,
            1 => completed(&job, at(1_000)),
            2 => failed(&job, at(1_000)),
            3 => running(&job, "m1"),
            4 => cancelled(&job, at(1_000)),
            5 => job.pending(),
            _ => discarded(&job, at(1_000)),
        }
    });
    jobs.collect()
}

/// Without a search, jobs of all phases and queues are listed, newest first, and no more than asked for.
pub async fn jobs_are_listed_newest_first(store: &dyn Store) -> Kept {
    put(store, &[job(2, "default", 5), completed(&job(3, "other", 0), at(9)), job(1, "default", 0)]).await?;
    assert_eq!(listed(store, &JobSearch::default(), 10).await?, [id(3), id(2), id(1)]);
    assert_eq!(listed(store, &JobSearch::default(), 2).await?, [id(3), id(2)]);
    Ok(())
}

/// A search lists exactly what fits, whatever is asked for, and wherever the jobs are that fit.
pub async fn every_search_lists_exactly_what_fits(store: &dyn Store) -> Kept {
    let jobs = many();
    put(store, &jobs).await?;
    let mut phases: Vec<Vec<Phase>> = Phase::ALL.iter().map(|phase| vec![*phase]).collect();
    phases.extend([vec![], vec![Phase::Fresh, Phase::Retrying], vec![Phase::Running, Phase::Discarded]]);
    for phases in phases {
        for asked_for in 0..16 {
            let search = JobSearch {
                state: StateFilter {
                    phases: phases.clone(),
                    due_until: (asked_for & 1 > 0).then(|| at(60)),
                    due_after: (asked_for & 2 > 0).then(|| at(30)),
                },
                queue: (asked_for & 4 > 0).then(|| queue("rare")),
                module: (asked_for & 8 > 0).then(|| module("resize")),
                batch: None,
                before: None,
            };
            let fits = |job: &&Job| {
                search.state.matches(job)
                    && search.queue.as_ref().is_none_or(|queue| job.queue == *queue)
                    && search.module.as_ref().is_none_or(|module| job.module == *module)
            };
            let expected: Vec<JobId> = jobs.iter().rev().filter(fits).map(|job| job.id).collect();
            let newest: Vec<JobId> = expected.iter().copied().take(20).collect();
            assert_eq!(listed(store, &search, 20).await?, newest, "{search:?}");
            assert_eq!(listed(store, &search, 10_000).await?, expected, "{search:?}");
        }
    }
    Ok(())
}

/// Pages, each before the last id of the one before, are together what one list would be.
pub async fn pages_follow_one_another_without_gap_or_repeat(store: &dyn Store) -> Kept {
    let jobs = many();
    put(store, &jobs).await?;
    for phases in [vec![], vec![Phase::Completed, Phase::Discarded], vec![Phase::Retrying]] {
        let state = StateFilter { phases, ..StateFilter::default() };
        let mut search = JobSearch { state, ..JobSearch::default() };
        let whole = listed(store, &search, 10_000).await?;
        let mut paged = Vec::new();
        loop {
            let page = listed(store, &search, 700).await?;
            let Some(last) = page.last() else { break };
            search.before = Some(*last);
            paged.extend(page);
        }
        assert_eq!(paged, whole);
    }
    Ok(())
}
