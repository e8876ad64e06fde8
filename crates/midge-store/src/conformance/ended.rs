//! Rules about jobs that ended: how long they are kept is said by queue.

use midge_core::Phase;
use midge_protocol::{AttemptNumber, JobId, Timestamp};

use super::Kept;
use super::fixtures::{ask, at, cancelled, completed, discarded, id, job, put, queue};
use crate::{Content, JobSearch, Store, StoreError, write};

async fn delete(
    store: &dyn Store,
    of: &'static str,
    phase: Phase,
    before: Timestamp,
    limit: usize,
) -> Result<usize, StoreError> {
    write(store, move |rows| rows.delete_ended(&queue(of), phase, before, limit)).await
}

async fn first(store: &dyn Store, of: &'static str, phase: Phase) -> Result<Option<Timestamp>, StoreError> {
    ask(store, move |rows| rows.first_ended(&queue(of), phase)).await
}

async fn left(store: &dyn Store) -> Result<Vec<JobId>, StoreError> {
    let listed = ask(store, |rows| rows.jobs_listed(&JobSearch::default(), 1_000)).await?;
    Ok(listed.into_iter().flatten().map(|job| job.id).collect())
}

/// Jobs are deleted of one queue, of one way in which they ended, and those that ended first.
pub async fn jobs_that_ended_are_deleted_queue_by_queue(store: &dyn Store) -> Kept {
    let all = [
        completed(&job(1, "a", 0), at(30)),
        completed(&job(2, "a", 0), at(10)),
        completed(&job(3, "a", 0), at(20)),
        completed(&job(4, "b", 0), at(5)),
        cancelled(&job(5, "a", 0), at(6)),
        discarded(&job(6, "a", 0), at(7)),
        job(7, "a", 0),
    ];
    put(store, &all).await?;
    assert_eq!(first(store, "a", Phase::Completed).await?, Some(at(10)));
    assert_eq!(first(store, "b", Phase::Completed).await?, Some(at(5)));
    assert_eq!(first(store, "a", Phase::Discarded).await?, Some(at(7)));
    for (of, phase) in [("b", Phase::Discarded), ("none", Phase::Completed), ("a", Phase::Fresh)] {
        assert_eq!(first(store, of, phase).await?, None, "{of} {phase:?}");
        assert_eq!(delete(store, of, phase, at(1_000), 10).await?, 0, "{of} {phase:?}");
    }
    assert_eq!(delete(store, "a", Phase::Completed, at(10), 10).await?, 0);
    assert_eq!(delete(store, "a", Phase::Completed, at(1_000), 2).await?, 2);
    assert_eq!(left(store).await?, [7, 6, 5, 4, 1].map(id));
    assert_eq!(first(store, "a", Phase::Completed).await?, Some(at(30)));
    assert_eq!(delete(store, "a", Phase::Completed, at(1_000), usize::MAX).await?, 1);
    assert_eq!(delete(store, "a", Phase::Cancelled, at(1_000), 10).await?, 1);
    assert_eq!(left(store).await?, [7, 6, 4].map(id));
    // A job that is retried by hand has not ended any more, and is not deleted for when it had.
    let retried = discarded(&job(6, "a", 0), at(7));
    let retried = retried.apply(midge_core::JobEvent::RetryAsked, at(8)).expect("it ended").job;
    put(store, &[retried]).await?;
    assert_eq!(first(store, "a", Phase::Discarded).await?, None);
    assert_eq!(delete(store, "a", Phase::Discarded, at(1_000), 10).await?, 0);
    Ok(())
}

/// Jobs with many bytes are deleted few at a time, and at least one.
pub async fn what_is_deleted_at_once_is_bounded_by_its_bytes(store: &dyn Store) -> Kept {
    let jobs: Vec<_> = (1..=6).map(|number| completed(&job(number, "a", 0), at(number as i64))).collect();
    put(store, &jobs).await?;
    write(store, |rows| {
        let large = vec![7; 5 * 1024 * 1024];
        for number in [1, 2, 3, 5] {
            rows.put_content(id(number), Content::Result, &large)?;
        }
        rows.append_log(id(6), AttemptNumber(1), 0, &large)
    })
    .await?;
    for deleted in [2, 3, 1, 0] {
        assert_eq!(delete(store, "a", Phase::Completed, at(1_000), 100).await?, deleted);
    }
    Ok(())
}
