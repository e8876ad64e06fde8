//! Rules about held jobs, and what is kept of modules.

use std::collections::BTreeMap;

use midge_core::{Job, JobEvent, ModuleRow, StateFilter};
use midge_protocol::api::Pause;
use midge_protocol::job::State;
use midge_protocol::{JobId, JobKey, ModuleName, Timestamp};

use super::Kept;
use super::fixtures::{after, ask, at, cancelled, failed, id, job, job_of, module, put, queue};
use crate::{JobSearch, Store, StoreError, write};

fn held(job: &Job) -> Job {
    after(job, JobEvent::Held, job.due())
}

async fn modules_held(store: &dyn Store) -> Result<BTreeMap<ModuleName, u64>, StoreError> {
    ask(store, |rows| rows.modules_held()).await
}

async fn jobs_held(store: &dyn Store, name: &str, limit: usize) -> Result<Vec<JobId>, StoreError> {
    let name = module(name);
    let jobs = ask(store, move |rows| rows.jobs_held(&name, limit)).await?;
    Ok(jobs.into_iter().map(|job| job.id).collect())
}

/// A held job is in no line and in no lane, and is found, listed and counted as one that waits.
pub async fn a_held_job_waits_in_no_line(store: &dyn Store) -> Kept {
    let key = JobKey::new("tenant").expect("a key");
    let jobs = [
        job_of(1, "default", "mail", 0),
        Job { key: Some(key.clone()), ..job_of(2, "default", "mail", 0) },
        Job { priority: -3, ..job_of(3, "other", "mail", 0) },
        job_of(4, "default", "report", 1),
    ];
    put(store, &jobs).await?;
    put(store, &jobs[..3].iter().map(held).collect::<Vec<Job>>()).await?;
    for (name, of) in [("default", None), ("default", Some(key.clone())), ("other", None)] {
        let due = ask(store, move |rows| rows.jobs_due(&queue(name), of.as_ref(), at(5), 10)).await?;
        assert!(due.iter().all(|job| job.id == id(4)), "{due:?}");
    }
    assert_eq!(ask(store, move |rows| rows.lane(&queue("default"), &key)).await?, None);
    assert_eq!(ask(store, |rows| rows.next_due(at(0))).await?, Some(at(1)));
    assert_eq!(ask(store, |rows| rows.jobs_waiting(&queue("default"))).await?, 3);
    let counts = ask(store, |rows| rows.job_counts(at(5))).await?;
    let of = |name: &str| {
        let counts = &counts[&queue(name)];
        (counts.in_state(State::Available), counts.in_line(), counts.oldest_due)
    };
    assert_eq!((of("default"), of("other")), ((3, 1, Some(at(1))), (1, 0, None)));
    let search = JobSearch { state: StateFilter::of(State::Available, at(5)), ..JobSearch::default() };
    let listed = ask(store, move |rows| rows.jobs_listed(&search, 10)).await?;
    let listed: Vec<JobId> = listed.into_iter().map(|job| job.expect("it can be read").id).collect();
    assert_eq!(listed, [id(4), id(3), id(2), id(1)]);
    Ok(())
}

/// Held jobs are found by their module, those of one queue after the other, until they are released or gone.
pub async fn held_jobs_are_found_by_their_module(store: &dyn Store) -> Kept {
    let jobs = [
        job_of(1, "default", "mail", 0),
        job_of(2, "default", "mail", 0),
        job_of(3, "a", "mail", 0),
        failed(&job_of(4, "default", "report", 0), at(0)),
    ];
    put(store, &jobs.iter().map(held).collect::<Vec<Job>>()).await?;
    assert_eq!(modules_held(store).await?, [(module("mail"), 3), (module("report"), 1)].into());
    assert_eq!(jobs_held(store, "mail", 10).await?, [id(3), id(1), id(2)]);
    assert_eq!(jobs_held(store, "mail", 2).await?, [id(3), id(1)]);
    assert_eq!(jobs_held(store, "none", 2).await?, []);
    let released = after(&held(&jobs[3]), JobEvent::Released, at(9));
    put(store, &[released, cancelled(&held(&jobs[0]), at(9))]).await?;
    write(store, |rows| rows.delete_job(id(2))).await?;
    assert_eq!(modules_held(store).await?, [(module("mail"), 1)].into());
    let undone = write(store, |rows| -> Result<(), StoreError> {
        rows.put_jobs(&[held(&job(5, "default", 0))])?;
        rows.delete_job(id(3))?;
        Err(StoreError::Failed("the work is not wanted".to_owned()))
    });
    assert!(undone.await.is_err());
    assert_eq!(modules_held(store).await?, [(module("mail"), 1)].into());
    assert_eq!(jobs_held(store, "mail", 10).await?, [id(3)]);
    let due = Timestamp::LATEST;
    let found = ask(store, move |rows| rows.jobs_due(&queue("default"), None, due, 10)).await?;
    assert_eq!(found.iter().map(|job| job.id).collect::<Vec<JobId>>(), [id(4)]);
    Ok(())
}

/// A module's row is found as it was written, and one of which nothing is kept is none.
pub async fn a_module_is_found_as_it_was_written(store: &dyn Store) -> Kept {
    let pause = Pause { since: at(1), until: None, reason: "a \"deploy\"".into(), by: "\u{1F99F}".into() };
    let row = ModuleRow { pause: Some(pause), lack: None };
    let written = row.clone();
    write(store, move |rows| rows.put_module(&module("mail"), &written)).await?;
    assert_eq!(ask(store, |rows| rows.modules()).await?, [(module("mail"), row)].into());
    write(store, |rows| rows.put_module(&module("mail"), &ModuleRow::default())).await?;
    assert!(ask(store, |rows| rows.modules()).await?.is_empty());
    Ok(())
}
