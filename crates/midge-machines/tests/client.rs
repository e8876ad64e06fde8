//! The client against an API that answers what a test tells it to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use midge_machines::{
    FlyMachines, FlySettings, Label, Launch, MachineError, MachineSpec, Machines, SeenState,
};
use midge_protocol::manifest::MachineSize;
use midge_protocol::{MachineId, MachineName, Secret};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A status, headers and a body.
type Scripted = (u16, Vec<(&'static str, &'static str)>, String);

/// A server that gives scripted answers, in order, and remembers what it was asked.
#[derive(Clone, Default)]
struct Stub {
    answers: Arc<Mutex<VecDeque<Scripted>>>,
    asked: Arc<Mutex<Vec<(String, HeaderMap, String)>>>,
}

impl Stub {
    fn answer(&self, status: u16, body: impl ToString) -> &Stub {
        self.answer_with(status, Vec::new(), body)
    }

    fn answer_with(
        &self,
        status: u16,
        headers: Vec<(&'static str, &'static str)>,
        body: impl ToString,
    ) -> &Stub {
        self.answers.lock().unwrap().push_back((status, headers, body.to_string()));
        self
    }

    /// Returns `METHOD path?query` of every request.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(line, _, _)| line.clone()).collect()
    }

    async fn client(&self) -> FlyMachines {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = client(&listener);
        let routes = Router::new().fallback(reply).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        client
    }
}

async fn reply(State(stub): State<Stub>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let line = format!("{} {}", parts.method, parts.uri);
    let body = String::from_utf8(body.to_vec()).unwrap();
    stub.asked.lock().unwrap().push((line, parts.headers, body));
    let (status, headers, body) =
        stub.answers.lock().unwrap().pop_front().unwrap_or((418, vec![], "not in the script".to_owned()));
    let headers: HeaderMap =
        headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    (StatusCode::from_u16(status).unwrap(), headers, body).into_response()
}

fn client(listener: &TcpListener) -> FlyMachines {
    FlyMachines::new(FlySettings {
        base_url: format!("http://{}", listener.local_addr().unwrap()),
        app: "jobs".to_owned(),
        token: Secret::new("FlyV1 fm2_secret"),
    })
    .unwrap()
}

fn spec() -> MachineSpec {
    MachineSpec {
        name: MachineName::new("q-1").unwrap(),
        region: Some("iad,us".to_owned()),
        image: "registry.fly.io/app:v1".to_owned(),
        exec: vec!["/midge-host".to_owned()],
        env: BTreeMap::from([("MIDGE_QUEUE".to_owned(), "default".to_owned())]),
        size: MachineSize::default(),
        has_secrets: false,
        metadata: BTreeMap::from([("midge_generation".to_owned(), "g1".to_owned())]),
    }
}

/// Returns a Machine as the API would echo the spec.
fn echo(id: &str) -> Value {
    json!({
        "id": id, "name": "q-1", "state": "created", "region": "iad", "host_status": "ok", "events": [],
        "config": {
            "image": "registry.fly.io/app:v1", "env": {"MIDGE_QUEUE": "default"},
            "init": {"exec": ["/midge-host"]}, "restart": {"policy": "no"},
            "guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 1024},
            "metadata": {"midge_generation": "g1"},
        },
    })
}

fn id(id: &str) -> MachineId {
    MachineId::new(id).unwrap()
}

#[tokio::test]
async fn a_create_sends_what_the_spec_says_with_the_token_in_its_header() {
    let stub = Stub::default();
    let client = stub.answer(200, echo("a1")).client().await;
    assert_eq!(client.create(&spec(), Launch::Later).await.unwrap(), id("a1"));

    let asked = stub.asked.lock().unwrap();
    let (line, headers, body) = &asked[0];
    assert_eq!(line, "POST /v1/apps/jobs/machines");
    assert_eq!(headers["authorization"], "FlyV1 fm2_secret");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (&body["name"], &body["region"], &body["skip_launch"]),
        (&json!("q-1"), &json!("iad,us"), &json!(true))
    );
    assert_eq!(body["skip_secrets"], json!(true));
    assert_eq!(body["config"]["restart"], json!({"policy": "no"}));
}

