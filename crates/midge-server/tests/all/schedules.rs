//! Schedules: what can be asked about them and of them, and what their ticks bring.

use std::sync::Arc;

use midge_core::{Job, JobEvent};
use midge_protocol::api::{Enqueued, Pause, ScheduleView, Schedules, Unique};
use midge_protocol::job::State;
use midge_protocol::manifest::{Missed, QueuePolicy, ScheduleEntry, ServerPolicy};
use midge_protocol::{JobKey, Labels, QueueName, ScheduleName, Tag, Timestamp};
use midge_server::{Access, Catalog, dispatcher};
use midge_store::conformance::fixtures::{at, module, queue};
use midge_store::{JobSearch, MemoryStore, read, write};

use serde_json::json;

use super::stage::{self, Api, Hands, Server};

const PAUSE: &str = r#"{"by": "Ada", "reason": "flood"}"#;

fn catalog(name: &str, policy: QueuePolicy, schedule: ScheduleEntry) -> Catalog {
    let mut catalog = stage::catalog([(QueueName::default_queue(), policy)].into(), ServerPolicy::default());
    catalog.manifest.schedules = [(ScheduleName::new(name).unwrap(), schedule)].into();
    catalog
}

fn hello(cron: &str) -> ScheduleEntry {
    ScheduleEntry::new(module("hello"), cron)
}

async fn server() -> Server {
    let catalog = catalog("yearly", QueuePolicy::default(), hello("@yearly"));
    Server::of(Arc::new(MemoryStore::new()), stage::made, catalog, Access::Loopback).await
}

async fn yearly(server: &Server) -> ScheduleView {
    server.get("/v1/schedules/yearly").await.parse()
}

#[tokio::test]
async fn a_schedule_is_listed_with_its_next_five_runs() {
    let server = server().await;
    let list: Schedules = server.get("/v1/schedules").await.parse();
    assert_eq!(list.schedules, [yearly(&server).await]);
    let yearly = &list.schedules[0];
    assert_eq!((yearly.name.as_str(), &yearly.queue), ("yearly", &Some(queue("default"))));
    let next: Vec<String> = yearly.next.iter().map(|next| next.tick.to_string()).collect();
    assert!(next.len() == 5 && next.iter().all(|tick| tick.ends_with("-01-01T00:00:00.000Z")), "{next:?}");
    assert_eq!((&yearly.last, &yearly.pause), (&None, &None));
    let page = server.get("/").await.text();
    for next in &yearly.next {
        assert!(page.contains(&format!("datetime=\"{}\"", next.due)), "{} is not in {page}", next.due);
    }
}

