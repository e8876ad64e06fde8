//! Every example job, through a real server, flylet and hosts.

use std::collections::BTreeMap;
use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};
use midge_protocol::api::JobFilter;
use midge_protocol::job::{Cause, Failure, State};
use midge_protocol::{AttemptNumber, JobId, limits};
use midge_tests::support::{
    Modules, Server, Signal, Site, block_on, eventually, http, request, say, signal_host,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

fn server() -> Server {
    Server::start(&Modules::examples())
}

/// Runs a job that is to be discarded after one attempt, and returns how it failed.
#[track_caller]
fn discarded(server: &Server, module: &str, args: Value) -> Failure {
    let job = server.ended(server.enqueue(module, args));
    assert_eq!((job.job.state, job.attempts.len()), (State::Discarded, 1), "{job:?}");
    let failure = job.attempts[0].failure.clone();
    assert_eq!(job.job.failure, failure);
    failure.unwrap()
}

#[test]
fn hello_greets() {
    let server = server();
    let id = server.enqueue("hello", json!({"name": "midge"}));
    assert_eq!(&server.result(id)[..], br#"{"greeting":"Hello, midge!"}"#);
    let job = server.detail(id);
    assert_eq!(
        (job.job.attempt, job.job.spent, job.args.get()),
        (AttemptNumber(1), 1, r#"{"name":"midge"}"#)
    );
    let attempt = &job.attempts[0];
    assert!(attempt.failure.is_none() && attempt.spent);
    assert!(attempt.scheduled_at <= attempt.started_at && attempt.started_at <= attempt.ended_at);
    let usage = attempt.usage.unwrap();
    assert!(usage.ran_us > 0 && usage.memory_peak_bytes >= 64 * 1024, "{usage:?}");
}

#[test]
fn stages_go_on_in_another_machine_where_the_one_that_was_killed_was() {
    let server = server();
    let id = server.enqueue("stages", json!({"stages": 5, "pause_ms": 150}));
    let first = eventually("two stages are done", || {
        let job = server.job(id);
        let done = job.progress.as_ref().map_or(0, |progress| progress.done);
        job.machine.filter(|_| done >= 2)
    });
    signal_host(&first, Signal::KILL);
    let done: Vec<Value> = serde_json::from_slice(&server.result(id)).unwrap();
    let attempts: Vec<u64> = done.iter().map(|done| done["attempt"].as_u64().unwrap()).collect();
    assert!(attempts.len() == 5 && attempts.is_sorted() && attempts[..2] == [1, 1], "{attempts:?}");
    assert_eq!((attempts[4], &done[4]["key"]), (2, &json!(format!("{id}/stage 5"))));
    let saved = http("GET", &format!("{}/v1/jobs/{id}/saved", server.url()), &[("Host", "127.0.0.1")], b"");
    assert!(saved.text().starts_with(r#"{"steps":{"stage 1":"#), "{}", saved.text());
}

#[test]
fn fan_out_enqueues_each_job_once_though_its_machine_was_killed_after_it_had_named_them() {
    let server = server();
    let id = server.enqueue("fan-out", json!({"jobs": 7, "pause_ms": 1500}));
    let first = eventually("it has named them", || {
        let job = server.job(id);
        job.machine.filter(|_| job.progress.is_some())
    });
    signal_host(&first, Signal::KILL);
    let result: Value = serde_json::from_slice(&server.result(id)).unwrap();
    let ids = |jobs: &Value| -> Vec<JobId> { serde_json::from_value(jobs.clone()).unwrap() };
    let (mut named, last) = (ids(&result["jobs"]), ids(&json!([result["last"]]))[0]);
    assert_eq!(&server.result(last)[..], br#"{"greeting":"Hello, everybody!"}"#);
    let done: Vec<_> = named.iter().map(|id| server.job(*id)).collect();
    let last_began = server.job(last).started_at;
    assert!(done.iter().all(|job| job.state == State::Completed && job.ended_at <= last_began), "{done:?}");
    named.push(last);
    let children = JobFilter { parent: Some(id), ..JobFilter::default() };
    let mut children: Vec<JobId> =
        block_on(server.client().jobs(&children)).unwrap().jobs.iter().map(|job| job.id).collect();
    [&mut named, &mut children].into_iter().for_each(|ids| ids.sort_unstable());
    assert_eq!(children, named);
    let parent = server.detail(id);
    assert_eq!((parent.job.attempt, parent.children.unwrap().jobs), (AttemptNumber(2), 8));
    let all = block_on(server.client().count_jobs(&JobFilter::default())).unwrap();
    assert_eq!(all.jobs, 9, "the parent, and what its second attempt enqueued");
}

/// Starts a server of examples that reach a site, with the key that it takes events by.
fn server_for(site: &Site) -> Server {
    let modules = Modules::examples();
    modules.change(|manifest| {
        for module in manifest.modules.values_mut() {
            module.http.fill(site.url().parse().unwrap());
            module.secrets.values_mut().for_each(|to| to.fill(site.url().parse().unwrap()));
        }
    });
    Server::start_with(&modules, &[], &[("WEBHOOK_KEY", "the-test-s-own-key")])
}

#[test]
fn webhook_tells_an_event_with_a_secret_and_under_one_key_until_it_is_taken() {
    let taken = std::sync::atomic::AtomicBool::new(false);
    let site = Site::start(move |_, stream| match taken.swap(true, std::sync::atomic::Ordering::Relaxed) {
        false => say(stream, "503 Service Unavailable\r\nretry-after: 1", ""),
        true => say(stream, "200 OK", "the-test-s-own-key"),
    });
    let server = server_for(&site);
    let id = server.enqueue("webhook", json!({"url": format!("{}/hook", site.url()), "event": {"order": 7}}));
    let result: Value = serde_json::from_slice(&server.result(id)).unwrap();
    assert_eq!(result, json!({"status": 200, "attempt": 2}));
    let asked = site.asked();
    assert_eq!(asked.len(), 2);
    for request in &asked {
        assert_eq!(request.header("x-webhook-key"), Some("the-test-s-own-key"));
        assert_eq!(request.header("idempotency-key"), Some(format!("{id}/tell").as_str()));
        assert_eq!(serde_json::from_slice::<Value>(&request.body).unwrap(), json!({"order": 7}));
    }
    let job = serde_json::to_string(&server.detail(id)).unwrap();
    assert!(!job.contains("the-test-s-own-key"), "{job}");
}

#[test]
fn download_hashes_more_than_it_has_memory_for_and_has_another_job_go_on() {
    const BYTES: usize = 200_000_000;
    let site = Site::start(|_, stream| {
        use std::io::Write;
        let piece = vec![b'm'; 100_000];
        let mut sent = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n");
        for _ in 0..BYTES / piece.len() {
            sent = sent.and_then(|()| stream.write_all(&piece));
        }
    });
    let server = server_for(&site);
    let id = server.enqueue("download", json!({"url": format!("{}/file", site.url()), "then": "plain"}));
    let file: Value = serde_json::from_slice(&server.result(id)).unwrap();
    assert_eq!(file["bytes"], BYTES);
    let memory = server.detail(id).attempts[0].usage.unwrap().memory_peak_bytes;
    assert!(memory < 8 << 20, "{memory}");
    let filter = JobFilter { parent: Some(id), ..JobFilter::default() };
    let children = block_on(server.client().jobs(&filter)).unwrap().jobs;
    assert_eq!(children.len(), 1);
    let next = server.ended(children[0].id);
    assert_eq!((next.job.module.as_str(), next.job.state), ("plain", State::Completed));
    assert_eq!(serde_json::from_str::<Value>(next.args.get()).unwrap(), file);
}

#[test]
fn fetch_in_c_gives_what_is_at_a_url_and_says_why_where_it_cannot() {
    let site = Site::saying("a page");
    let server = server_for(&site);
    assert_eq!(&server.result(server.enqueue("fetch", json!(format!("{}/page", site.url()))))[..], b"a page");
    let failure = discarded(&server, "fetch", json!("http://127.0.0.1:1/"));
    assert_eq!(failure.cause, Cause::Refused);
    assert!(failure.message.contains("to `http` of [modules.fetch]"), "{}", failure.message);
}

#[test]
fn hello_refuses_args_that_do_not_fit_and_says_what_is_missing() {
    let failure = discarded(&server(), "hello", json!({"nome": "midge"}));
    assert_eq!(failure.cause, Cause::Refused);
    assert!(failure.message.contains("missing field `name`"), "{failure:?}");
}

/// A photo, as far as a computer can: a sky that fades, a sun, and noise.
fn photo(width: u32, height: u32) -> RgbImage {
    let mut chance = StdRng::seed_from_u64(7);
    let (sun_x, sun_y) = (width * 3 / 4, height / 4);
    RgbImage::from_fn(width, height, |x, y| {
        let noise: u8 = chance.random_range(0..12);
        if x.abs_diff(sun_x).pow(2) + y.abs_diff(sun_y).pow(2) < (height / 8).pow(2) {
            Rgb([255, 220 + noise, noise])
        } else {
            Rgb([noise, noise + (y * 100 / height) as u8, 240 - noise])
        }
    })
}

#[test]
fn resize_makes_a_photo_smaller_and_keeps_its_shape_and_format() {
    let server = server();
    for format in [ImageFormat::Jpeg, ImageFormat::Png] {
        let mut input = Cursor::new(Vec::new());
        photo(1600, 1200).write_to(&mut input, format).unwrap();
        let resize = request("resize", json!({"width": 320})).input(input.into_inner());
        let result = server.result(server.send(&resize));
        assert_eq!(image::guess_format(&result).unwrap(), format);
        let small = image::load_from_memory(&result).unwrap().to_rgb8();
        assert_eq!((small.width(), small.height()), (320, 240), "{format:?}");
        let (sun, sky) = (small.get_pixel(240, 60), small.get_pixel(20, 20));
        assert!(sun[0] > 240 && sun[2] < 60, "the sun is {sun:?} in {format:?}");
        assert!(sky[0] < 60 && sky[2] > 200, "the sky is {sky:?} in {format:?}");
    }
}

#[test]
fn report_adds_up_what_megabytes_of_rows_say() {
    let mut chance = StdRng::seed_from_u64(11);
    let cities = ["Oslo", "Bergen, west", "Tromsø", "Alta"];
    let mut csv = "day,city,cents\n".to_owned();
    // Count, sum, least and most of each city, in whole cents: what is compared is exact.
    let mut expected: BTreeMap<&str, (u64, i64, i64, i64)> = BTreeMap::new();
    while csv.len() < 4 * 1024 * 1024 {
        let city = cities[chance.random_range(0..cities.len())];
        let cents: i64 = chance.random_range(-5_000..100_000);
        csv += &format!("{},\"{city}\",{cents}\n", chance.random_range(1..366));
        let (count, sum, min, max) = expected.entry(city).or_insert((0, 0, i64::MAX, i64::MIN));
        (*count, *sum, *min, *max) = (*count + 1, *sum + cents, (*min).min(cents), (*max).max(cents));
    }
    let rows: u64 = expected.values().map(|group| group.0).sum();

    let server = server();
    let report = request("report", json!({"group_by": "city", "value": "cents"})).input(csv);
    let report: Value = serde_json::from_slice(&server.result(server.send(&report))).unwrap();
    assert_eq!(report["rows"], rows);
    let groups = report["groups"].as_array().unwrap();
    assert_eq!(groups.len(), cities.len());
    for group in groups {
        let (count, sum, min, max) = expected[group["key"].as_str().unwrap()];
        assert_eq!((&group["count"], &group["empty"]), (&json!(count), &json!(0)));
        let figures = ["sum", "min", "max", "mean"].map(|figure| group[figure].as_f64().unwrap());
        assert_eq!(figures, [sum as f64, min as f64, max as f64, sum as f64 / count as f64]);
    }
}

#[test]
fn render_draws_a_large_picture_and_says_how_far_it_is() {
    let server = server();
    let id = server.enqueue("render", json!({"width": 1400, "height": 800, "iterations": 8_000}));
    let progress = eventually("the job says how far it is", || {
        let job = server.job(id);
        assert!(!job.state.is_ended(), "it ended before anything was seen of its progress: {job:?}");
        job.progress.filter(|progress| progress.done > 0)
    });
    assert!(progress.done < 800 && progress.total == 800 && progress.message == "rows", "{progress:?}");
    let picture =
        image::load_from_memory_with_format(&server.result(id), ImageFormat::Png).unwrap().to_rgb8();
    assert_eq!((picture.width(), picture.height()), (1400, 800));
    assert_eq!(picture.get_pixel(700, 400), &Rgb([0, 0, 0]), "the middle is inside the set");
    assert_ne!(picture.get_pixel(0, 0), &Rgb([0, 0, 0]), "the corner is not");
}

#[test]
fn flaky_completes_after_its_failures_and_they_are_kept() {
    let server = server();
    let id = server.enqueue("flaky", json!({"failures": 2, "retry_after_ms": 50}));
    assert_eq!(&server.result(id)[..], br#"{"attempt":3}"#);
    let job = server.detail(id);
    assert_eq!((job.job.attempt, job.job.spent, job.job.failure), (AttemptNumber(3), 3, None));
    let numbers: Vec<u32> = job.attempts.iter().map(|attempt| attempt.attempt.0).collect();
    assert_eq!(numbers, [1, 2, 3]);
    for attempt in &job.attempts[..2] {
        let failure = attempt.failure.as_ref().unwrap();
        let message = format!("attempt {} fails, as 2 should", attempt.attempt);
        assert_eq!((&failure.cause, failure.exit_code, &failure.message), (&Cause::Exit, Some(75), &message));
        let log = block_on(server.client().log(id, Some(attempt.attempt))).unwrap();
        assert!(String::from_utf8_lossy(&log).contains(&message), "{log:?}");
    }
    assert!(job.attempts[2].failure.is_none());
    for pair in job.attempts.windows(2) {
        assert!(pair[1].started_at.since(pair[0].ended_at).as_millis() >= 50, "it asked to wait 50 ms");
    }
}

#[test]
fn flaky_is_discarded_when_its_attempts_are_spent_and_can_be_retried_by_hand() {
    let server = server();
    let mut flaky = request("flaky", json!({"failures": 3, "retry_after_ms": 1}));
    flaky.max_attempts = Some(2);
    let id = server.send(&flaky);
    assert_eq!(server.ended(id).job.state, State::Discarded);
    block_on(server.client().retry(id)).unwrap();
    assert_eq!(&server.result(id)[..], br#"{"attempt":4}"#);
    assert_eq!(server.detail(id).attempts.len(), 4);
}

#[test]
fn plain_needs_no_sdk() {
    let server = server();
    let id = server.send(&request("plain", json!({"a": [1, 2]})).input(vec![7; 100_000]));
    let result: Value = serde_json::from_slice(&server.result(id)).unwrap();
    assert_eq!(result, json!({"module": "plain", "args": {"a": [1, 2]}, "input_bytes": 100_000}));
}

#[test]
fn wordcount_in_c_counts() {
    let server = server();
    let text = "one two\nthree  four\tfive\n".repeat(10_000);
    let id = server.send(&request("wordcount", Value::Null).input(text.clone()));
    let result: Value = serde_json::from_slice(&server.result(id)).unwrap();
    assert_eq!(result, json!({"lines": 20_000, "words": 50_000, "bytes": text.len()}));
}

#[test]
fn spin_ends_at_its_time_limit() {
    let failure = discarded(&server(), "spin", Value::Null);
    assert_eq!(failure.cause, Cause::OverTime);
    assert!(failure.message.contains("0.7 s"), "{failure:?}");
}

#[test]
fn sleep_ends_at_its_time_limit() {
    assert_eq!(discarded(&server(), "sleep", Value::Null).cause, Cause::OverTime);
}

#[test]
fn hog_ends_at_its_memory_limit() {
    let server = server();
    let id = server.enqueue("hog", Value::Null);
    let job = server.ended(id);
    assert_eq!((job.job.state, job.job.failure.unwrap().cause), (State::Discarded, Cause::OverMemory));
    let peak = job.attempts[0].usage.unwrap().memory_peak_bytes;
    assert!((32 << 20..=64 << 20).contains(&peak), "{peak}");
}

#[test]
fn flood_ends_at_the_most_a_result_may_have() {
    let failure = discarded(&server(), "flood", json!({}));
    assert_eq!(failure.cause, Cause::OverOutput);
    assert!(failure.message.contains("16 MiB"), "{failure:?}");
}

#[test]
fn flood_of_the_log_is_cut_and_marked_and_no_failure_of_its_own() {
    let server = server();
    let mut flood = request("flood", json!({"to": "stderr"}));
    flood.time_limit_ms = Some(500);
    let id = server.send(&flood);
    let job = server.ended(id);
    assert_eq!(job.job.failure.unwrap().cause, Cause::OverTime);
    let log = server.log(id);
    assert!(log.len() <= limits::LOG_BYTES_MAX + 200, "{}", log.len());
    assert!(log.starts_with(b"~~~~"));
    let end = String::from_utf8_lossy(&log[log.len() - 200..]).into_owned();
    assert!(end.contains("cut"), "{end}");
}

#[test]
fn unruly_neighbours_in_the_same_machine_do_not_disturb_a_job() {
    let modules = Modules::examples().queue("shared", |policy| {
        policy.max_machines = 1;
        policy.jobs_per_machine = 2;
    });
    let server = Server::start(&modules);
    for (module, args) in [("spin", Value::Null), ("sleep", Value::Null), ("flood", json!({"to": "stderr"}))]
    {
        let mut unruly = request(module, args).queue("shared".parse().unwrap());
        unruly.time_limit_ms = Some(60_000);
        let unruly = server.send(&unruly);
        let machine = server.running(unruly).machine.unwrap();
        let hello = server.enqueue_in("shared", "hello", json!({"name": "neighbour"}));
        assert_eq!(&server.result(hello)[..], br#"{"greeting":"Hello, neighbour!"}"#);
        assert_eq!(server.detail(hello).attempts[0].machine, machine);
        assert_eq!(server.job(unruly).state, State::Running, "{module}");

        block_on(server.client().cancel(unruly)).unwrap();
        assert_eq!(server.ended(unruly).job.state, State::Cancelled, "{module}");
    }
    // One that dies by itself takes nobody with it, either.
    let hog = server.enqueue_in("shared", "hog", Value::Null);
    let hellos: Vec<_> =
        (0..20).map(|_| server.enqueue_in("shared", "hello", json!({"name": "again"}))).collect();
    for hello in hellos {
        assert_eq!(&server.result(hello)[..], br#"{"greeting":"Hello, again!"}"#);
        assert_eq!(server.detail(hello).attempts.len(), 1);
    }
    assert_eq!(server.ended(hog).job.failure.unwrap().cause, Cause::OverMemory);
}
