//! Rules about groups of failures, and about sweeps.

use midge_core::{FAILURE_GROUPS_MAX, FAILURE_OPEN_MAX, Job, JobEvent, Sweep};
use midge_protocol::api::{Action, Cursor, FailureGroup, FailuresCursor, JobCount, JobFilter};
use midge_protocol::exchange::Outcome;
use midge_protocol::job::{Cause, Failure};
use midge_protocol::{Fingerprint, Lease, ModuleName, Timestamp};

use super::Kept;
use super::fixtures::{after, ask, at, cancelled, completed, id, job, machine_name, module, put, running};
use crate::{Store, StoreError, write};

fn group(number: u64, last_seen: i64) -> FailureGroup {
    FailureGroup {
        fingerprint: Fingerprint(number),
        module: module(if number.is_multiple_of(2) { "hello" } else { "resize" }),
        cause: Cause::Trap,
        message: "it said \"no\"\n\u{1F99F}".to_owned(),
        count: u64::MAX,
        first_seen: Timestamp::EARLIEST,
        last_seen: at(last_seen),
        first_generation: "g1".to_owned(),
        last_generation: "g2".to_owned(),
        job: id(number.into()),
    }
}

async fn groups(store: &dyn Store, of: Option<ModuleName>, limit: usize) -> Result<Vec<u64>, StoreError> {
    let groups = ask(store, move |rows| rows.failure_groups(of.as_ref(), None, limit)).await?;
    Ok(groups.iter().map(|group| group.fingerprint.0).collect())
}

/// A group is found with every field as it was written, and groups are listed the one that was seen last first.
pub async fn groups_are_found_as_written_the_last_seen_first(store: &dyn Store) -> Kept {
    write(store, |rows| {
        [group(1, 30), group(u64::MAX, 10), group(2, 20)]
            .iter()
            .try_for_each(|group| rows.put_failure_group(group))
    })
    .await?;
    let found = ask(store, |rows| rows.failure_group(Fingerprint(u64::MAX))).await?;
    assert_eq!(found, Some(group(u64::MAX, 10)));
    assert_eq!(ask(store, |rows| rows.failure_group(Fingerprint(9))).await?, None);
    assert_eq!(groups(store, None, 10).await?, [1, 2, u64::MAX]);
    assert_eq!(groups(store, None, 2).await?, [1, 2]);
    assert_eq!(groups(store, Some(module("hello")), 10).await?, [2]);
    write(store, |rows| rows.put_failure_group(&group(2, 40))).await?;
    assert_eq!(groups(store, None, 10).await?, [2, 1, u64::MAX]);
    Ok(())
}

/// Pages of groups have each of them once, also of those that were seen at the same time.
pub async fn groups_are_listed_page_by_page(store: &dyn Store) -> Kept {
    let numbers = [0, 1, 2, 3, i64::MAX as u64, u64::MAX, u64::MAX - 1];
    write(store, move |rows| {
        numbers.iter().try_for_each(|number| rows.put_failure_group(&group(*number, (number % 2) as i64)))
    })
    .await?;
    for of in [None, Some(module("hello")), Some(module("resize"))] {
        let all = groups(store, of.clone(), 20).await?;
        for limit in 1..=all.len() {
            let (mut found, mut before) = (Vec::new(), None);
            loop {
                let module = of.clone();
                let page =
                    ask(store, move |rows| rows.failure_groups(module.as_ref(), before, limit)).await?;
                let Some(last) = page.last() else { break };
                before = Some(FailuresCursor { at: last.last_seen, fingerprint: last.fingerprint });
                found.extend(page.iter().map(|group| group.fingerprint.0));
            }
            assert_eq!(found, all, "in pages of {limit}");
        }
    }
    Ok(())
}

/// Groups that were last seen before a time are deleted, a few at once.
pub async fn groups_that_were_seen_long_ago_are_deleted(store: &dyn Store) -> Kept {
    write(store, |rows| {
        (0..10).try_for_each(|number| rows.put_failure_group(&group(number, 9 - number as i64)))
    })
    .await?;
    assert_eq!(write(store, |rows| rows.delete_failure_groups(at(8), 5)).await?, 5);
    assert_eq!(groups(store, None, 20).await?, [0, 1, 2, 3, 4], "those seen longest ago went first");
    assert_eq!(write(store, |rows| rows.delete_failure_groups(at(8), 5)).await?, 3);
    assert_eq!(groups(store, None, 20).await?, [0, 1]);
    Ok(())
}

/// There are never more groups than may be: a new one takes the place of the one that was seen longest ago.
pub async fn a_new_group_takes_the_place_of_the_oldest(store: &dyn Store) -> Kept {
    let most = FAILURE_GROUPS_MAX as u64;
    write(store, move |rows| {
        (0..most).try_for_each(|number| rows.put_failure_group(&group(number, 100 + number as i64)))
    })
    .await?;
    write(store, move |rows| rows.put_failure_group(&group(0, 1_000_000))).await?;
    assert_eq!(groups(store, None, usize::MAX).await?.len(), FAILURE_GROUPS_MAX);
    write(store, move |rows| rows.put_failure_group(&group(most, 1_000_001))).await?;
    let left = groups(store, None, usize::MAX).await?;
    assert_eq!(left.len(), FAILURE_GROUPS_MAX);
    assert!(
        left.starts_with(&[most, 0]) && !left.contains(&1),
        "0 was seen again, so that 1 was seen longest ago"
    );
    Ok(())
}