#[tokio::test]
async fn a_schedule_is_paused_and_resumed_and_run_by_hand() {
    let server = server().await;
    for _ in 0..2 {
        let paused: Pause = server.call("POST", "/v1/schedules/yearly/pause", PAUSE).await.parse();
        assert_eq!((paused.by.as_str(), paused.reason.as_str(), paused.until), ("Ada", "flood", None));
        let yearly = yearly(&server).await;
        assert_eq!((yearly.pause, yearly.next), (Some(paused), vec![]));
    }
    let id = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";
    for new in [true, false] {
        let run = format!(r#"{{"id": "{id}"}}"#);
        let enqueued: Enqueued = server.call("POST", "/v1/schedules/yearly/run", run).await.parse();
        assert_eq!((enqueued.id.to_string().as_str(), enqueued.new), (id, new));
    }
    assert_eq!(server.post("/v1/schedules/yearly/resume").await.status.as_u16(), 204);
    let yearly = yearly(&server).await;
    assert_eq!((yearly.pause, yearly.next.len()), (None, 5));
    let last = yearly.last.unwrap();
    assert_eq!((last.job.to_string().as_str(), last.tick, last.state), (id, None, Some(State::Available)));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_about_a_schedule_is_told() {
    let server = server().await;
    let long = format!(r#"{{"by": "{}"}}"#, "x".repeat(10_000));
    for (path, body, status, words) in [
        ("yaerly/resume", "", 404, "there is no schedule `yaerly`: did you mean `yearly`?"),
        ("YEARLY/resume", "", 400, "is not a schedule name"),
        ("yearly/pause", r#"{"why": "x"}"#, 400, "unknown field `why`"),
        ("yearly/pause", "[]", 400, "the body must be an object, not a list"),
        ("yearly/pause", r#"{"until": "2020-01-01T00:00:00Z"}"#, 422, "which has passed: use a later time"),
        ("yearly/pause", &long, 413, "by is 10000 bytes, and at most 256"),
        ("yearly/run", r#"{"id": "x"}"#, 400, "`id` must be a UUID"),
    ] {
        server.call("POST", &format!("/v1/schedules/{path}"), body.to_owned()).await.refused(status, words);
    }
}

/// A store with one schedule, at which rounds look when the test says so. It ticks every minute of the test's time.
struct Rounds {
    store: MemoryStore,
    clock: Hands,
    context: dispatcher::Context,
}

impl Rounds {
    /// At second 0, when the schedule is seen for the first time.
    async fn begin(policy: QueuePolicy, schedule: ScheduleEntry) -> Rounds {
        let context = stage::context(catalog("often", policy, schedule));
        let rounds = Rounds { store: MemoryStore::new(), clock: Hands::default(), context };
        rounds.look_after(0).await;
        rounds
    }

    /// Has a round look so many seconds after the last one, and returns when it wants the next one.
    async fn look_after(&self, seconds: i64) -> Option<Timestamp> {
        self.clock.advance(seconds * 1_000);
        let (api, _made) = Api::new(stage::made);
        dispatcher::decide(&self.store, &api, &self.context, &self.clock).await.unwrap().next_due
    }

    /// Returns the jobs that came, oldest first.
    async fn jobs(&self) -> Vec<Job> {
        let jobs = read(&self.store, |rows| rows.jobs_listed(&JobSearch::default(), 1_000)).await.unwrap();
        jobs.into_iter().map(Result::unwrap).rev().collect()
    }

    async fn delete_first(&self) {
        let first = self.jobs().await[0].id;
        write(&self.store, move |rows| rows.delete_job(first)).await.unwrap();
    }

    /// Returns the seconds of their ticks: an id begins with its time.
    async fn ticks(&self) -> Vec<i64> {
        let millis = |job: &Job| job.id.as_bytes()[..6].iter().fold(0, |ms, byte| ms << 8 | i64::from(*byte));
        self.jobs().await.iter().map(|job| (millis(job) - at(0).as_millis()) / 1_000).collect()
    }
}

/// At second 40 of each minute, as is [`at`] 0.
fn every_minute() -> ScheduleEntry {
    hello("40 * * * * *")
}

fn second(second: i64) -> Option<Timestamp> {
    Some(at(second * 1_000))
}

#[tokio::test]
async fn a_tick_brings_one_job_however_often_rounds_look_and_they_look_in_time() {
    let rounds = Rounds::begin(QueuePolicy::default(), every_minute()).await;
    assert_eq!(rounds.look_after(59).await, second(60));
    assert_eq!(rounds.ticks().await, [0; 0]);
    for _ in 0..3 {
        assert_eq!(rounds.look_after(1).await, second(120));
        assert_eq!(rounds.ticks().await, [60]);
    }
    rounds.look_after(120).await;
    assert_eq!(rounds.ticks().await, [60, 120, 180]);
}

#[tokio::test]
async fn a_tick_waits_while_its_queue_is_full_and_comes_when_there_is_room() {
    let policy = QueuePolicy { max_jobs: 1, ..QueuePolicy::default() };
    let rounds = Rounds::begin(policy, every_minute()).await;
    rounds.look_after(60).await;
    assert_eq!(rounds.look_after(60).await, second(125), "it is tried again after some seconds");
    assert_eq!(rounds.ticks().await, [60]);
    rounds.delete_first().await;
    assert_eq!(rounds.look_after(5).await, second(180));
    assert_eq!(rounds.ticks().await, [120]);
}

#[tokio::test]
async fn of_more_ticks_than_a_queue_takes_the_oldest_come_first_and_the_rest_with_the_room() {
    let policy = QueuePolicy { max_jobs: 2, ..QueuePolicy::default() };
    let rounds = Rounds::begin(policy, every_minute()).await;
    assert_eq!(rounds.look_after(240).await, second(240), "the next round looks at once");
    assert_eq!(rounds.ticks().await, [60, 120]);
    assert_eq!(rounds.look_after(0).await, second(245));
    rounds.delete_first().await;
    rounds.look_after(5).await;
    assert_eq!(rounds.ticks().await, [120, 180]);
}

#[tokio::test]
async fn a_job_of_a_tick_is_in_its_lane_and_has_its_whole_time_to_be_started_also_where_it_was_missed() {
    let key = JobKey::new("acme").unwrap();
    let schedule = ScheduleEntry {
        priority: -5,
        key: Some(key.clone()),
        expires_in_ms: Some(30_000),
        missed: Missed::All,
        ..every_minute()
    };
    let rounds = Rounds::begin(QueuePolicy::default(), schedule).await;
    rounds.look_after(3_600).await;
    let jobs = rounds.jobs().await;
    assert_eq!(jobs.len(), 60);
    for job in jobs {
        assert_eq!((job.priority, job.key.as_ref()), (-5, Some(&key)));
        assert_eq!(job.expires_at, second(3_630), "due at {}", job.due());
    }
    let lane = read(&rounds.store, move |rows| rows.lane(&queue("default"), &key)).await.unwrap();
    assert_eq!(lane.unwrap().waiting, 60);
}

#[tokio::test]
async fn a_schedule_goes_on_when_a_clock_that_was_far_ahead_is_put_right() {
    let rounds = Rounds::begin(QueuePolicy::default(), every_minute()).await;
    let days = 2 * 24 * 60 * 60;
    rounds.look_after(days).await;
    rounds.clock.advance(-days * 1_000);
    dispatcher::take_over(&rounds.store, at(0), "id".to_owned()).await.unwrap();
    assert_eq!(rounds.look_after(0).await, second(60));
    rounds.look_after(60).await;
    assert!(rounds.ticks().await.contains(&60));
}

#[tokio::test]
async fn a_job_says_its_schedule_and_tick_and_is_found_by_its_tags() {
    let labels = Labels { tags: vec![Tag::new("nightly").unwrap()], ..Labels::default() };
    let rounds = Rounds::begin(QueuePolicy::default(), ScheduleEntry { labels, ..hello("* * * * *") }).await;
    rounds.look_after(61).await;
    let jobs = rounds.jobs().await;
    let [job] = &jobs[..] else { panic!("{jobs:?}") };
    let of = job.links.schedule.clone().unwrap();
    assert_eq!((of.name.as_str(), of.tick.map(|tick| tick.as_millis() % 60_000)), ("often", Some(0)));
    assert_eq!(job.labels.tags[0].as_str(), "nightly");
    assert_eq!(job.view(job.due()).schedule, Some(of));
    let server = server().await;
    server.post("/v1/schedules/yearly/run").await;
    let jobs = server.get("/v1/jobs").await.json();
    assert_eq!(jobs["jobs"][0]["schedule"], json!({"name": "yearly"}), "it is of no tick");
    let id = jobs["jobs"][0]["id"].as_str().unwrap();
    assert!(server.get(&format!("/jobs/{id}")).await.text().contains("yearly, run by hand"));
}

#[tokio::test]
async fn a_tick_of_a_unique_schedule_brings_no_job_while_the_one_before_has_not_ended() {
    let entry = ScheduleEntry { unique: Some(Unique::default()), ..hello("* * * * *") };
    let rounds = Rounds::begin(QueuePolicy::default(), entry).await;
    for _ in 0..3 {
        rounds.look_after(60).await;
    }
    let jobs = rounds.jobs().await;
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    let schedule = read(&rounds.store, |rows| rows.schedules()).await.unwrap().remove(0);
    assert_eq!(schedule.last_job, Some(jobs[0].id), "the one that is there");
    let cancelled = jobs[0].apply(JobEvent::CancelAsked, jobs[0].due()).unwrap().job;
    write(&rounds.store, move |rows| rows.put_jobs(&[cancelled])).await.unwrap();
    rounds.look_after(60).await;
    assert_eq!(rounds.jobs().await.len(), 2);
}
