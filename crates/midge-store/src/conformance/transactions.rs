//! Rules about transactions.

use midge_protocol::job::State;

use super::Kept;
use super::fixtures::{all, ask, at, completed, failed, id, job, machine, machine_name, put, queue, running};
use crate::{Content, Rows, Store, StoreError, read, write};

/// Writes to every table.
fn write_everywhere(rows: &mut dyn Rows) -> Kept {
    let attempt = running(&job(1, "default", 0), "m1").attempt;
    let change = super::fixtures::running(&job(7, "other", 0), "m1");
    rows.put_jobs(&[running(&job(1, "default", 0), "m1"), job(3, "default", 0), change])?;
    rows.put_content(id(1), Content::Args, b"new args")?;
    rows.append_log(id(1), attempt, 3, b"new log")?;
    rows.append_log(id(3), attempt, 0, b"new log")?;
    rows.put_machine(&machine("m1"))?;
    rows.delete_machine(&machine_name("m0"))?;
    rows.put_setting("key", "new value")?;
    rows.delete_ended(&queue("default"), midge_core::Phase::Completed, at(1_000), 10)?;
    Ok(())
}

/// Everything that [`write_everywhere`] may have changed.
fn look_everywhere(rows: &mut dyn Rows) -> Result<String, StoreError> {
    let attempt = midge_protocol::AttemptNumber(1);
    Ok(format!(
        "{:?}",
        (
            rows.jobs(&[id(1), id(2), id(3), id(7)])?,
            rows.jobs_due(&queue("default"), None, at(1_000_000), 10)?,
            rows.jobs_leased(&machine_name("m1"))?,
            rows.job_counts(at(0))?,
            (rows.content(id(1), Content::Args)?, rows.content(id(2), Content::Result)?),
            (rows.log(id(1), attempt)?, rows.log(id(3), attempt)?, rows.attempts(id(2))?),
            (rows.machines()?, rows.setting("key")?, rows.next_due(at(0))?),
        )
    ))
}

async fn fill(store: &dyn Store) -> Kept {
    write(store, |rows| {
        let done = completed(&running(&job(2, "default", 0), "m9"), at(10));
        rows.put_jobs(&[job(1, "default", 0), done, failed(&job(4, "default", 0), at(0))])?;
        rows.put_content(id(1), Content::Args, b"args")?;
        rows.put_content(id(2), Content::Result, b"result")?;
        rows.append_log(id(1), midge_protocol::AttemptNumber(1), 0, b"log")?;
        rows.put_machine(&machine("m0"))?;
        rows.put_setting("key", "value")
    })
    .await
}

/// Whatever a work wrote before it failed is undone, in every table.
pub async fn work_that_fails_leaves_nothing(store: &dyn Store) -> Kept {
    fill(store).await?;
    let before = ask(store, look_everywhere).await?;
    let failed = write(store, |rows| {
        write_everywhere(rows)?;
        Err::<(), _>(StoreError::Undone)
    })
    .await;
    assert!(matches!(failed, Err(StoreError::Undone)));
    assert_eq!(ask(store, look_everywhere).await?, before);
    write(store, write_everywhere).await?;
    assert_ne!(ask(store, look_everywhere).await?, before, "the work does something where it does not fail");
    Ok(())
}

/// Work that shares a commit with others fails alone.
pub async fn work_that_fails_leaves_the_work_beside_it(store: &dyn Store) -> Kept {
    let works = (0..64_u128).map(|number| -> std::pin::Pin<Box<dyn Future<Output = Kept>>> {
        Box::pin(write(store, move |rows| {
            rows.put_jobs(&[job(number, "default", 0), job(1_000 + number, "default", 5)])?;
            match number % 3 {
                0 => Ok(()),
                1 => Err(StoreError::Undone),
                _ => panic!("on purpose"),
            }
        }))
    });
    let outcomes = all(works.collect()).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.is_ok(), number % 3 == 0, "{number}: {outcome:?}");
    }
    let ids: Vec<_> = (0..64).chain(1_000..1_064).map(id).collect();
    let found = ask(store, move |rows| rows.jobs(&ids)).await?;
    for (number, job) in found.iter().enumerate() {
        assert_eq!(job.is_some(), (number % 64) % 3 == 0, "{number}");
    }
    let counts = ask(store, |rows| rows.job_counts(at(0))).await?;
    let counts = &counts[&queue("default")];
    assert_eq!((counts.waiting(), counts.scheduled, counts.in_state(State::Available)), (44, 22, 22));
    Ok(())
}

/// A panic in work is an error of the work's, and the store goes on.
pub async fn work_that_panics_leaves_nothing(store: &dyn Store) -> Kept {
    fill(store).await?;
    let before = ask(store, look_everywhere).await?;
    for _ in 0..3 {
        let failed = write(store, |rows| {
            write_everywhere(rows)?;
            assert!(!rows.jobs(&[])?.is_empty(), "this was on purpose");
            Ok(())
        })
        .await;
        assert!(matches!(failed, Err(StoreError::Failed(why)) if why.contains("this was on purpose")));
    }
    let failed: Kept = read(store, |_| panic!("this too")).await;
    assert!(matches!(failed, Err(StoreError::Failed(why)) if why.contains("this too")));
    assert_eq!(ask(store, look_everywhere).await?, before);
    Ok(())
}

