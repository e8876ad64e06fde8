//! Rules about jobs that wait for others.

use midge_core::{DependencyEnd, Job, JobEvent};
use midge_protocol::JobId;
use midge_protocol::job::AfterFailed;

use super::Kept;
use super::fixtures::{after, ask, at, cancelled, completed, discarded, id, job, put, queue, running};
use crate::{Dependent, Store, StoreError, UntoldEnd, write};

/// A job that others wait for.
fn waited_for(number: u128) -> Job {
    job(number, "default", 0).with_dependents()
}

/// Writes a pending job with what it waits for.
async fn put_pending(store: &dyn Store, number: u128, on: &[u128]) -> Kept {
    let pending = job(number, "default", 0).pending();
    let on: Vec<JobId> = on.iter().map(|on| id(*on)).collect();
    write(store, move |rows| {
        rows.put_jobs(std::slice::from_ref(&pending))?;
        rows.put_dependencies(pending.id, &on)
    })
    .await
}

async fn waits_for(store: &dyn Store, number: u128) -> Result<(u64, Vec<JobId>), StoreError> {
    ask(store, move |rows| rows.dependencies(id(number), 10)).await
}

async fn next(store: &dyn Store) -> Result<Option<UntoldEnd>, StoreError> {
    ask(store, |rows| rows.next_untold_end()).await
}

/// The end that is to be told next; there is one.
async fn some_end(store: &dyn Store) -> Result<UntoldEnd, StoreError> {
    Ok(next(store).await?.expect("somebody is to be told of an end"))
}

async fn dependents(store: &dyn Store, of: UntoldEnd, limit: usize) -> Result<Vec<Dependent>, StoreError> {
    ask(store, move |rows| rows.dependents(&of, limit)).await
}

fn ids(dependents: &[Dependent]) -> Vec<JobId> {
    dependents.iter().map(|dependent| dependent.job.id).collect()
}

/// What a pending job waits for is found in the order in which it was written, until the job waits no more.
pub async fn a_pending_job_waits_for_others_until_it_is_pending_no_more(store: &dyn Store) -> Kept {
    for number in [1, 2, 3] {
        put(store, &[waited_for(number)]).await?;
    }
    put_pending(store, 4, &[3, 1, 2]).await?;
    assert_eq!(waits_for(store, 4).await?, (3, vec![id(3), id(1), id(2)]));
    assert_eq!(ask(store, |rows| rows.dependencies(id(4), 1)).await?, (3, vec![id(3)]));
    assert_eq!(waits_for(store, 1).await?, (0, vec![]));
    let pending = job(4, "default", 0).pending();
    let written_again = Job { priority: 5, ..pending.clone() };
    put(store, &[written_again]).await?;
    assert_eq!(waits_for(store, 4).await?.0, 3, "it is pending still");
    let ends = [JobEvent::Met, JobEvent::CancelAsked, JobEvent::RetryAsked];
    for (number, event) in (5_u128..).zip(ends) {
        put_pending(store, number, &[1, 2]).await?;
        put(store, &[after(&job(number, "default", 0).pending(), event, at(5))]).await?;
        assert_eq!(waits_for(store, number).await?, (0, vec![]), "{number}");
    }
    write(store, |rows| rows.delete_job(id(4))).await?;
    assert_eq!(waits_for(store, 4).await?, (0, vec![]));
    assert_eq!(next(store).await?, None, "nobody has ended that anybody waits for");
    Ok(())
}

/// A job that waits for others is in no line, and is counted and expires as one that waits.
pub async fn a_pending_job_waits_in_no_line(store: &dyn Store) -> Kept {
    put_pending(store, 1, &[2]).await?;
    let expiring = Job { expires_at: Some(at(7)), ..job(3, "default", 0).pending() };
    put(store, std::slice::from_ref(&expiring)).await?;
    let due = ask(store, move |rows| rows.jobs_due(&queue("default"), None, at(9), 10)).await?;
    assert!(due.is_empty(), "{due:?}");
    assert_eq!(ask(store, |rows| rows.next_due(at(-9))).await?, None);
    assert_eq!(ask(store, |rows| rows.jobs_waiting(&queue("default"))).await?, 2);
    assert_eq!(ask(store, |rows| rows.jobs_expired(at(7), 10)).await?, [expiring]);
    assert!(ask(store, |rows| rows.modules_held()).await?.is_empty());
    Ok(())
}

