//! Rules about schedules.

use midge_core::Schedule;
use midge_protocol::ScheduleName;
use midge_protocol::api::Pause;

use super::Kept;
use super::fixtures::{ask, at, id};
use crate::{Store, write};

fn schedule(name: &str, next: Option<i64>) -> Schedule {
    Schedule {
        name: ScheduleName::new(name).expect("rules use names that are names"),
        clock: u64::MAX,
        done: at(0),
        next: next.map(at),
        pause: None,
        last_job: None,
        removed: None,
    }
}

/// A schedule is found with every field as it was written last, and all of them by name.
pub async fn a_schedule_is_found_as_it_was_written(store: &dyn Store) -> Kept {
    let pause =
        Pause { since: at(3), until: Some(at(9)), reason: String::new(), by: "Ada \"\u{1F99F}\"".into() };
    let first = schedule("nightly", Some(7));
    let second = Schedule {
        next: None,
        pause: Some(pause),
        last_job: Some(id(u128::MAX)),
        removed: Some(at(2)),
        ..first.clone()
    };
    let other = schedule("a", None);
    let put = other.clone();
    write(store, move |rows| rows.put_schedule(&put)).await?;
    for schedule in [first, second] {
        let (put, name) = (schedule.clone(), schedule.name.clone());
        write(store, move |rows| rows.put_schedule(&put)).await?;
        assert_eq!(ask(store, move |rows| rows.schedule(&name)).await?.as_ref(), Some(&schedule));
        assert_eq!(ask(store, |rows| rows.schedules()).await?, [other.clone(), schedule]);
    }
    let nobody = schedule("nobody", None).name;
    assert_eq!(ask(store, move |rows| rows.schedule(&nobody)).await?, None);
    Ok(())
}

/// The next schedule is the soonest of all that have a time, and there is none where none has.
pub async fn the_next_schedule_is_the_soonest(store: &dyn Store) -> Kept {
    assert_eq!(ask(store, |rows| rows.next_schedule()).await?, None);
    let steps = [
        ("a", Some(9), Some(9)),
        ("b", None, Some(9)),
        ("c", Some(-5), Some(-5)),
        ("c", None, Some(9)),
        ("a", None, None),
    ];
    for (name, next, soonest) in steps {
        write(store, move |rows| rows.put_schedule(&schedule(name, next))).await?;
        assert_eq!(ask(store, |rows| rows.next_schedule()).await?, soonest.map(at));
    }
    Ok(())
}

/// A schedule's row is deleted, and to delete it again is no error.
pub async fn a_schedule_is_forgotten(store: &dyn Store) -> Kept {
    write(store, |rows| rows.put_schedule(&schedule("a", Some(1)))).await?;
    for _ in 0..2 {
        write(store, |rows| rows.delete_schedule(&schedule("a", None).name)).await?;
        assert_eq!(ask(store, |rows| rows.schedules()).await?, []);
        assert_eq!(ask(store, |rows| rows.next_schedule()).await?, None);
    }
    Ok(())
}
