//! Rules about jobs that are the only ones of their keys.

use midge_core::{Batch, Job, JobEvent, UniqueHold, UniqueKey};
use midge_protocol::api::{BatchCounts, UniqueState, UniqueStates};
use midge_protocol::{BatchId, JobId};

use super::Kept;
use super::fixtures::{after, ask, at, cancelled, completed, id, job, put, queue, running};
use crate::{Content, JobSearch, Store, StoreError, write};

/// A fresh job that is the only one of a key until it has ended.
fn unique(number: u128, key: u8) -> Job {
    let states = UniqueStates([UniqueState::Waiting, UniqueState::Running].into());
    let hold = UniqueHold { key: UniqueKey([key; 16]), states, until: Some(at(1_000)) };
    Job { unique: Some(hold), ..job(number, "default", 0) }
}

/// Writes a job that is to be the only one of its key. Returns the one that is, where it is another.
async fn put_unique(store: &dyn Store, job: Job) -> Result<Option<JobId>, StoreError> {
    write(store, move |rows| Ok(rows.put_unique(&job)?.map(|holder| holder.id))).await
}

async fn there(store: &dyn Store) -> Result<Vec<JobId>, StoreError> {
    let mut ids: Vec<JobId> = ask(store, |rows| rows.jobs_listed(&JobSearch::default(), 100))
        .await?
        .into_iter()
        .map(|job| job.map_or_else(|job| job.id, |job| job.id))
        .collect();
    ids.sort();
    Ok(ids)
}

/// Of each key there is one job, which is returned as it was written to whoever comes with another.
pub async fn a_key_has_one_job(store: &dyn Store) -> Kept {
    assert_eq!(put_unique(store, unique(1, 7)).await?, None);
    assert_eq!(put_unique(store, unique(2, 7)).await?, Some(id(1)));
    assert_eq!(put_unique(store, unique(3, 8)).await?, None);
    let holder = write(store, |rows| rows.put_unique(&unique(4, 7))).await?;
    assert_eq!(holder, Some(unique(1, 7)));
    assert_eq!(there(store).await?, [id(1), id(3)]);
    assert_eq!(ask(store, |rows| rows.jobs_waiting(&queue("default"))).await?, 2, "both are counted, once");
    let due = ask(store, |rows| rows.jobs_due(&queue("default"), None, at(5), 10)).await?;
    assert_eq!(due, [unique(1, 7), unique(3, 8)]);
    Ok(())
}

/// A job that is the only one of its key is a job of its batch, and one that is not added is not.
pub async fn only_what_is_added_counts_in_its_batch(store: &dyn Store) -> Kept {
    let of_batch = BatchId::from_bytes([3; 16]);
    let member = |number| {
        let mut job = unique(number, 7).pending();
        job.links.batch = Some(of_batch);
        job
    };
    write(store, move |rows| rows.put_batch(&Batch::new(of_batch, 1, String::new(), 0, at(0)))).await?;
    assert_eq!(put_unique(store, member(1)).await?, None);
    assert_eq!(put_unique(store, member(2)).await?, Some(id(1)));
    let batch = ask(store, move |rows| rows.batch(of_batch)).await?.expect("it was written");
    assert_eq!(batch.counts, BatchCounts { pending: 1, ..BatchCounts::default() });
    let jobs = ask(store, move |rows| rows.jobs_of_batch(of_batch, None, 10)).await?;
    assert_eq!(jobs, [member(1)]);
    Ok(())
}

/// A key is kept to the bit.
pub async fn a_job_is_found_with_its_key_as_it_was_written(store: &dyn Store) -> Kept {
    let keys = [[0; 16], [255; 16], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 128]];
    for (number, key) in keys.into_iter().enumerate() {
        let mut job = unique(number as u128, 0);
        job.unique.as_mut().expect("it has one").key = UniqueKey(key);
        assert_eq!(put_unique(store, job.clone()).await?, None);
        let found = ask(store, move |rows| rows.jobs(&[id(number as u128)])).await?;
        assert_eq!(found, [Some(job)]);
    }
    Ok(())
}

/// A key is free again when its job gave it up or was deleted, and not while it runs.
pub async fn a_key_is_held_until_its_job_gives_it_up(store: &dyn Store) -> Kept {
    put_unique(store, unique(1, 7)).await?;
    put(store, &[running(&unique(1, 7), "m1")]).await?;
    assert_eq!(put_unique(store, unique(2, 7)).await?, Some(id(1)));
    put(store, &[completed(&running(&unique(1, 7), "m1"), at(5))]).await?;
    assert_eq!(put_unique(store, unique(2, 7)).await?, None);
    assert_eq!(put_unique(store, unique(3, 7)).await?, Some(id(2)));
    write(store, |rows| rows.delete_job(id(2))).await?;
    assert_eq!(put_unique(store, unique(3, 7)).await?, None);
    put(store, &[cancelled(&unique(3, 7), at(6))]).await?;
    put(store, &[after(&cancelled(&unique(3, 7), at(6)), JobEvent::RetryAsked, at(7))]).await?;
    assert_eq!(put_unique(store, unique(4, 7)).await?, None, "a retry takes nothing back");
    Ok(())
}

/// What a transaction that fails wrote or gave up is as it was.
pub async fn a_key_is_as_it_was_after_work_that_fails(store: &dyn Store) -> Kept {
    put_unique(store, unique(1, 7)).await?;
    let failed: Result<(), StoreError> = write(store, |rows| {
        rows.put_jobs(&[cancelled(&unique(1, 7), at(5))])?;
        assert_eq!(rows.put_unique(&unique(2, 7))?, None);
        assert_eq!(rows.put_unique(&unique(3, 9))?, None);
        Err(StoreError::Failed("no".to_owned()))
    })
    .await;
    assert!(failed.is_err());
    assert_eq!(put_unique(store, unique(4, 7)).await?, Some(id(1)));
    assert_eq!(put_unique(store, unique(4, 9)).await?, None);
    assert_eq!(there(store).await?, [id(1), id(4)]);
    Ok(())
}

/// Bytes that are deleted are as if none had been written.
pub async fn bytes_are_deleted(store: &dyn Store) -> Kept {
    write(store, |rows| {
        rows.put_content(id(1), Content::Args, b"{}")?;
        rows.put_content(id(1), Content::Input, b"in")?;
        rows.delete_content(id(1), Content::Input)?;
        rows.delete_content(id(2), Content::Input)
    })
    .await?;
    assert_eq!(ask(store, |rows| rows.content(id(1), Content::Input)).await?, None);
    assert_eq!(ask(store, |rows| rows.content(id(1), Content::Args)).await?.as_deref(), Some(&b"{}"[..]));
    Ok(())
}