/// The end of a job is to be told to those that wait for it, and of one that nobody waits for there is nothing to tell.
pub async fn those_that_wait_for_a_job_are_told_how_it_ended(store: &dyn Store) -> Kept {
    let ends = [
        (completed(&waited_for(1), at(5)), DependencyEnd::Completed),
        (cancelled(&waited_for(2), at(5)), DependencyEnd::Cancelled),
        (discarded(&waited_for(3), at(5)), DependencyEnd::Discarded),
    ];
    let lonely = job(9, "default", 0);
    put(store, &[waited_for(1), waited_for(2), waited_for(3), lonely.clone()]).await?;
    put_pending(store, 11, &[1, 2, 3]).await?;
    put_pending(store, 12, &[3]).await?;
    put(store, &[completed(&lonely, at(5)), running(&waited_for(8), "m1")]).await?;
    assert_eq!(next(store).await?, None);
    for (job, end) in ends {
        let alone = job.id != id(3);
        put(store, std::slice::from_ref(&job)).await?;
        let told = some_end(store).await?;
        assert_eq!((told.job, told.end, told.told), (job.id, end, 0));
        let found = dependents(store, told, 10).await?;
        assert_eq!(ids(&found), if alone { vec![id(11)] } else { vec![id(11), id(12)] });
        assert_eq!(found[0].waits_for_others, alone, "{end:?}");
        let first = found[0].clone();
        write(store, move |rows| {
            rows.delete_dependency(&told, &first)?;
            rows.delete_untold_end(&told)
        })
        .await?;
    }
    assert_eq!((waits_for(store, 11).await?.0, waits_for(store, 12).await?.0), (0, 1));
    assert_eq!(next(store).await?, None);
    Ok(())
}

/// Those that wait for a job are told a few at a time, in the order in which they began to wait; who began later waits for
/// another end.
pub async fn those_that_began_to_wait_later_wait_for_another_end(store: &dyn Store) -> Kept {
    put(store, &[waited_for(1)]).await?;
    for number in [14, 13, 12] {
        put_pending(store, number, &[1]).await?;
    }
    let ended = discarded(&waited_for(1), at(5));
    put(store, std::slice::from_ref(&ended)).await?;
    let retried = after(&ended, JobEvent::RetryAsked, at(6));
    put(store, std::slice::from_ref(&retried)).await?;
    // The last that began to wait went, and its number with it.
    put(store, &[cancelled(&job(12, "default", 0).pending(), at(6))]).await?;
    put_pending(store, 11, &[1]).await?;
    let told = some_end(store).await?;
    let first = dependents(store, told, 1).await?;
    assert_eq!(ids(&first), [id(14)]);
    let row = first[0].row;
    write(store, move |rows| rows.put_told(&told, row)).await?;
    let told = some_end(store).await?;
    assert_eq!(ids(&dependents(store, told, 10).await?), [id(13)], "11 began after the end");
    // It ends once more before all are told: both ends are told, the older one first.
    put(store, &[completed(&retried, at(9))]).await?;
    assert_eq!(some_end(store).await?, told);
    write(store, move |rows| rows.delete_untold_end(&told)).await?;
    let told = some_end(store).await?;
    assert_eq!(told.end, DependencyEnd::Completed);
    assert_eq!(ids(&dependents(store, told, 10).await?), [id(14), id(13), id(11)]);
    Ok(())
}

/// Those that wait for a job are told that it is deleted, by hand or since it ended long ago.
pub async fn those_that_wait_for_a_job_are_told_that_it_is_deleted(store: &dyn Store) -> Kept {
    let stays = Job { priority: 1, ..discarded(&waited_for(2), at(5)) };
    put(store, &[waited_for(1), stays.clone()]).await?;
    put_pending(store, 11, &[1]).await?;
    put_pending(store, 12, &[2]).await?;
    write(store, |rows| rows.delete_job(id(1))).await?;
    let told = some_end(store).await?;
    assert_eq!((told.job, told.end), (id(1), DependencyEnd::Deleted));
    assert_eq!(ids(&dependents(store, told, 10).await?), [id(11)]);
    write(store, move |rows| rows.delete_untold_end(&told)).await?;
    let queue = stays.queue.clone();
    write(store, move |rows| rows.delete_ended(&queue, midge_core::Phase::Discarded, at(6), 10)).await?;
    let told = some_end(store).await?;
    assert_eq!((told.job, told.end), (id(2), DependencyEnd::Deleted));
    Ok(())
}

/// Work that fails leaves what jobs waited for, and tells nobody.
pub async fn dependencies_forget_work_that_fails(store: &dyn Store) -> Kept {
    put(store, &[waited_for(1)]).await?;
    put_pending(store, 11, &[1]).await?;
    let undone = write(store, |rows| {
        rows.put_jobs(&[job(12, "default", 0).pending(), completed(&waited_for(1), at(5))])?;
        rows.put_dependencies(id(12), &[id(1)])?;
        rows.delete_job(id(11))?;
        Err::<(), _>(StoreError::Undone)
    });
    assert!(undone.await.is_err());
    assert_eq!((waits_for(store, 11).await?.0, waits_for(store, 12).await?.0), (1, 0));
    assert_eq!(next(store).await?, None);
    put(store, &[completed(&waited_for(1), at(5))]).await?;
    assert_eq!(ids(&dependents(store, some_end(store).await?, 10).await?), [id(11)]);
    Ok(())
}

/// What ties a job to others is found as it was written.
pub async fn links_are_found_as_they_were_written(store: &dyn Store) -> Kept {
    let mut tied = waited_for(1);
    tied.links.after_failed = AfterFailed::Wait;
    put(store, std::slice::from_ref(&tied)).await?;
    assert_eq!(ask(store, |rows| rows.jobs(&[id(1)])).await?, [Some(tied)]);
    Ok(())
}
