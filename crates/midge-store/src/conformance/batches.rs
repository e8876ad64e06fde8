//! Rules about batches.

use midge_core::{Batch, CancelJobs, Job, JobEvent, Phase, StateFilter};
use midge_protocol::api::Cursor;
use midge_protocol::api::{BatchCounts, BatchEvent};
use midge_protocol::job::State;
use midge_protocol::{BatchId, JobId};

use super::Kept;
use super::fixtures::{Chance, after, ask, at, completed, discarded, failed, id, job, put, queue, running};
use crate::{JobSearch, Store, StoreError, write};

fn batch_id(number: u128) -> BatchId {
    BatchId::from_bytes(number.to_be_bytes())
}

fn batch(number: u64) -> Batch {
    Batch::new(batch_id(number.into()), number, format!("batch {number}"), number, at(0))
}

async fn put_batch(store: &dyn Store, batch: Batch) -> Kept {
    write(store, move |rows| rows.put_batch(&batch)).await
}

async fn found(store: &dyn Store, number: u128) -> Result<Batch, StoreError> {
    Ok(ask(store, move |rows| rows.batch(batch_id(number))).await?.expect("it was written"))
}

/// A fresh job of a batch.
fn member(number: u128, batch: u128) -> Job {
    let mut job = job(number, "default", 0);
    job.links.batch = Some(batch_id(batch));
    job
}

/// A batch is found as it was written, and to write it again leaves the numbers of its jobs.
pub async fn a_batch_is_found_as_it_was_written(store: &dyn Store) -> Kept {
    let callbacks = BatchEvent::ALL.into_iter().zip([id(1), id(2), id(3)]).collect();
    let name = "a \"batch\"\n\u{1F99F}".to_owned();
    let whole = Batch {
        name,
        content_hash: u64::MAX,
        closed_at: Some(at(1)),
        cancel: Some(CancelJobs::After(Some(id(9)))),
        failed_at: Some(at(2)),
        callbacks,
        ..batch(7)
    };
    put_batch(store, whole.clone()).await?;
    assert_eq!(found(store, 7).await?, whole);
    assert_eq!(ask(store, |rows| rows.batch(batch_id(8))).await?, None);
    assert_eq!(ask(store, |rows| rows.last_batch_number()).await?, 7);
    put(store, &[member(1, 7)]).await?;
    let counts = BatchCounts { waiting: 1, ..BatchCounts::default() };
    put_batch(store, Batch { ended_at: Some(at(3)), ..whole.clone() }).await?;
    assert_eq!(found(store, 7).await?, Batch { counts, ended_at: Some(at(3)), ..whole });
    Ok(())
}

/// Whatever becomes of its jobs, a batch has the numbers that they come to.
pub async fn a_batch_counts_its_jobs_whatever_becomes_of_them(store: &dyn Store) -> Kept {
    let mut chance = Chance::new(12);
    for number in [1, 2] {
        put_batch(store, batch(number)).await?;
    }
    let mut jobs: Vec<Job> = Vec::new();
    let mut expected = [batch(1), batch(2)];
    for _ in 0..60 {
        let mut written: Vec<Job> = Vec::new();
        for _ in 0..1 + chance.below(5) {
            let index = chance.below(30) as usize;
            let of = (index % 3) as u128;
            if written.iter().any(|job| job.id == id(index as u128)) {
                continue;
            }
            let before = jobs.iter().find(|job| job.id == id(index as u128)).cloned();
            let changed = match &before {
                None if of == 0 => job(index as u128, "default", 0),
                None if chance.below(3) == 0 => member(index as u128, of).pending(),
                None => member(index as u128, of),
                Some(job) => changed(job, &mut chance),
            };
            if of > 0 {
                expected[of as usize - 1].count(before.map(|job| job.phase()), Some(changed.phase()));
            }
            jobs.retain(|job| job.id != changed.id);
            jobs.push(changed.clone());
            written.push(changed);
        }
        put(store, &written).await?;
        if chance.below(4) == 0
            && let Some(deleted) = jobs.pop()
        {
            if let Some(batch) = deleted.links.batch {
                let index = usize::from(batch == batch_id(2));
                expected[index].count(Some(deleted.phase()), None);
            }
            write(store, move |rows| rows.delete_job(deleted.id)).await?;
        }
        for (number, expected) in (1..).zip(&expected) {
            assert_eq!(found(store, number).await?.counts, expected.counts);
        }
    }
    write(store, |rows| rows.delete_ended(&queue("default"), Phase::Completed, at(1_000_000), 100)).await?;
    assert_eq!(found(store, 1).await?.counts, expected[0].counts, "what ended long ago is counted still");
    Ok(())
}

fn changed(job: &Job, chance: &mut Chance) -> Job {
    match (job.phase(), chance.below(3)) {
        (Phase::Pending, 0) => after(job, JobEvent::Met, at(5)),
        (Phase::Pending, _) => after(job, JobEvent::Unmet { why: String::new() }, at(5)),
        (Phase::Fresh | Phase::Retrying, 0) => running(job, "m1"),
        (Phase::Fresh, 1) => after(job, JobEvent::Held, at(5)),
        (Phase::Fresh | Phase::Retrying | Phase::Held, _) => after(job, JobEvent::CancelAsked, at(5)),
        (Phase::Running, 0) => failed(job, at(5)),
        (Phase::Running, 1) => discarded(job, at(5)),
        (Phase::Running, _) => completed(job, at(5)),
        (Phase::Completed | Phase::Cancelled | Phase::Discarded, _) => {
            after(job, JobEvent::RetryAsked, at(5))
        }
    }
}