/// What an event brings is written as one: the job, the attempt, and the failure in its group, by which the job is found.
pub async fn a_failure_is_counted_with_the_change_that_brought_it(store: &dyn Store) -> Kept {
    let failed = |job: &Job, text: &str, when| {
        let lease = Lease { machine: machine_name("m1"), attempt: job.attempt };
        let outcome = Outcome::Failed(Failure::new(Cause::Exit, text));
        job.apply(JobEvent::Finished { lease, outcome, usage: None, jitter: 0.0 }, at(when))
            .expect("it applies")
    };
    let first = failed(&running(&job(1, "default", 0), "m1"), "row 12 is locked", 10);
    let second = failed(&running(&job(2, "default", 0), "m1"), "row 7 is locked", 20);
    let fingerprint = first.job.fingerprint().expect("it failed");
    let (before, after) = (first.clone(), second.clone());
    write(store, move |rows| {
        rows.put_change(&before, "g1")?;
        rows.put_change(&after, "g2")
    })
    .await?;
    let group = ask(store, move |rows| rows.failure_group(fingerprint)).await?.expect("it was counted");
    assert_eq!((group.count, group.first_seen, group.last_seen, group.job), (2, at(10), at(20), id(2)));
    assert_eq!((group.first_generation.as_str(), group.last_generation.as_str()), ("g1", "g2"));
    let undone: Result<(), StoreError> = write(store, move |rows| {
        rows.put_change(&first, "g3")?;
        Err(StoreError::Failed("on purpose".to_owned()))
    })
    .await;
    assert!(undone.is_err());
    let again = ask(store, move |rows| rows.failure_group(fingerprint)).await?;
    assert_eq!(again, Some(group), "what was undone was not counted");
    Ok(())
}

/// The open jobs of a group are those that failed so last and are not over, counted as far as the core says.
pub async fn the_jobs_that_failed_so_last_are_counted_as_far_as_people_care(store: &dyn Store) -> Kept {
    let fails = |number| {
        let runs = running(&job(number, "default", 0), "m1");
        let lease = Lease { machine: machine_name("m1"), attempt: runs.attempt };
        let outcome = Outcome::Failed(Failure::new(Cause::Exit, format!("no user {number}")));
        let event = JobEvent::Finished { lease, outcome, usage: None, jitter: 0.0 };
        after(&runs, event, at(10))
    };
    let failed: Vec<Job> = (0..u128::from(FAILURE_OPEN_MAX) + 2).map(fails).collect();
    let fingerprint = failed[0].fingerprint().expect("a failure has one");
    let open = async || ask(store, move |rows| rows.failure_open(fingerprint)).await;
    assert_eq!(open().await?, JobCount { jobs: 0, exact: true });
    let (first, others) = failed.split_at(2);
    put(store, first).await?;
    put(store, &[job(1_000_000, "default", 0)]).await?;
    assert_eq!(open().await?, JobCount { jobs: 2, exact: true });
    let again = after(&first[0], JobEvent::RetryAsked, at(20));
    let again = running(&again, "m1");
    put(store, &[completed(&again, at(30))]).await?;
    assert_eq!(open().await?, JobCount { jobs: 1, exact: true }, "one has completed");
    put(store, &[cancelled(&first[1], at(30))]).await?;
    assert_eq!(open().await?, JobCount { jobs: 1, exact: true }, "one was cancelled, and may be retried");
    write(store, |rows| rows.delete_job(id(1))).await?;
    put(store, others).await?;
    assert_eq!(open().await?, JobCount { jobs: FAILURE_OPEN_MAX, exact: true });
    put(store, first).await?;
    assert_eq!(open().await?, JobCount { jobs: FAILURE_OPEN_MAX, exact: false });
    Ok(())
}

/// A sweep is found with every field as it was written, by its number, until it is deleted.
pub async fn a_sweep_is_found_as_it_was_written(store: &dyn Store) -> Kept {
    let sweep = |number| {
        let filter = JobFilter {
            tag: "a".parse().ok(),
            text: Some("\"\n\u{1F99F}".to_owned()),
            ..JobFilter::default()
        };
        let fitted = JobCount { jobs: u64::MAX, exact: false };
        let mut sweep = Sweep::new(number, Action::Priority(-100), filter, fitted, at(5));
        sweep.could_not(id(3), "it runs".to_owned());
        sweep.stepped(Some(Cursor::Failed { at: Timestamp::EARLIEST, id: id(7) }), at(6));
        sweep
    };
    write(store, move |rows| {
        [3, 1, i64::MAX as u64].iter().try_for_each(|number| rows.put_sweep(&sweep(*number)))
    })
    .await?;
    assert_eq!(ask(store, |rows| rows.sweeps()).await?, [1, 3, i64::MAX as u64].map(sweep));
    assert_eq!(ask(store, |rows| rows.sweep(3)).await?, Some(sweep(3)));
    assert_eq!(ask(store, |rows| rows.sweep(2)).await?, None);
    let mut ended = sweep(3);
    ended.stepped(None, at(9));
    let written = ended.clone();
    write(store, move |rows| rows.put_sweep(&written)).await?;
    assert_eq!(ask(store, |rows| rows.sweep(3)).await?, Some(ended));
    write(store, |rows| rows.delete_sweep(3)).await?;
    assert_eq!(ask(store, |rows| rows.sweep(3)).await?, None);
    Ok(())
}
