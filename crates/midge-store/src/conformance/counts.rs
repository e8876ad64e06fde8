//! Rules about counting jobs.

use std::collections::BTreeMap;

use midge_core::{Job, JobCounts, JobEvent, Phase};
use midge_protocol::{JobId, QueueName, Timestamp};

use super::Kept;
use super::fixtures::{
    Chance, after, ask, at, cancelled, completed, discarded, failed, id, job, job_of, put, queue, running,
};
use crate::{Store, StoreError, write};

/// Counts jobs by looking at each.
fn counted<'a>(jobs: impl Iterator<Item = &'a Job>, now: Timestamp) -> BTreeMap<QueueName, JobCounts> {
    let mut all: BTreeMap<QueueName, JobCounts> = BTreeMap::new();
    for job in jobs {
        all.entry(job.queue.clone()).or_default().add(job, now);
    }
    all
}

async fn counts(store: &dyn Store, now: Timestamp) -> Result<BTreeMap<QueueName, JobCounts>, StoreError> {
    let mut all = ask(store, move |rows| rows.job_counts(now)).await?;
    for counts in all.values_mut() {
        counts.phases.retain(|_, jobs| *jobs > 0);
    }
    Ok(all)
}

fn changed(job: &Job, chance: &mut Chance) -> Job {
    let later = job.due().after(std::time::Duration::from_millis(chance.below(500)));
    match (job.phase(), chance.below(4)) {
        (Phase::Fresh | Phase::Retrying, 0) => cancelled(job, later),
        (Phase::Fresh | Phase::Retrying, 1) => after(job, JobEvent::Held, later),
        (Phase::Fresh | Phase::Retrying, _) => running(job, "m1"),
        (Phase::Held | Phase::Pending, 0) => cancelled(job, later),
        (Phase::Pending, _) => after(job, JobEvent::Met, later),
        (Phase::Held, _) => after(job, JobEvent::Released, later),
        (Phase::Running, 0 | 1) => completed(job, later),
        (Phase::Running, 2) => failed(job, later),
        (Phase::Running, _) => discarded(job, later),
        (Phase::Completed | Phase::Cancelled | Phase::Discarded, _) => {
            after(job, JobEvent::RetryAsked, later)
        }
    }
}

/// Counts are right while time goes on and jobs are made, changed, written as they were, and deleted.
pub async fn counts_follow_every_change(store: &dyn Store) -> Kept {
    let mut chance = Chance::new(2);
    let mut jobs: BTreeMap<JobId, Job> = BTreeMap::new();
    for round in 0..150 {
        let mut batch: BTreeMap<JobId, Job> = BTreeMap::new();
        for _ in 0..chance.below(12) {
            let number = u128::from(chance.below(80));
            let (queue, module) =
                (["a", "b"][chance.below(2) as usize], ["x", "y"][chance.below(2) as usize]);
            let due = round * 10 + chance.below(400) as i64 - 200;
            let job = match jobs.get(&id(number)) {
                Some(job) if chance.below(8) > 0 => changed(job, &mut chance),
                Some(job) => job.clone(),
                None if chance.below(6) == 0 => job_of(number, queue, module, due).pending(),
                None => job_of(number, queue, module, due),
            };
            batch.insert(job.id, job);
        }
        let put: Vec<Job> = batch.values().cloned().collect();
        let deleted_before = at(round * 10 - 300);
        write(store, move |rows| {
            rows.put_jobs(&put)?;
            rows.delete_ended(Phase::Completed, deleted_before, 1_000)
        })
        .await?;
        jobs.extend(batch);
        jobs.retain(|_, job| {
            job.phase() != Phase::Completed || job.ended_at().is_none_or(|ended| ended >= deleted_before)
        });
        let now = at(round * 10);
        let (found, all) = (counts(store, now).await?, counted(jobs.values(), now));
        for name in ["a", "b", "none"].map(queue) {
            let waiting = all.get(&name).map_or(0, JobCounts::waiting);
            assert_eq!(ask(store, move |rows| rows.jobs_waiting(&name)).await?, waiting, "round {round}");
        }
        assert_eq!(found, all, "round {round}");
    }
    Ok(())
}

/// Counts are right at whatever time they are asked for, also at an earlier one: clocks are put back.
pub async fn counts_are_right_at_any_time(store: &dyn Store) -> Kept {
    let mut chance = Chance::new(3);
    let jobs: Vec<Job> = (0..300)
        .map(|number| {
            let job = job(number, ["a", "b"][chance.below(2) as usize], chance.below(1_000) as i64);
            if chance.below(3) == 0 { failed(&job, job.due()) } else { job }
        })
        .collect();
    put(store, &jobs).await?;
    for now in [0, 500, 499, 0, 100, 1_000_000, 700, -5, 999] {
        let now = at(now);
        assert_eq!(counts(store, now).await?, counted(jobs.iter(), now), "{now}");
    }
    Ok(())
}

/// Work that fails changes no counts, also where it asked for those of a later time.
pub async fn counts_forget_work_that_fails(store: &dyn Store) -> Kept {
    let kept = [job(1, "default", 10), failed(&job(2, "default", 0), at(0)), job(3, "default", 500)];
    put(store, &kept).await?;
    for now in [0, 20, 400, 600] {
        let undone = write(store, move |rows| {
            rows.put_jobs(&[running(&kept_job(), "m1"), job(4, "default", 300), job(5, "new", 0)])?;
            rows.job_counts(at(now + 100))?;
            rows.put_jobs(&[job(6, "default", 300)])?;
            Err::<(), _>(StoreError::Undone)
        })
        .await;
        assert!(undone.is_err());
        assert_eq!(counts(store, at(now)).await?, counted(kept.iter(), at(now)), "{now}");
    }
    Ok(())
}

fn kept_job() -> Job {
    job(1, "default", 10)
}

/// A queue whose last job is deleted is not counted any more, so there are never more counts than jobs.
pub async fn a_queue_without_jobs_is_not_counted(store: &dyn Store) -> Kept {
    put(store, &[completed(&job(1, "a", 0), at(5)), job(2, "b", 0)]).await?;
    write(store, |rows| rows.delete_ended(Phase::Completed, at(6), 10)).await?;
    let counts = counts(store, at(0)).await?;
    assert_eq!(counts.keys().collect::<Vec<_>>(), [&queue("b")]);
    Ok(())
}
