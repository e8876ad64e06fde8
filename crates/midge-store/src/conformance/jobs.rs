//! Rules about finding, writing and deleting jobs.

use std::collections::BTreeSet;

use midge_core::{Job, JobEvent, Phase, claim_order};
use midge_protocol::exchange::Outcome;
use midge_protocol::job::{Progress, State};
use midge_protocol::{AttemptNumber, JobId, Lease, Timestamp};

use super::Kept;
use super::fixtures::{
    Chance, after, ask, at, cancelled, completed, discarded, failed, id, job, machine_name, put, queue,
    running,
};
use crate::{Content, Store, StoreError, write};

async fn found(store: &dyn Store, ids: &[JobId]) -> Result<Vec<Option<Job>>, StoreError> {
    let ids = ids.to_vec();
    ask(store, move |rows| rows.jobs(&ids)).await
}

async fn due(store: &dyn Store, now: Timestamp, limit: usize) -> Result<Vec<JobId>, StoreError> {
    let jobs = ask(store, move |rows| rows.jobs_due(&queue("default"), None, now, limit)).await?;
    Ok(jobs.iter().map(|job| job.id).collect())
}

/// Makes one job in each phase.
pub fn every_phase() -> Vec<Job> {
    vec![
        job(1, "default", 0),
        failed(&job(2, "default", 0), at(0)),
        running(&job(3, "default", 0), "m1"),
        completed(&job(4, "default", 0), at(10)),
        cancelled(&job(5, "default", 0), at(10)),
        discarded(&job(6, "default", 0), at(10)),
    ]
}

/// A job in any state is found with every field as it was written.
pub async fn a_job_is_found_as_it_was_written(store: &dyn Store) -> Kept {
    let mut jobs = every_phase();
    let lease = Lease { machine: machine_name("m1"), attempt: AttemptNumber(1) };
    let progress = Progress { done: 1, total: 3, message: "a \"third\"\n".to_owned() };
    let busy = running(&job(7, "other", -5), "m1");
    jobs.push(after(
        &after(&busy, JobEvent::Progressed { lease, progress }, at(0)),
        JobEvent::CancelAsked,
        at(0),
    ));
    put(store, &jobs).await?;
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    assert_eq!(found(store, &ids).await?, jobs.into_iter().map(Some).collect::<Vec<_>>());
    Ok(())
}

/// Jobs are found in the order of the ids, also where some are not there or are asked for twice.
pub async fn jobs_are_found_in_the_order_that_was_asked_for(store: &dyn Store) -> Kept {
    put(store, &[job(1, "default", 0), job(2, "default", 0)]).await?;
    let found = found(store, &[id(2), id(9), id(1), id(2)]).await?;
    let found: Vec<_> = found.iter().map(|job| job.as_ref().map(|job| job.id)).collect();
    assert_eq!(found, [Some(id(2)), None, Some(id(1)), Some(id(2))]);
    Ok(())
}

/// A job is written over from every phase to every other. The core may not allow it, but the store decides nothing.
pub async fn a_job_is_written_over(store: &dyn Store) -> Kept {
    let numbered = |job: &Job| Job { id: id(1), ..job.clone() };
    for from in every_phase() {
        for to in every_phase() {
            let (from, to) = (numbered(&from), numbered(&to));
            put(store, &[from]).await?;
            put(store, std::slice::from_ref(&to)).await?;
            assert_eq!(found(store, &[id(1)]).await?, [Some(to.clone())]);
            let waits = to.phase().is_waiting();
            assert_eq!(due(store, at(1_000_000), 10).await?.len(), usize::from(waits));
            let leased = ask(store, |rows| rows.jobs_leased(&machine_name("m1"))).await?;
            assert_eq!(leased.len(), usize::from(to.phase() == Phase::Running));
            let counts = ask(store, |rows| rows.job_counts(at(0))).await?;
            let counts = counts[&queue("default")].phases.clone();
            assert_eq!(
                counts.into_iter().filter(|(_, jobs)| *jobs > 0).collect::<Vec<_>>(),
                [(to.phase(), 1)]
            );
        }
    }
    Ok(())
}

/// Due jobs are found longest due first, then by id, and no more than asked for.
pub async fn jobs_due_are_longest_due_first(store: &dyn Store) -> Kept {
    let jobs = [job(1, "default", 30), job(2, "default", 10), job(4, "default", 20), job(3, "default", 20)];
    put(store, &jobs).await?;
    put(store, &[job(5, "other", 0), job(6, "default", 31)]).await?;
    assert_eq!(due(store, at(30), 10).await?, [id(2), id(3), id(4), id(1)]);
    assert_eq!(due(store, at(30), 3).await?, [id(2), id(3), id(4)]);
    assert_eq!(due(store, at(29), 10).await?, [id(2), id(3), id(4)]);
    assert_eq!(due(store, at(9), 10).await?, []);
    assert_eq!(due(store, at(30), 0).await?, []);
    Ok(())
}

