//! Rules about priorities, keys, lanes, and what is kept of queues.

use midge_core::{Bucket, Job, Lane, Phase, QueueRow, Turn, claim_order};
use midge_protocol::api::Pause;
use midge_protocol::{JobId, JobKey, Timestamp};

use super::Kept;
use super::fixtures::{
    Chance, ask, at, cancelled, completed, failed, id, job, machine_name, put, queue, running,
};
use crate::{LanesCome, Store, StoreError, write};

fn key(name: &str) -> JobKey {
    JobKey::new(name).expect("rules use keys that are keys")
}

/// A fresh job of the queue `default` with a key.
fn keyed(number: u128, name: &str, due: i64) -> Job {
    Job { key: Some(key(name)), ..job(number, "default", due) }
}

async fn due(
    store: &dyn Store,
    of: Option<&str>,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<JobId>, StoreError> {
    let of = of.map(key);
    let jobs = ask(store, move |rows| rows.jobs_due(&queue("default"), of.as_ref(), now, limit)).await?;
    Ok(jobs.into_iter().map(|job| job.id).collect())
}

async fn lane(store: &dyn Store, name: &str) -> Result<Option<Lane>, StoreError> {
    let name = key(name);
    ask(store, move |rows| rows.lane(&queue("default"), &name)).await
}

/// The keys of the lanes whose turn has come, and the turns around a time.
async fn come(
    store: &dyn Store,
    now: Timestamp,
) -> Result<(Vec<String>, Option<Turn>, Option<Turn>), StoreError> {
    let LanesCome { lanes, last, next } =
        ask(store, move |rows| rows.lanes_come(&queue("default"), now, 10)).await?;
    for fewer in 0..=lanes.len() {
        let come = ask(store, move |rows| rows.lanes_come(&queue("default"), now, fewer)).await?;
        assert_eq!(come, LanesCome { lanes: lanes[..fewer].to_vec(), last, next });
    }
    Ok((lanes.into_iter().map(|lane| lane.key.to_string()).collect(), last, next))
}

/// Due jobs of a key, or without one, are found in [`claim_order`], whatever their priorities, and none of another key.
pub async fn jobs_of_a_key_are_due_in_the_claim_order_of_the_core(store: &dyn Store) -> Kept {
    let mut chance = Chance::new(7);
    let hours = 60 * 60 * 1_000;
    let mut jobs: Vec<Job> = (0..300)
        .map(|number| {
            let priority = [-100, -1, 0, 0, 1, 2, 100][chance.below(7) as usize];
            let due = -(chance.below(4) as i64 * hours) - chance.below(3) as i64;
            let of = [None, Some(key("a")), Some(key("b"))][chance.below(3) as usize].clone();
            let job = Job { priority, key: of, ..job(number, "default", due) };
            if chance.below(4) == 0 { failed(&job, job.due()) } else { job }
        })
        .collect();
    put(store, &jobs).await?;
    put(store, &[job(1_000, "other", -9 * hours), Job { priority: -100, ..keyed(1_001, "a", hours) }])
        .await?;
    jobs.sort_by_key(claim_order);
    for of in [None, Some("a"), Some("b"), Some("c")] {
        for (now, limit) in [(at(0), 1_000), (at(0), 9), (at(-2 * hours), 1_000), (at(1_000_000), 30)] {
            let wanted = |job: &&Job| job.key.as_ref().map(JobKey::as_str) == of && job.due() <= now;
            let expected: Vec<JobId> = jobs.iter().filter(wanted).map(|job| job.id).take(limit).collect();
            assert_eq!(due(store, of, now, limit).await?, expected, "of {of:?} at {now}");
        }
    }
    Ok(())
}

/// The first due time of a lane is its soonest, of all or after a time, of whatever priority; that of the jobs without a key
/// knows of no other.
pub async fn the_first_due_time_of_a_lane_is_its_soonest(store: &dyn Store) -> Kept {
    let first_due = async |key: Option<&'static str>, after: Option<i64>| {
        let key = key.map(self::key);
        ask(store, move |rows| rows.first_due(&queue("default"), key.as_ref(), after.map(at))).await
    };
    assert_eq!(first_due(None, None).await?, None);
    let urgent = Job { priority: -5, ..keyed(2, "a", 30) };
    put(store, &[keyed(1, "a", 20), urgent, keyed(3, "b", 5), job(4, "other", 1)]).await?;
    for (after, first) in [(None, Some(20)), (Some(0), Some(20)), (Some(20), Some(30)), (Some(30), None)] {
        assert_eq!(first_due(Some("a"), after).await?, first.map(at));
    }
    assert_eq!(first_due(None, None).await?, None);
    let plain = Job { priority: 7, ..job(5, "default", 12) };
    put(store, &[job(6, "default", 17), running(&job(7, "default", 2), "m1")]).await?;
    assert_eq!(first_due(None, None).await?, Some(at(17)));
    put(store, &[plain]).await?;
    for (after, first) in [(None, Some(12)), (Some(12), Some(17)), (Some(17), None)] {
        assert_eq!(first_due(None, after).await?, first.map(at));
    }
    Ok(())
}