/// A batch about which there is something to do is found, until that is done.
pub async fn a_batch_that_has_to_act_is_found_until_it_has(store: &dyn Store) -> Kept {
    put_batch(store, batch(1)).await?;
    put_batch(store, batch(2).closed(at(0))).await?;
    let next = || ask(store, |rows| rows.batch_to_act());
    let empty = next().await?.expect("a batch without jobs has ended when it is closed");
    assert_eq!(empty.id, batch_id(2));
    put_batch(store, empty.act(at(1)).0).await?;
    assert_eq!(next().await?, None);
    put(store, &[member(1, 1), member(2, 1)]).await?;
    put(store, &[discarded(&member(1, 1), at(2))]).await?;
    let failing = next().await?.expect("a job was discarded");
    assert_eq!(failing.counts, BatchCounts { waiting: 1, discarded: 1, ..BatchCounts::default() });
    put_batch(store, failing.act(at(3)).0.closed(at(3))).await?;
    assert_eq!(next().await?, None, "one has not ended");
    write(store, |rows| rows.delete_job(id(2))).await?;
    assert_eq!(next().await?.map(|batch| batch.counts.cancelled), Some(1));
    assert_eq!(ask(store, |rows| rows.batches_unended()).await?, 1);
    Ok(())
}

/// Work that fails leaves a batch as it was.
pub async fn a_batch_forgets_work_that_fails(store: &dyn Store) -> Kept {
    put_batch(store, batch(1)).await?;
    put(store, &[member(1, 1)]).await?;
    let before = found(store, 1).await?;
    let undone = write(store, |rows| {
        rows.put_batch(&batch(2))?;
        rows.put_jobs(&[member(2, 1), running(&member(1, 1), "m1")])?;
        rows.put_batch(&batch(1).closed(at(5)))?;
        Err::<(), _>(StoreError::Undone)
    });
    assert!(undone.await.is_err());
    assert_eq!(found(store, 1).await?, before);
    assert_eq!(ask(store, |rows| rows.batch(batch_id(2))).await?, None);
    assert!(ask(store, |rows| rows.jobs_of_batch(batch_id(1), Some(id(1)), 9)).await?.is_empty());
    Ok(())
}

/// The jobs of a batch are found by their ids, a few at a time, and listed by whatever is asked for.
pub async fn the_jobs_of_a_batch_are_found_and_listed(store: &dyn Store) -> Kept {
    put_batch(store, batch(1)).await?;
    let jobs =
        [member(3, 1), member(1, 1), member(2, 2), job(4, "default", 0), completed(&member(5, 1), at(5))];
    put(store, &jobs).await?;
    let members = async |after: Option<u128>, limit| -> Result<Vec<JobId>, StoreError> {
        let jobs = ask(store, move |rows| rows.jobs_of_batch(batch_id(1), after.map(id), limit)).await?;
        Ok(jobs.into_iter().map(|job| job.id).collect())
    };
    assert_eq!(members(None, 10).await?, [id(1), id(3), id(5)]);
    assert_eq!(members(None, 1).await?, [id(1)]);
    assert_eq!(members(Some(1), 10).await?, [id(3), id(5)]);
    let listed = async |search: JobSearch| -> Result<Vec<JobId>, StoreError> {
        let search = JobSearch { batch: Some(batch_id(1)), ..search };
        let jobs = ask(store, move |rows| rows.jobs_listed(&search, 10)).await?;
        Ok(jobs.into_iter().map(|job| job.expect("it can be read").id).collect())
    };
    assert_eq!(listed(JobSearch::default()).await?, [id(5), id(3), id(1)]);
    let completed = StateFilter::of(State::Completed, at(9));
    assert_eq!(listed(JobSearch { state: completed, ..JobSearch::default() }).await?, [id(5)]);
    assert_eq!(listed(JobSearch { before: Some(Cursor::Id(id(3))), ..JobSearch::default() }).await?, [id(1)]);
    Ok(())
}

/// Batches are listed by id, the highest first; those that ended before a time are deleted once none of their jobs is left.
pub async fn batches_are_listed_highest_first_and_deleted_when_no_job_is_left(store: &dyn Store) -> Kept {
    for number in [2, 1, 3] {
        put_batch(store, batch(number).closed(at(0)).act(at(number as i64)).0).await?;
    }
    for (number, ended) in [(6, 0), (7, -1)] {
        put_batch(store, batch(number).closed(at(-5)).act(at(ended)).0).await?;
    }
    put_batch(store, batch(4)).await?;
    put(store, &[completed(&member(1, 2), at(1))]).await?;
    let listed = async |before: Option<u128>, limit| -> Result<Vec<u64>, StoreError> {
        let batches = ask(store, move |rows| rows.batches_listed(before.map(batch_id), limit)).await?;
        Ok(batches.into_iter().map(|batch| batch.number).collect())
    };
    assert_eq!(listed(None, 10).await?, [7, 6, 4, 3, 2, 1]);
    assert_eq!(listed(Some(3), 1).await?, [2]);
    for left in [vec![6, 4, 3, 2, 1], vec![4, 3, 2, 1]] {
        write(store, |rows| rows.delete_batches(at(1), 1)).await?;
        assert_eq!(listed(None, 10).await?, left, "the one that ended first goes first");
    }
    let delete = |before| write(store, move |rows| rows.delete_batches(at(before), 10));
    assert_eq!(delete(3).await?, 1, "one has a job still, one ended at the time, and one is open");
    assert_eq!(listed(None, 10).await?, [4, 3, 2]);
    write(store, |rows| rows.delete_ended(&queue("default"), Phase::Completed, at(5), 10)).await?;
    assert_eq!((delete(4).await?, listed(None, 10).await?), (2, vec![4]));
    Ok(())
}