/// Due jobs are found in [`claim_order`]: new and failed ones, of equal and different due times, in whatever order they
/// were written.
pub async fn jobs_due_are_in_the_claim_order_of_the_core(store: &dyn Store) -> Kept {
    let mut chance = Chance::new(4);
    let numbers: BTreeSet<u64> = (0..200).map(|_| chance.below(10_000)).collect();
    let mut jobs: Vec<Job> = Vec::new();
    for number in numbers {
        let job = job(number.into(), "default", chance.below(20) as i64);
        let job = if chance.below(3) == 0 { failed(&job, job.due()) } else { job };
        jobs.insert(chance.below(jobs.len() as u64 + 1) as usize, job);
    }
    put(store, &jobs).await?;
    jobs.sort_by_key(claim_order);
    for (now, limit) in [(at(9), 1_000), (at(1_000_000), 1_000), (at(1_000_000), 50), (at(10), 7)] {
        let claimable = jobs.iter().filter(|job| job.due() <= now);
        let expected: Vec<JobId> = claimable.map(|job| job.id).take(limit).collect();
        assert_eq!(due(store, now, limit).await?, expected);
    }
    Ok(())
}

/// A job that runs or ended is not found as due, though it was.
pub async fn only_waiting_jobs_are_due(store: &dyn Store) -> Kept {
    put(store, &every_phase()).await?;
    assert_eq!(due(store, at(1_000_000), 10).await?, [id(1), id(2)]);
    Ok(())
}

/// The jobs of a Machine are found by id, without those that it had before.
pub async fn jobs_leased_are_those_of_one_machine(store: &dyn Store) -> Kept {
    let busy = |number, machine: &str| running(&job(number, "default", 0), machine);
    put(store, &[busy(3, "m1"), busy(1, "m1"), busy(2, "m2"), busy(4, "m1"), job(5, "default", 0)]).await?;
    put(store, &[completed(&busy(4, "m1"), at(5))]).await?;
    let leased = ask(store, |rows| rows.jobs_leased(&machine_name("m1"))).await?;
    assert_eq!(leased.iter().map(|job| job.id).collect::<Vec<_>>(), [id(1), id(3)]);
    assert_eq!(ask(store, |rows| rows.jobs_leased(&machine_name("m3"))).await?, []);
    Ok(())
}

/// A job that is written with another queue is found and counted in that one only.
pub async fn a_job_may_change_its_queue(store: &dyn Store) -> Kept {
    put(store, &[job(1, "default", 0), job(2, "default", 0)]).await?;
    put(store, &[job(1, "other", 0)]).await?;
    assert_eq!(due(store, at(0), 10).await?, [id(2)]);
    let other = ask(store, |rows| rows.jobs_due(&queue("other"), None, at(0), 10)).await?;
    assert_eq!(other, [job(1, "other", 0)]);
    let counts = ask(store, |rows| rows.job_counts(at(0))).await?;
    let available = |name| counts[&queue(name)].in_state(State::Available);
    assert_eq!((available("default"), available("other")), (1, 1));
    Ok(())
}

/// The next due time is the soonest of any queue.
pub async fn next_due_is_the_soonest_that_is_not_due(store: &dyn Store) -> Kept {
    let next = |now| ask(store, move |rows| rows.next_due(now));
    assert_eq!(next(at(0)).await?, None);
    put(store, &[job(1, "default", 30), job(2, "other", 20), job(3, "other", 5)]).await?;
    put(store, &[completed(&job(4, "other", 7), at(7))]).await?;
    assert_eq!(next(at(0)).await?, Some(at(5)));
    assert_eq!(next(at(5)).await?, Some(at(20)));
    assert_eq!(next(at(20)).await?, Some(at(30)));
    assert_eq!(next(at(30)).await?, None);
    Ok(())
}