#[tokio::test]
async fn a_taken_name_is_adopted_by_the_id_in_the_answer() {
    let stub = Stub::default();
    let taken =
        r#"already_exists: unique machine name violation, machine ID a1 already exists with name "q-1""#;
    let taken = json!({"error": taken, "status": "name_taken"});
    let client = stub.answer(409, &taken).answer(200, echo("a1")).client().await;
    assert_eq!(client.create(&spec(), Launch::Now).await.unwrap(), id("a1"));
    // It may be there also where nobody can tell.
    let client = stub.answer(409, &taken).answer(503, "").client().await;
    assert_eq!(client.create(&spec(), Launch::Now).await.unwrap(), id("a1"));
}

#[tokio::test]
async fn a_name_that_is_still_that_of_one_that_is_gone_is_a_conflict_and_nothing_to_adopt() {
    let taken = "already_exists: unique machine name violation, machine ID a1 already exists";
    for (status, gone) in
        [(404, json!({"error": "not_found"})), (200, json!({"id": "a1", "state": "destroying"}))]
    {
        let stub = Stub::default();
        let client = stub
            .answer(409, json!({"error": taken, "status": "name_taken"}))
            .answer(status, gone)
            .answer(200, "[]")
            .client()
            .await;
        let error = client.create(&spec(), Launch::Now).await.unwrap_err();
        assert!(matches!(&error, MachineError::Conflict(why) if why.contains("a1")), "{error:?}");
    }
}

#[tokio::test]
async fn a_list_with_a_machine_that_cannot_be_judged_is_none() {
    for field in ["id", "name", "state", "config"] {
        let stub = Stub::default();
        let mut odd = echo("a2");
        odd.as_object_mut().unwrap().remove(field);
        let client = stub.answer(200, json!([echo("a1"), odd])).client().await;
        let error = client.list(&Label::new("k", "v")).await.unwrap_err();
        let MachineError::Unavailable(why) = &error else { panic!("{error:?}") };
        assert!(why.to_string().contains(&format!("`{field}`")), "{why}");
    }
}

#[tokio::test]
async fn a_create_whose_answer_has_no_id_says_so() {
    let stub = Stub::default();
    let client = stub.answer(200, json!({"state": "created"})).answer(200, "[]").client().await;
    let error = client.create(&spec(), Launch::Now).await.unwrap_err();
    let MachineError::Ambiguous { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains("`id`"), "{source}");
}