/// A lane counts its jobs through every change, as [`Lane::count`] has it, and is gone with the last of them.
pub async fn a_lane_follows_its_jobs(store: &dyn Store) -> Kept {
    let jobs = [keyed(1, "a", 0), keyed(2, "a", 10), keyed(3, "b", 0), job(4, "default", 0)];
    put(store, &jobs).await?;
    let numbers = |lane: Option<Lane>| lane.map(|lane| (lane.waiting, lane.running));
    assert_eq!(numbers(lane(store, "a").await?), Some((2, 0)));
    let first = running(&jobs[0], "m1");
    put(store, &[first.clone(), running(&jobs[2], "m1")]).await?;
    assert_eq!(numbers(lane(store, "a").await?), Some((1, 1)));
    assert_eq!(numbers(lane(store, "b").await?), Some((0, 1)));
    put(store, &[completed(&first, at(5)), cancelled(&jobs[1], at(5))]).await?;
    assert_eq!(lane(store, "a").await?, None);
    write(store, |rows| rows.delete_job(id(3))).await?;
    assert_eq!(lane(store, "b").await?, None);
    let moved = Job { key: Some(key("c")), ..jobs[3].clone() };
    put(store, std::slice::from_ref(&moved)).await?;
    put(store, &[Job { key: Some(key("d")), queue: queue("other"), ..moved }]).await?;
    assert_eq!(lane(store, "c").await?, None);
    let other = ask(store, |rows| rows.lane(&queue("other"), &key("d"))).await?;
    assert_eq!(numbers(other), Some((1, 0)));
    assert_eq!(ask(store, |rows| rows.jobs_running(&queue("default"))).await?, 0);
    Ok(())
}

/// Work that fails leaves lanes and queues as they were.
pub async fn a_lane_forgets_work_that_fails(store: &dyn Store) -> Kept {
    put(store, &[keyed(1, "a", 0)]).await?;
    let before = lane(store, "a").await?;
    let failed = write(store, |rows| -> Result<(), StoreError> {
        rows.put_jobs(&[running(&keyed(1, "a", 0), "m1"), keyed(2, "a", 0), keyed(3, "b", 0)])?;
        let full = Lane { full: true, ..Lane::new(queue("default"), key("a")) };
        rows.put_lanes(&[full], at(0))?;
        rows.put_queue(&queue("default"), &QueueRow { turn: Turn(9), ..QueueRow::default() })?;
        Err(StoreError::Failed("the work is not wanted".to_owned()))
    });
    assert!(failed.await.is_err());
    assert_eq!(lane(store, "a").await?, before);
    assert_eq!(lane(store, "b").await?, None);
    assert_eq!(ask(store, |rows| rows.queue(&queue("default"))).await?, QueueRow::default());
    assert_eq!(come(store, at(0)).await?.0, ["a"]);
    Ok(())
}