/// A job is deleted in every phase, and is not found or counted any more; no other is deleted with it.
pub async fn a_job_is_deleted_in_every_phase(store: &dyn Store) -> Kept {
    put(store, &every_phase()).await?;
    put(store, &[job(100, "default", 0)]).await?;
    for job in every_phase() {
        let delete = || write(store, move |rows| rows.delete_job(job.id));
        assert_eq!((delete().await?, delete().await?), (true, false));
        assert_eq!(found(store, &[job.id]).await?, [None]);
    }
    assert_eq!(due(store, at(1_000_000), 10).await?, [id(100)]);
    assert_eq!(ask(store, |rows| rows.jobs_leased(&machine_name("m1"))).await?, []);
    let counts = ask(store, |rows| rows.job_counts(at(0))).await?;
    assert_eq!(counts[&queue("default")].phases, [(Phase::Fresh, 1)].into());
    Ok(())
}

/// A job that is deleted by its id is deleted with its bytes, logs and attempts, and with nothing of another job.
pub async fn deleting_a_job_deletes_all_that_belongs_to_it(store: &dyn Store) -> Kept {
    deleted_with_all_that_belongs_to_it(store, |rows| Ok(usize::from(rows.delete_job(id(1))?))).await
}

/// A job is deleted with its bytes, logs and attempts, and with nothing of another job.
pub async fn deleting_ended_jobs_deletes_all_that_belongs_to_them(store: &dyn Store) -> Kept {
    deleted_with_all_that_belongs_to_it(store, |rows| {
        rows.delete_ended(&queue("default"), Phase::Completed, at(20), 10)
    })
    .await
}

async fn deleted_with_all_that_belongs_to_it(
    store: &dyn Store,
    delete: fn(&mut dyn crate::Rows) -> Result<usize, StoreError>,
) -> Kept {
    let work = move |rows: &mut dyn crate::Rows| {
        for number in [1, 2] {
            let busy = running(&job(number, "default", 0), "m1");
            let lease = Lease { machine: machine_name("m1"), attempt: busy.attempt };
            let outcome = Outcome::Completed { result: "yes".into() };
            let event = JobEvent::Finished { lease, outcome, usage: None, jitter: 0.0 };
            let change = busy.apply(event, at(number as i64 * 10)).expect("it runs");
            rows.put_jobs(&[change.job])?;
            rows.put_attempt(id(number), &change.attempt.expect("it ended"))?;
            for content in Content::ALL {
                rows.put_content(id(number), content, b"abc")?;
            }
            rows.append_log(id(number), AttemptNumber(1), 0, b"log")?;
            rows.append_log(id(number), AttemptNumber(1), 3, b"log")?;
        }
        delete(rows)
    };
    assert_eq!(write(store, work).await?, 1);
    for (number, there) in [(1, false), (2, true)] {
        let left = ask(store, move |rows| {
            let mut left =
                vec![rows.jobs(&[id(number)])?[0].is_some(), !rows.attempts(id(number))?.is_empty()];
            for content in Content::ALL {
                left.push(rows.content(id(number), content)?.is_some());
            }
            left.push(!rows.log(id(number), AttemptNumber(1))?.is_empty());
            Ok(left)
        })
        .await?;
        assert!(left.iter().all(|is_left| *is_left == there), "{number}: {left:?}");
    }
    let counts = ask(store, |rows| rows.job_counts(at(0))).await?;
    assert_eq!(counts[&queue("default")].phase(Phase::Completed), 1);
    Ok(())
}

/// Only jobs of one phase are deleted that ended before a time, and no more than asked for.
pub async fn only_jobs_of_a_phase_that_ended_before_a_time_are_deleted(store: &dyn Store) -> Kept {
    put(store, &every_phase()).await?;
    let more: Vec<Job> =
        (10..20).map(|number| completed(&job(number, "default", 0), at(number as i64))).collect();
    put(store, &more).await?;
    let delete = |phase, before, limit| {
        write(store, move |rows| rows.delete_ended(&queue("default"), phase, before, limit))
    };
    assert_eq!(delete(Phase::Completed, at(10), 100).await?, 0);
    assert_eq!(delete(Phase::Fresh, at(1_000), 100).await?, 0);
    assert_eq!(delete(Phase::Running, at(1_000), 100).await?, 0);
    assert_eq!(delete(Phase::Discarded, at(11), 100).await?, 1);
    assert_eq!(delete(Phase::Completed, at(15), 2).await?, 2);
    assert_eq!(delete(Phase::Completed, at(15), 100).await?, 4);
    let counts = ask(store, |rows| rows.job_counts(at(0))).await?;
    let counts = &counts[&queue("default")];
    let left = [Phase::Completed, Phase::Cancelled, Phase::Discarded].map(|phase| counts.phase(phase));
    assert_eq!(left, [5, 1, 0]);
    Ok(())
}