#[tokio::test]
async fn a_refused_call_waits_as_long_as_it_was_told_before_it_is_made_again() {
    let stub = Stub::default();
    let limited = json!({"error": "resource_exhausted: rate limit exceeded"});
    let client = stub
        .answer_with(429, vec![("retry-after", "0.2")], limited)
        .answer(200, "{}")
        .answer(200, "{}")
        .client()
        .await;
    client.start(&id("a1")).await.unwrap_err();
    let began = std::time::Instant::now();
    client.start(&id("a2")).await.unwrap();
    client.start(&id("a1")).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_machine_is_suspended_and_one_that_is_so_already_is_no_error() {
    let stub = Stub::default();
    let from = "failed_precondition: unable to suspend machine from current state: 'suspended'";
    let client = stub.answer(200, json!({"ok": true})).answer(412, json!({"error": from})).client().await;
    client.suspend(&id("a1")).await.unwrap();
    client.suspend(&id("a1")).await.unwrap();
    assert_eq!(stub.asked()[0], "POST /v1/apps/jobs/machines/a1/suspend");
}

#[tokio::test]
async fn a_taken_name_without_an_id_is_looked_up() {
    let stub = Stub::default();
    let client = stub
        .answer(409, json!({"error": "taken", "status": "name_taken"}))
        .answer(200, json!([echo("a1")]))
        .client()
        .await;
    assert_eq!(client.create(&spec(), Launch::Now).await.unwrap(), id("a1"));
    assert_eq!(stub.asked()[1], "GET /v1/apps/jobs/machines?limit=200&metadata.midge_generation=g1");
}

#[tokio::test]
async fn a_create_without_a_clear_answer_is_looked_up_before_it_is_called_ambiguous() {
    for (status, body) in [(503, ""), (408, "deadline_exceeded"), (200, "not JSON")] {
        let stub = Stub::default();
        let mut other = echo("b2");
        other["name"] = json!("q-2");
        let mut gone = echo("c3");
        gone["state"] = json!("destroying");
        let client = stub.answer(status, body).answer(200, json!([other, gone, echo("a1")])).client().await;
        assert_eq!(client.create(&spec(), Launch::Now).await.unwrap(), id("a1"), "{status}");

        let client = stub.answer(status, body).answer(200, "[]").client().await;
        let error = client.create(&spec(), Launch::Now).await.unwrap_err();
        assert!(matches!(error, MachineError::Ambiguous { .. }), "{status}: {error:?}");

        let client = stub.answer(status, body).answer(500, "").client().await;
        let error = client.create(&spec(), Launch::Now).await.unwrap_err();
        assert!(matches!(error, MachineError::Ambiguous { .. }), "{status}: {error:?}");
    }
}

#[tokio::test]
async fn a_create_whose_connection_breaks_is_ambiguous_but_one_that_never_connected_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client(&listener);
    // Takes the connection and closes it, for the create and for the look-up.
    let closes = async {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    };
    let spec = spec();
    let error = tokio::select! {
        answer = client.create(&spec, Launch::Now) => answer.unwrap_err(),
        () = closes => unreachable!("a listener does not end"),
    };
    assert!(matches!(error, MachineError::Ambiguous { .. }), "{error:?}");

    drop(listener);
    let error = client.create(&spec, Launch::Now).await.unwrap_err();
    assert!(matches!(error, MachineError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn a_machine_that_came_out_without_what_was_sent_is_destroyed() {
    let stub = Stub::default();
    let mut odd = echo("a1");
    odd["config"]["env"] = json!({});
    let client = stub.answer(200, odd).answer(200, json!({"ok": true})).client().await;
    let error = client.create(&spec(), Launch::Now).await.unwrap_err();
    assert!(matches!(&error, MachineError::Invalid(why) if why.contains("its env")), "{error:?}");
    assert_eq!(stub.asked()[1], "DELETE /v1/apps/jobs/machines/a1?force=true");
}

#[tokio::test]
async fn a_machine_of_which_only_an_id_came_out_is_destroyed_too() {
    for config in [json!({}), json!({"config": null})] {
        let stub = Stub::default();
        let mut bare = json!({"id": "a1", "state": "created"});
        bare.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        let client = stub.answer(200, bare).answer(200, json!({"ok": true})).client().await;
        let error = client.create(&spec(), Launch::Now).await.unwrap_err();
        assert!(
            matches!(&error, MachineError::Invalid(why) if why == "the Machine came out without its config"),
            "{error:?}"
        );
        assert_eq!(stub.asked()[1], "DELETE /v1/apps/jobs/machines/a1?force=true");
    }
}

#[tokio::test]
async fn a_spec_that_is_refused_is_never_sent() {
    let stub = Stub::default();
    let client = stub.client().await;
    let bad = MachineSpec { exec: vec![], ..spec() };
    assert!(matches!(client.create(&bad, Launch::Now).await, Err(MachineError::Invalid(_))));
    assert!(stub.asked().is_empty());
}

#[tokio::test]
async fn a_rate_limit_is_handed_on_with_its_time_and_nothing_is_repeated() {
    let stub = Stub::default();
    let limited = json!({"error": "resource_exhausted: rate limit exceeded"});
    let client = stub.answer_with(429, vec![("retry-after", "3")], limited).client().await;
    let error = client.start(&id("a1")).await.unwrap_err();
    let expected = Some(Duration::from_secs(3));
    assert!(
        matches!(error, MachineError::RateLimited { retry_after } if retry_after == expected),
        "{error:?}"
    );
    assert_eq!(stub.asked(), ["POST /v1/apps/jobs/machines/a1/start"]);
}

#[tokio::test]
async fn a_list_follows_its_pages_and_a_page_that_leads_to_itself_ends_it() {
    let stub = Stub::default();
    let client = stub
        .answer_with(200, vec![("fly-next-cursor", "two")], json!([echo("a1")]))
        .answer_with(200, vec![("fly-next-cursor", "two")], json!([echo("a2")]))
        .client()
        .await;
    let seen = client.list(&Label::new("midge_queue", "a b&c")).await.unwrap();
    assert_eq!(seen.iter().map(|seen| seen.id.as_str()).collect::<Vec<_>>(), ["a1", "a2"]);
    let base = "GET /v1/apps/jobs/machines?limit=200&metadata.midge_queue=a+b%26c";
    assert_eq!(stub.asked(), [base.to_owned(), format!("{base}&cursor=two")]);
}

#[tokio::test]
async fn a_list_shows_machines_that_do_not_answer_and_hides_those_that_are_gone() {
    let stub = Stub::default();
    let lost =
        json!({"id": "a1", "name": "m", "state": "started", "config": null, "host_status": "unreachable"});
    let client =
        stub.answer(200, json!([lost, {"id": "a2", "name": "n", "state": "destroyed"}])).client().await;
    let seen = client.list(&Label::new("k", "v")).await.unwrap();
    assert_eq!(seen.len(), 1);
    assert!(!seen[0].reachable);
}

#[tokio::test]
async fn an_answer_without_an_end_is_cut_off() {
    let stub = Stub::default();
    let client = stub.answer(200, "[".repeat(17 * 1024 * 1024)).client().await;
    let error = client.list(&Label::new("k", "v")).await.unwrap_err();
    assert!(
        matches!(&error, MachineError::Unavailable(why) if why.to_string().contains("bytes")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let stub = Stub::default();
    let client = stub.answer_with(302, vec![("location", "/elsewhere")], "").client().await;
    let error = client.get(&id("a1")).await.unwrap_err();
    assert!(matches!(error, MachineError::Invalid(_)), "{error:?}");
    assert_eq!(stub.asked().len(), 1);
}

#[tokio::test]
async fn a_wait_for_stopped_names_the_version_and_asks_again_when_the_api_gives_up() {
    let stub = Stub::default();
    let running = json!({"id": "a1", "state": "started", "instance_id": "01V"});
    let client = stub
        .answer(200, &running)
        .answer(408, json!({"error": "deadline_exceeded: machine failed to reach desired state"}))
        .answer(200, &running)
        .answer(200, json!({"ok": true, "state": "stopped"}))
        .client()
        .await;
    client.wait(&id("a1"), SeenState::Stopped, Duration::from_secs(600)).await.unwrap();
    let wait = "GET /v1/apps/jobs/machines/a1/wait?version=01V&state=stopped&timeout=60";
    assert_eq!([&stub.asked()[1], &stub.asked()[3]], [wait, wait]);
}

#[tokio::test]
async fn a_machine_that_is_gone_ends_a_wait_for_stopped() {
    let stub = Stub::default();
    let client = stub.answer(200, json!({"id": "a1", "state": "destroying"})).client().await;
    let error = client.wait(&id("a1"), SeenState::Stopped, Duration::from_secs(600)).await.unwrap_err();
    assert!(matches!(&error, MachineError::Gone(gone) if *gone == id("a1")), "{error:?}");
}
