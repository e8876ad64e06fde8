//! What the dashboard shows, and what it leaves out.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use midge_core::{Machine, MachineState};
use midge_protocol::Timestamp;
use midge_protocol::exchange::Outcome;
use midge_protocol::job::{Cause, Failure};
use midge_protocol::manifest::QueuePolicy;
use midge_store::conformance::fixtures::machine;
use midge_store::{MemoryStore, StoreError, write};

use serde_json::json;

use super::stage::{HELLO, LATER, Reply, Server, done};

#[tokio::test]
async fn a_list_says_which_jobs_it_has_as_people_write_it() {
    let server = Server::start().await;
    let page = server.get("/?text=no%20row&state=discarded&limit=5").await.text();
    assert!(page.contains("Jobs with state discarded, text no row"), "{page}");
    assert!(server.get("/?limit=5").await.text().contains("<h2>Jobs</h2>"));
    let hostile = server.get("/?text=%3Cb%3E%E2%80%AE").await.text();
    assert!(hostile.contains("text &lt;b&gt;\u{fffd}"), "{hostile}");
}

#[tokio::test]
async fn names_lead_to_their_jobs() {
    let server = Server::start().await;
    server.enqueued(HELLO).await;
    let page = server.get("/").await.text();
    for link in
        ["?queue=default\"", "?module=hello\"", "?state=available\"", "?queue=default&amp;state=available\""]
    {
        assert!(page.contains(&format!("href=\"/{link}")), "{link} is not in {page}");
    }
}

#[tokio::test]
async fn a_job_that_completed_is_not_run_again_in_passing() {
    let mut server = Server::start().await;
    let id = server.enqueued(HELLO).await;
    let button = format!("action=\"/jobs/{id}/retry\"");
    server.post(&format!("/v1/jobs/{id}/cancel")).await;
    assert!(server.get("/").await.text().contains(&button));
    server.post(&format!("/v1/jobs/{id}/retry")).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    host.finish(attempt, done("ok")).await;
    assert!(!server.get("/").await.text().contains(&button));
    assert!(server.get(&format!("/jobs/{id}")).await.text().contains(&button), "who looks at it may");
}

#[tokio::test]
async fn of_machines_that_are_gone_the_last_few_are_shown() {
    let store = Arc::new(MemoryStore::new());
    // What is gone for long is forgotten.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let since = Timestamp::from_millis(now as i64);
    write(&*store, move |rows| {
        for number in 10..20 {
            let gone = machine(&format!("m{number}"));
            rows.put_machine(&Machine { state: MachineState::Gone, since, ..gone })?;
        }
        Ok::<_, StoreError>(())
    })
    .await
    .unwrap();
    let server = Server::on(store, QueuePolicy::default()).await;
    let page = server.get("/").await.text();
    assert_eq!((10..20).filter(|number| page.contains(&format!(">m{number}<"))).count(), 5);
    assert!(page.contains("and 5 more that are gone"), "{page}");
}

#[tokio::test]
async fn what_shows_how_all_is_just_now_is_asked_for_again_by_itself() {
    let server = Server::start().await;
    let id = server.enqueued(HELLO).await;
    let refreshes = async |path: &str| server.get(path).await.text().contains("http-equiv=\"refresh\"");
    assert!(refreshes("/").await);
    assert!(!refreshes(&format!("/jobs/{id}")).await, "one reads a log");
    assert!(!refreshes("/?state=available").await);
}

#[tokio::test]
async fn sweeps_are_shown_with_the_jobs_that_are_meant() {
    let server = Server::start().await;
    let sweep = r#"{"action": "cancel", "filter": {"tag": "a b"}}"#;
    server.call("POST", "/v1/sweeps", sweep.to_owned()).await;
    let page = server.get("/").await.text();
    assert!(page.contains("<h2>Sweeps</h2>") && page.contains("tag a b"), "{page}");
}

