//! Rules of how jobs that expire are found, and of what is kept of how a job is tried again.

use midge_core::{Job, JobEvent};
use midge_protocol::exchange::Outcome;
use midge_protocol::job::{Backoff, Cause};
use midge_protocol::{JobId, Timestamp};

use super::Kept;
use super::fixtures::{after, at, cancelled, completed, failed, finished, id, job, put, running};
use crate::{Store, StoreError, read, write};

/// A fresh job that does not start from a time on.
fn expiring(number: u128, queue: &str, expires_at: i64) -> Job {
    Job { expires_at: Some(at(expires_at)), ..job(number, queue, 0) }
}

async fn expired(store: &dyn Store, now: i64, limit: usize) -> Result<Vec<JobId>, StoreError> {
    let jobs = read(store, move |rows| rows.jobs_expired(at(now), limit)).await?;
    Ok(jobs.iter().map(|job| job.id).collect())
}

async fn next_expiry(store: &dyn Store) -> Result<Option<Timestamp>, StoreError> {
    read(store, |rows| rows.next_expiry()).await
}

/// What says how a job is tried again, and when it expires, is kept to its extremes.
pub async fn a_job_is_found_with_how_it_is_tried_again_and_when_it_expires(store: &dyn Store) -> Kept {
    let backoffs = [
        Backoff::Sidekiq,
        Backoff::None,
        Backoff::Exponential { base_ms: 1, cap_ms: u64::MAX },
        Backoff::Fixed { wait_ms: u64::MAX },
        Backoff::List { waits_ms: vec![u64::MAX; 100] },
    ];
    let mut jobs = Vec::new();
    for (number, backoff) in backoffs.iter().enumerate() {
        let mut job = job(number as u128, "default", 0);
        job.retry.backoff = backoff.clone();
        job.retry.jitter_percent = Some(number as u32);
        job.retry.backoff_by_cause = Cause::KNOWN.iter().cloned().zip(backoffs.clone()).collect();
        (job.expires_at, job.retry_until) = (Some(Timestamp::LATEST), Some(Timestamp::EARLIEST));
        jobs.push(job);
    }
    put(store, &jobs).await?;
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let found = read(store, move |rows| rows.jobs(&ids)).await?;
    assert_eq!(found.into_iter().flatten().collect::<Vec<_>>(), jobs);
    Ok(())
}

/// Jobs of every queue are found from their time on, in its order, as many as are asked for.
pub async fn jobs_expired_are_those_whose_time_has_come_soonest_first(store: &dyn Store) -> Kept {
    put(
        store,
        &[
            expiring(1, "default", 30),
            expiring(2, "other", 10),
            expiring(4, "default", 20),
            expiring(3, "other", 20),
            job(5, "default", 0),
        ],
    )
    .await?;
    assert_eq!(expired(store, 9, 10).await?, []);
    assert_eq!(expired(store, 10, 10).await?, [id(2)]);
    assert_eq!(expired(store, 100, 10).await?, [id(2), id(3), id(4), id(1)]);
    assert_eq!(expired(store, 100, 2).await?, [id(2), id(3)]);
    Ok(())
}

/// A job that was started, has ended or was deleted is found no more.
pub async fn only_jobs_that_wait_for_their_first_start_expire(store: &dyn Store) -> Kept {
    let fresh = |number| expiring(number, "default", 10);
    let past = at(20);
    // Each is there first as it was enqueued.
    put(store, &(1..=7).map(fresh).collect::<Vec<_>>()).await?;
    assert_eq!(expired(store, 20, 10).await?.len(), 7);
    put(
        store,
        &[
            running(&fresh(1), "m1"),
            failed(&fresh(2), at(0)),
            finished(&fresh(3), Outcome::HANDED_BACK, at(0)),
            completed(&fresh(4), at(0)),
            cancelled(&fresh(5), at(0)),
            after(&fresh(6), JobEvent::Expired, past),
        ],
    )
    .await?;
    assert_eq!(expired(store, 20, 10).await?, [id(7)]);
    write(store, |rows| rows.delete_job(id(7))).await?;
    assert_eq!((expired(store, 20, 10).await?, next_expiry(store).await?), (vec![], None));
    // One that is retried by hand runs however late it is.
    let retried = after(&after(&fresh(6), JobEvent::Expired, past), JobEvent::RetryAsked, past);
    put(store, &[retried]).await?;
    assert_eq!(expired(store, 20, 10).await?, []);
    Ok(())
}

/// The soonest expiry of all is told, and nothing where no job expires.
pub async fn the_next_expiry_is_the_soonest_whether_it_is_past_or_not(store: &dyn Store) -> Kept {
    assert_eq!(next_expiry(store).await?, None);
    put(store, &[expiring(1, "default", 30), expiring(2, "other", 10), job(3, "default", 0)]).await?;
    assert_eq!(next_expiry(store).await?, Some(at(10)));
    put(store, &[running(&expiring(2, "other", 10), "m1")]).await?;
    assert_eq!(next_expiry(store).await?, Some(at(30)));
    Ok(())
}

/// Work that is undone leaves what is found by expiry as it was.
pub async fn an_expiry_is_forgotten_with_work_that_fails(store: &dyn Store) -> Kept {
    put(store, &[expiring(1, "default", 30)]).await?;
    let undone = write(store, |rows| {
        rows.put_jobs(&[expiring(2, "default", 10), running(&expiring(1, "default", 30), "m1")])?;
        Err::<(), _>(StoreError::Failed("on purpose".to_owned()))
    });
    assert!(undone.await.is_err());
    assert_eq!((next_expiry(store).await?, expired(store, 100, 10).await?), (Some(at(30)), vec![id(1)]));
    Ok(())
}