/// Lanes come in the order of their turns. Those that are full do not, until one of their jobs ends.
pub async fn lanes_come_in_turn_unless_they_are_full(store: &dyn Store) -> Kept {
    let busy = running(&keyed(9, "full", 0), "m1");
    put(
        store,
        &[keyed(1, "z", 10), keyed(2, "a", 20), keyed(3, "later", 99), keyed(4, "full", 0), busy.clone()],
    )
    .await?;
    let lanes = [("full", true, 0), ("a", false, 20)].map(|(name, full, turn)| Lane {
        full,
        turn: Some(Turn::at(at(turn))),
        ..Lane::new(queue("default"), key(name))
    });
    write(store, move |rows| rows.put_lanes(&lanes, at(20))).await?;
    let turn = |millis| Some(Turn::at(at(millis)));
    assert_eq!(come(store, at(20)).await?, (vec!["z".into(), "a".into()], turn(20), turn(99)));
    assert_eq!(come(store, at(5)).await?, (vec![], None, turn(10)));
    put(store, &[failed(&busy, at(21))]).await?;
    assert_eq!(come(store, at(20)).await?.0, ["full", "z", "a"]);
    assert_eq!(ask(store, |rows| rows.lanes_come(&queue("other"), at(20), 9)).await?, LanesCome::default());
    Ok(())
}

/// What is planned of a lane is written beside the numbers of its jobs, not over them; one that is idle is forgotten.
pub async fn a_plan_for_a_lane_leaves_its_numbers(store: &dyn Store) -> Kept {
    put(store, &[keyed(1, "a", 0)]).await?;
    let bucket = Bucket { full_at_us: at(50).as_millis() * 1_000 };
    let planned = Lane {
        waiting: 77,
        running: 7,
        turn: Some(Turn(3)),
        served: Some(Turn(2)),
        bucket,
        ..Lane::new(queue("default"), key("a"))
    };
    let absent = Lane::new(queue("default"), key("absent"));
    write(store, {
        let lanes = [planned.clone(), absent];
        move |rows| rows.put_lanes(&lanes, at(0))
    })
    .await?;
    assert_eq!(lane(store, "a").await?, Some(Lane { waiting: 1, running: 0, ..planned.clone() }));
    assert_eq!(lane(store, "absent").await?, None);
    put(store, &[cancelled(&keyed(1, "a", 0), at(10))]).await?;
    let kept = lane(store, "a").await?.expect("its rate has not come back");
    assert_eq!((kept.waiting, kept.bucket, kept.turn), (0, bucket, Some(Turn::at(at(50)))));
    write(store, move |rows| rows.put_lanes(&[kept], at(50))).await?;
    assert_eq!(lane(store, "a").await?, None);
    Ok(())
}

/// A job brings its lane no turn before the one that the lane got when it was served, whatever time it was written by.
pub async fn a_lane_that_was_served_keeps_its_place(store: &dyn Store) -> Kept {
    put(store, &[keyed(1, "a", 0), keyed(2, "b", 0)]).await?;
    let behind = |name, turn| Lane { turn, served: turn, ..Lane::new(queue("default"), key(name)) };
    let served = [behind("a", Some(Turn::at(at(20)))), behind("b", Some(Turn::at(at(10))))];
    write(store, move |rows| rows.put_lanes(&served, at(20))).await?;
    put(store, &[keyed(3, "a", -60_000), keyed(4, "c", -60_000)]).await?;
    assert_eq!(come(store, at(20)).await?.0, ["c", "b", "a"]);
    Ok(())
}

/// A lane that is empty keeps its rate as long as that has not come back, whatever time its jobs were enqueued by: a clock that
/// was ahead then may have been put back.
pub async fn a_lane_keeps_its_rate_when_a_job_of_a_clock_ahead_ends(store: &dyn Store) -> Kept {
    let ahead = Job { enqueued_at: at(1_000), ..keyed(1, "a", 0) };
    put(store, std::slice::from_ref(&ahead)).await?;
    let bucket = Bucket { full_at_us: at(50).as_millis() * 1_000 };
    let lanes = [Lane { bucket, ..Lane::new(queue("default"), key("a")) }];
    write(store, move |rows| rows.put_lanes(&lanes, at(0))).await?;
    let runs = running(&ahead, "m1");
    put(store, std::slice::from_ref(&runs)).await?;
    put(store, &[completed(&runs, at(10))]).await?;
    assert_eq!(lane(store, "a").await?.map(|lane| lane.bucket), Some(bucket));
    Ok(())
}

