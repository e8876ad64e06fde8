//! Rules about the bytes that belong to jobs.

use bytes::Bytes;
use midge_protocol::job::{AttemptView, Cause, Failure, Usage};
use midge_protocol::{AttemptNumber, AttemptRange, Dollars, JobId, limits};

use super::Kept;
use super::fixtures::{ask, at, id, machine_name};
use crate::{Content, Store, StoreError, write};

const ONE: AttemptNumber = AttemptNumber(1);
const TWO: AttemptNumber = AttemptNumber(2);

async fn content(store: &dyn Store, job: JobId, content: Content) -> Result<Option<Bytes>, StoreError> {
    ask(store, move |rows| rows.content(job, content)).await
}

async fn append(store: &dyn Store, offset: u64, bytes: &'static [u8]) -> Kept {
    write(store, move |rows| rows.append_log(id(1), ONE, offset, bytes)).await
}

async fn log(store: &dyn Store, job: JobId, attempt: AttemptNumber) -> Result<Bytes, StoreError> {
    ask(store, move |rows| rows.log(job, attempt)).await
}

/// Bytes are read as they were written, up to the largest input there may be, and each kind apart.
pub async fn bytes_are_kept_to_the_byte(store: &dyn Store) -> Kept {
    let large: Vec<u8> = (0..limits::INPUT_BYTES_MAX).map(|n| (n % 251) as u8).collect();
    let input = large.clone();
    write(store, move |rows| {
        rows.put_content(id(1), Content::Args, b"{\"a\": 1}")?;
        rows.put_content(id(1), Content::Input, &input)?;
        rows.put_content(id(2), Content::Result, &[0, 255, 10])
    })
    .await?;
    assert_eq!(content(store, id(1), Content::Args).await?.as_deref(), Some(&b"{\"a\": 1}"[..]));
    assert!(content(store, id(1), Content::Input).await?.as_deref() == Some(&large[..]));
    assert_eq!(content(store, id(1), Content::Result).await?, None);
    assert_eq!(content(store, id(2), Content::Args).await?, None);
    assert_eq!(content(store, id(2), Content::Result).await?.as_deref(), Some(&[0, 255, 10][..]));
    Ok(())
}

/// Bytes that are written again replace those before: a job that is retried by hand gives another result.
pub async fn bytes_are_written_over(store: &dyn Store) -> Kept {
    for bytes in [&b"first"[..], b"second"] {
        write(store, move |rows| rows.put_content(id(1), Content::Result, bytes)).await?;
        assert_eq!(content(store, id(1), Content::Result).await?.as_deref(), Some(bytes));
    }
    Ok(())
}

/// No bytes at all are read as that, and not as nothing: an empty input is an input.
pub async fn no_bytes_are_not_the_same_as_nothing(store: &dyn Store) -> Kept {
    write(store, |rows| rows.put_content(id(1), Content::Input, b"")).await?;
    assert_eq!(content(store, id(1), Content::Input).await?.as_deref(), Some(&b""[..]));
    assert_eq!(content(store, id(1), Content::Args).await?, None);
    Ok(())
}

/// A log is all of its pieces, each of which begins where the one before ended.
pub async fn a_log_grows_by_its_pieces(store: &dyn Store) -> Kept {
    assert_eq!(&log(store, id(1), ONE).await?[..], b"");
    append(store, 0, b"one ").await?;
    append(store, 4, b"two ").await?;
    append(store, 8, b"").await?;
    append(store, 8, b"three").await?;
    assert_eq!(&log(store, id(1), ONE).await?[..], b"one two three");
    Ok(())
}

/// Of a piece that a host repeats, since it got no answer, only what is new is added.
pub async fn a_repeated_log_piece_is_not_written_twice(store: &dyn Store) -> Kept {
    append(store, 0, b"one ").await?;
    append(store, 0, b"one ").await?;
    append(store, 0, b"one two ").await?;
    append(store, 4, b"two three").await?;
    append(store, 2, b"e t").await?;
    assert_eq!(&log(store, id(1), ONE).await?[..], b"one two three");
    Ok(())
}

/// A piece that begins after the log's end is left out, and the rest of the work is done.
pub async fn a_log_piece_after_a_gap_is_left_out(store: &dyn Store) -> Kept {
    append(store, 0, b"one ").await?;
    write(store, |rows| {
        rows.append_log(id(1), ONE, 9, b"three")?;
        rows.append_log(id(1), TWO, u64::MAX, b"three")?;
        rows.put_setting("key", "value")
    })
    .await?;
    assert_eq!(&log(store, id(1), ONE).await?[..], b"one ");
    assert_eq!(&log(store, id(1), TWO).await?[..], b"");
    assert_eq!(ask(store, |rows| rows.setting("key")).await?.as_deref(), Some("value"));
    append(store, 4, b"two").await?;
    assert_eq!(&log(store, id(1), ONE).await?[..], b"one two");
    Ok(())
}