#[tokio::test]
async fn modules_are_shown_with_their_limits_and_whether_they_start_jobs() {
    let server = Server::start().await;
    let page = server.get("/").await.text();
    assert!(page.contains("<h2>Modules, generation ") && page.contains("time limit"), "{page}");
    let row = |page: &str| {
        let rows = page.split("<tr>").filter(|row| row.contains("?module=hello\"") && row.contains(" MiB"));
        rows.collect::<String>()
    };
    assert!(row(&page).contains(">yes<"), "{page}");
    server.call("POST", "/v1/modules/hello/pause", r#"{"reason": "wrong totals"}"#.to_owned()).await;
    let page = server.get("/").await.text();
    assert!(row(&page).contains("no, it is paused since") && row(&page).contains(": wrong totals"), "{page}");
}

#[tokio::test]
async fn what_a_job_failed_of_before_is_not_said_to_have_ended_it() {
    let mut server = Server::start().await;
    let id = server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    host.finish(attempt, Outcome::Failed(Failure::new(Cause::Exit, "no luck"))).await;
    assert!(server.get("/").await.text().contains("exit: no luck"), "it waits to be tried again for that");
    server.post(&format!("/v1/jobs/{id}/cancel")).await;
    assert!(!server.get("/?state=cancelled").await.text().contains("no luck"));
    let page = server.get(&format!("/jobs/{id}")).await.text();
    assert!(page.contains("The last attempt that failed: exit"), "{page}");
}

#[tokio::test]
async fn a_paused_queue_says_why_also_where_nothing_waits() {
    let server = Server::start().await;
    let pause = r#"{"by": "Ada", "reason": "a repair"}"#;
    server.call("POST", "/v1/queues/default/pause", pause.to_owned()).await;
    let page = server.get("/").await.text();
    assert!(page.contains(" by Ada: a repair"), "{page}");
}

/// Presses a button of a page of ours.
async fn press(server: &Server, path: &str) -> Reply {
    let own = [("host", "localhost"), ("sec-fetch-site", "same-origin")];
    server.send("POST", path, &own, "").await
}

#[tokio::test]
async fn what_is_done_to_all_jobs_of_a_list_is_said_before_it_is_done() {
    let server = Server::start().await;
    let first = server.enqueued(LATER).await;
    server.enqueued(LATER).await;
    let list = server.get("/?state=scheduled&queue=default&limit=1").await.text();
    for part in [
        "<form method=\"get\" action=\"/sweep\">",
        "<input type=\"hidden\" name=\"queue\" value=\"default\">",
        "<button name=\"action\" value=\"cancel\">cancel all</button>",
    ] {
        assert!(list.contains(part), "{part} is not in {list}");
    }
    assert!(!list.contains("name=\"limit\""), "all jobs are meant, and not those of the page");
    let path = "/sweep?queue=default&state=scheduled&action=cancel";
    let asks = server.get(path).await.text();
    assert!(asks.contains("Cancel all jobs with state scheduled, queue default?"), "{asks}");
    assert!(asks.contains("<strong>2 jobs</strong>") && asks.contains(&first), "{asks}");
    assert!(asks.contains(
        "<form method=\"post\" action=\"/sweep?queue=default&amp;state=scheduled&amp;action=cancel\">"
    ));
    assert_eq!(server.get("/v1/sweeps").await.json()["sweeps"], json!([]), "nothing is done yet");
    let begun = press(&server, path).await;
    assert_eq!((begun.status, begun.header("location")), (StatusCode::SEE_OTHER, "/sweeps/1"));
    let sweep = server.get("/sweeps/1").await.text();
    assert!(sweep.contains("Sweep 1: cancel") && sweep.contains("state scheduled, queue default"), "{sweep}");
    assert!(server.get("/").await.text().contains("href=\"/sweeps/1\""));
}

#[tokio::test]
async fn a_list_of_all_jobs_has_no_button_for_all_of_them() {
    let server = Server::start().await;
    server.enqueued(LATER).await;
    assert!(!server.get("/?limit=5").await.text().contains("/sweep\""));
    for path in [
        "/sweep?action=delete",
        "/sweep?action=delete&limit=5",
        "/sweep",
        "/sweep?action=run&state=scheduled",
    ] {
        assert!(server.get(path).await.status.is_client_error(), "{path}");
        assert!(press(&server, path).await.status.is_client_error(), "{path}");
    }
    let wrong = server.get("/sweep?action=retry&state=gone").await;
    assert!(wrong.status.is_client_error() && wrong.text().contains("gone"), "{}", wrong.text());
    assert_eq!(server.get("/v1/sweeps").await.json()["sweeps"], json!([]));
    assert_eq!(server.get("/sweeps/x").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(server.get("/sweeps/7").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_list_has_buttons_for_what_its_jobs_can_be_asked() {
    let server = Server::start().await;
    let has = async |query: &str, action: &str| {
        server.get(query).await.text().contains(&format!("name=\"action\" value=\"{action}\""))
    };
    for (query, buttons) in [
        ("/?state=discarded", [true, false, true]),
        ("/?state=running", [false, true, false]),
        ("/?queue=default", [true, true, true]),
    ] {
        for (action, expected) in ["retry", "cancel", "delete"].into_iter().zip(buttons) {
            assert_eq!(has(query, action).await, expected, "{action} of {query}");
        }
    }
}

#[tokio::test]
async fn a_group_of_failures_is_retried_and_deleted_by_a_button_while_it_has_open_jobs() {
    let mut server = Server::start().await;
    server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    host.finish(attempt, Outcome::Failed(Failure::new(Cause::Exit, "no <b>luck"))).await;
    let groups = server.get("/v1/failures").await.json();
    let fingerprint = groups["failures"][0]["fingerprint"].as_str().unwrap().to_owned();
    let page = server.get("/").await.text();
    let hidden = format!("<input type=\"hidden\" name=\"failure\" value=\"{fingerprint}\">");
    assert!(page.contains(&hidden) && page.contains("retry all") && page.contains("delete all"), "{page}");
    let path = format!("/sweep?failure={fingerprint}&action=retry");
    assert!(server.get(&path).await.text().contains("<strong>1 job</strong>"));
    assert_eq!(press(&server, &path).await.status, StatusCode::SEE_OTHER);
    server.post(&format!("/v1/jobs/{}/cancel", attempt.job)).await;
    server.call("DELETE", &format!("/v1/jobs/{}", attempt.job), "").await;
    assert!(!server.get("/").await.text().contains(&hidden), "nothing is open of it");
}