/// All lanes of a queue are found by their keys, whatever their turns, a few at a time.
pub async fn lanes_are_found_by_their_keys(store: &dyn Store) -> Kept {
    let other = Job { queue: queue("other"), ..keyed(9, "b", 0) };
    let jobs: Vec<Job> =
        (1..).zip(["\u{e9}", "a", "c", "B", "b"]).map(|(n, of)| keyed(n, of, 1_000)).collect();
    put(store, &[&jobs[..], &[other, running(&keyed(8, "d", 0), "m1"), job(10, "default", 0)]].concat())
        .await?;
    let full = Lane { full: true, ..lane(store, "a").await?.expect("it has a job") };
    write(store, move |rows| rows.put_lanes(&[full], at(0))).await?;
    let mut names = Vec::new();
    while {
        let after = names.last().map(|name: &String| key(name));
        let found = ask(store, move |rows| rows.lanes_after(&queue("default"), after.as_ref(), 2)).await?;
        assert!(found.len() <= 2);
        names.extend(found.iter().map(|lane| lane.key.to_string()));
        !found.is_empty()
    } {}
    assert_eq!(names, ["B", "a", "b", "c", "d", "\u{e9}"]);
    Ok(())
}

/// A queue's row is found as it was written, and one of which nothing is kept is none.
pub async fn a_queue_is_found_as_it_was_written(store: &dyn Store) -> Kept {
    let pause =
        Pause { since: at(1), until: Some(at(9)), reason: "a \"deploy\"".into(), by: "\u{1F99F}".into() };
    let row = QueueRow {
        pause: Some(pause),
        bucket: Bucket { full_at_us: 7 },
        turn: Turn(-3),
        ..QueueRow::default()
    };
    let row = row.unsettle();
    let written = row.clone();
    write(store, move |rows| rows.put_queue(&queue("mail"), &written)).await?;
    assert_eq!(ask(store, |rows| rows.queue(&queue("mail"))).await?, row);
    assert_eq!(ask(store, |rows| rows.queue(&queue("other"))).await?, QueueRow::default());
    assert_eq!(ask(store, |rows| rows.queues()).await?, [(queue("mail"), row)].into());
    write(store, |rows| rows.put_queue(&queue("mail"), &QueueRow::default())).await?;
    assert!(ask(store, |rows| rows.queues()).await?.is_empty());
    Ok(())
}

/// Whatever happens to jobs of a few keys, each lane has the numbers that its jobs come to.
pub async fn lanes_have_the_numbers_of_their_jobs(store: &dyn Store) -> Kept {
    let mut chance = Chance::new(11);
    let names = ["a", "b", "c"];
    let mut jobs: Vec<Job> = Vec::new();
    for step in 0..300_u32 {
        let index = chance.below(40) as usize;
        let now = at(i64::from(step));
        let changed = match jobs.get(index).cloned() {
            None => keyed(jobs.len() as u128, names[chance.below(3) as usize], 0),
            Some(job) => match job.phase() {
                Phase::Fresh | Phase::Retrying if job.due() <= now && chance.below(2) == 0 => {
                    let claimed = midge_core::JobEvent::Claimed { machine: machine_name("m1") };
                    super::fixtures::after(&job, claimed, now)
                }
                Phase::Fresh | Phase::Retrying if job.due() <= now && chance.below(2) == 0 => {
                    super::fixtures::after(&job, midge_core::JobEvent::Held, now)
                }
                Phase::Pending => super::fixtures::after(&job, midge_core::JobEvent::Met, now),
                Phase::Held => super::fixtures::after(&job, midge_core::JobEvent::Released, now),
                Phase::Fresh | Phase::Retrying => {
                    Job { key: Some(key(names[chance.below(3) as usize])), ..job }
                }
                Phase::Running if chance.below(2) == 0 => failed(&job, now),
                Phase::Running => completed(&job, now),
                Phase::Completed | Phase::Cancelled | Phase::Discarded => keyed(index as u128, "a", 0),
            },
        };
        match jobs.get_mut(index) {
            Some(job) => *job = changed.clone(),
            None => jobs.push(changed.clone()),
        }
        put(store, &[changed]).await?;
        for name in names {
            let of = |wanted: fn(Phase) -> bool| {
                let in_lane = |job: &&Job| job.key == Some(key(name)) && wanted(job.phase());
                jobs.iter().filter(in_lane).count() as u64
            };
            let expected = (of(Phase::is_in_line), of(|phase| phase == Phase::Running));
            let found = lane(store, name).await?.map_or((0, 0), |lane| (lane.waiting, lane.running));
            assert_eq!(found, expected, "{name} after {step}");
        }
    }
    Ok(())
}