/// A log is read from any byte on, whatever its pieces are: a follower goes on where it was.
pub async fn a_log_is_read_from_any_byte_on(store: &dyn Store) -> Kept {
    append(store, 0, b"one ").await?;
    append(store, 4, b"two ").await?;
    append(store, 8, b"three").await?;
    write(store, |rows| rows.append_log(id(1), TWO, 0, b"another")).await?;
    let whole = b"one two three";
    for offset in 0..whole.len() + 2 {
        for most in [0, 1, 3, 4, 5, 8, 100] {
            let piece = ask(store, move |rows| rows.log_from(id(1), ONE, offset as u64, most)).await?;
            let from = whole.get(offset..).unwrap_or_default();
            assert_eq!(&piece[..], &from[..from.len().min(most)], "{most} from {offset}");
        }
    }
    for offset in [i64::MAX as u64, u64::MAX] {
        assert!(ask(store, move |rows| rows.log_from(id(1), ONE, offset, usize::MAX)).await?.is_empty());
    }
    assert!(ask(store, |rows| rows.log_from(id(2), ONE, 0, usize::MAX)).await?.is_empty());
    Ok(())
}

/// A log is of one attempt at one job.
pub async fn every_attempt_has_its_own_log(store: &dyn Store) -> Kept {
    write(store, |rows| {
        rows.append_log(id(1), ONE, 0, b"first")?;
        rows.append_log(id(1), TWO, 0, b"second")?;
        rows.append_log(id(2), ONE, 0, b"other")
    })
    .await?;
    assert_eq!(&log(store, id(1), ONE).await?[..], b"first");
    assert_eq!(&log(store, id(1), TWO).await?[..], b"second");
    assert_eq!(&log(store, id(2), ONE).await?[..], b"other");
    Ok(())
}

fn view(attempt: AttemptNumber, message: &str) -> AttemptView {
    AttemptView {
        attempt,
        machine: machine_name("m1"),
        scheduled_at: at(0),
        started_at: at(1),
        ended_at: at(2),
        spent: true,
        failure: Some(Failure::new(Cause::OverTime, message)),
        usage: Some(Usage { ran_us: 1, cpu_us: 2, memory_peak_bytes: 3, share_us: 4 }),
        cost: Some(Dollars::from_nanos(u64::MAX)),
    }
}

/// Attempts are read by number, each as it was written last.
pub async fn attempts_are_oldest_first(store: &dyn Store) -> Kept {
    let views = [view(TWO, "b"), view(ONE, "first"), view(AttemptNumber(10), "c"), view(ONE, "a")];
    let expected = [Ok(views[3].clone()), Ok(views[0].clone()), Ok(views[2].clone())];
    write(store, move |rows| views.iter().try_for_each(|view| rows.put_attempt(id(1), view))).await?;
    assert_eq!(ask(store, |rows| rows.attempts(id(1))).await?, expected);
    assert_eq!(ask(store, |rows| rows.attempts(id(2))).await?, []);
    Ok(())
}

/// Attempts of one job are deleted with their logs, those before and after them are not, and work that fails deletes none.
pub async fn attempts_are_deleted_with_their_logs(store: &dyn Store) -> Kept {
    let numbers = 1..=5;
    write(store, move |rows| {
        for attempt in numbers.clone().map(AttemptNumber) {
            for job in [id(1), id(2)] {
                rows.put_attempt(job, &view(attempt, "x"))?;
                rows.append_log(job, attempt, 0, b"a")?;
                rows.append_log(job, attempt, 1, b"b")?;
            }
        }
        Ok::<_, StoreError>(())
    })
    .await?;
    let kept = async |job| {
        ask(store, move |rows| {
            let attempts = rows.attempts(job)?.into_iter().map(|view| view.unwrap().attempt.0).collect();
            let logs = (1..=6).filter(|number| !rows.log(job, AttemptNumber(*number)).unwrap().is_empty());
            Ok::<(Vec<u32>, Vec<u32>), StoreError>((attempts, logs.collect()))
        })
        .await
    };
    let range = AttemptRange { first: TWO, last: AttemptNumber(4) };
    let failed = write(store, move |rows| {
        rows.delete_attempts(id(1), range)?;
        Err::<(), _>(StoreError::Failed("no".to_owned()))
    });
    assert!(failed.await.is_err());
    assert_eq!(kept(id(1)).await?, ((1..=5).collect(), (1..=5).collect()));
    write(store, move |rows| rows.delete_attempts(id(1), range)).await?;
    assert_eq!(kept(id(1)).await?, (vec![1, 5], vec![1, 5]));
    assert_eq!(kept(id(2)).await?, ((1..=5).collect(), (1..=5).collect()));
    Ok(())
}