/// What a caller's work may fail with: a refusal of its own, or the store.
#[derive(Debug)]
enum Refusal {
    QueueFull { jobs: u64 },
    Store(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        Refusal::Store(error)
    }
}

/// An error of the caller's own type comes back as it was, and nothing is there that the work wrote before it.
pub async fn an_error_of_the_callers_comes_back_as_it_was(store: &dyn Store) -> Kept {
    fill(store).await?;
    let before = ask(store, look_everywhere).await?;
    let refused = write(store, |rows| -> Result<(), Refusal> {
        write_everywhere(rows)?;
        Err(Refusal::QueueFull { jobs: 7 })
    })
    .await;
    assert!(matches!(refused, Err(Refusal::QueueFull { jobs: 7 })), "{refused:?}");
    assert_eq!(ask(store, look_everywhere).await?, before);
    let refused = read(store, |_| Err::<(), _>(Refusal::QueueFull { jobs: 8 })).await;
    assert!(matches!(refused, Err(Refusal::QueueFull { jobs: 8 })), "{refused:?}");
    Ok(())
}

/// An error of the store comes as the caller's type, whether the work passed it on or never came to an end.
pub async fn an_error_of_the_store_comes_back_as_the_callers(store: &dyn Store) -> Kept {
    let failed = read(store, |rows| -> Result<(), Refusal> { Ok(rows.put_setting("key", "value")?) }).await;
    assert!(matches!(&failed, Err(Refusal::Store(StoreError::Failed(_)))), "{failed:?}");
    let failed: Result<(), Refusal> = write(store, |_| panic!("on purpose")).await;
    assert!(matches!(&failed, Err(Refusal::Store(StoreError::Failed(_)))), "{failed:?}");
    Ok(())
}

/// A work finds the rows that it wrote itself.
pub async fn work_sees_what_it_wrote(store: &dyn Store) -> Kept {
    fill(store).await?;
    let seen = write(store, |rows| {
        write_everywhere(rows)?;
        look_everywhere(rows)
    })
    .await?;
    assert_eq!(ask(store, look_everywhere).await?, seen);
    Ok(())
}

/// Of works at the same time, each sees all or nothing of the others.
pub async fn work_follows_work(store: &dyn Store) -> Kept {
    let number = |rows: &mut dyn Rows| -> Result<u32, StoreError> {
        Ok(rows.setting("number")?.and_then(|text| text.parse().ok()).unwrap_or(0))
    };
    let works = (0..100).map(|_| -> std::pin::Pin<Box<dyn Future<Output = Kept>>> {
        Box::pin(write(store, move |rows| {
            let next = number(rows)? + 1;
            rows.put_setting("number", &next.to_string())
        }))
    });
    for outcome in all(works.collect()).await {
        outcome?;
    }
    assert_eq!(ask(store, number).await?, 100);
    Ok(())
}

/// What a write that returned has written is there for a read that begins then.
pub async fn a_read_sees_what_was_written_before(store: &dyn Store) -> Kept {
    for number in 0..200 {
        put(store, &[job(number, "default", 0)]).await?;
        let found = read(store, move |rows| rows.jobs(&[id(number)])).await?;
        assert!(found[0].is_some(), "{number}");
    }
    Ok(())
}

/// Each way to write is refused in a read.
pub async fn a_read_cannot_write(store: &dyn Store) -> Kept {
    fill(store).await?;
    let before = ask(store, look_everywhere).await?;
    let attempt = midge_protocol::AttemptNumber(1);
    let writes: [fn(&mut dyn Rows) -> Kept; 7] = [
        |rows| rows.put_jobs(&[job(9, "default", 0)]),
        |rows| rows.delete_ended(&queue("default"), midge_core::Phase::Completed, at(1_000), 10).map(|_| ()),
        |rows| rows.put_content(id(1), Content::Args, b"new"),
        |rows| rows.append_log(id(1), midge_protocol::AttemptNumber(1), 3, b"new"),
        |rows| rows.put_machine(&machine("m0")),
        |rows| rows.delete_machine(&machine_name("m0")),
        |rows| rows.put_setting("key", "new"),
    ];
    for (number, write) in writes.into_iter().enumerate() {
        assert!(read(store, write).await.is_err(), "{number}");
    }
    let view = midge_protocol::job::AttemptView {
        attempt,
        machine: machine_name("m0"),
        scheduled_at: at(0),
        started_at: at(0),
        ended_at: at(0),
        spent: false,
        failure: None,
        usage: None,
        cost: None,
    };
    assert!(read(store, move |rows| rows.put_attempt(id(2), &view)).await.is_err());
    assert_eq!(ask(store, look_everywhere).await?, before);
    Ok(())
}

/// A store that takes work says so.
pub async fn a_store_that_takes_work_says_so(store: &dyn Store) -> Kept {
    store.check()?;
    put(store, &[job(1, "default", 0)]).await?;
    store.check()
}
