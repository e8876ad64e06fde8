//! The client against a stub that answers what a server might.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use midge_client::{Client, ClientError, EnqueueRequest, JobNews, Position, WaitError};
use midge_protocol::api::{
    BatchEvent, BatchFilter, BatchRequest, BatchState, BulkRequest, CostsBy, CostsFilter, FailuresFilter,
    JobFilter,
};
use midge_protocol::{BatchId, JobId, ModuleName, Secret};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What the stub was asked.
#[derive(Debug, Clone)]
struct Asked {
    method: Method,
    path_and_query: String,
    authorization: Option<String>,
    content_type: Option<String>,
    last_event_id: Option<String>,
    body: Bytes,
}

#[derive(Default)]
struct Script {
    answers: VecDeque<(u16, String)>,
    asked: Vec<Asked>,
}

#[derive(Clone, Default)]
struct Stub(Arc<Mutex<Script>>);

impl Stub {
    /// Starts a stub that gives these answers, one after the other.
    async fn answering(answers: impl IntoIterator<Item = (u16, Value)>) -> (Stub, Client) {
        Stub::raw(answers.into_iter().map(|(status, body)| (status, body.to_string()))).await
    }

    async fn raw(answers: impl IntoIterator<Item = (u16, String)>) -> (Stub, Client) {
        let stub = Stub::default();
        stub.0.lock().unwrap().answers = answers.into_iter().collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/under/a/path/", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(stub.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (stub, Client::new(&url).unwrap())
    }

    fn asked(&self) -> Vec<Asked> {
        self.0.lock().unwrap().asked.clone()
    }
}

async fn answer(State(stub): State<Stub>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let asked = Asked {
        method: parts.method.clone(),
        path_and_query: parts.uri.to_string(),
        authorization: header("authorization"),
        content_type: header("content-type"),
        last_event_id: header("last-event-id"),
        body: axum::body::to_bytes(body, usize::MAX).await.unwrap(),
    };
    let mut script = stub.0.lock().unwrap();
    script.asked.push(asked);
    let (status, body) = script.answers.pop_front().expect("the stub has an answer for each call");
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

fn module(name: &str) -> ModuleName {
    ModuleName::new(name).unwrap()
}

fn job(id: JobId, state: &str) -> Value {
    json!({
        "id": id, "module": "hello", "queue": "default", "state": state, "attempt": 1, "spent": 1,
        "max_attempts": 25, "enqueued_at": "2030-01-01T00:00:00Z", "scheduled_at": "2030-01-01T00:00:00Z",
    })
}

#[tokio::test]
async fn an_enqueue_is_json_under_the_servers_path_with_the_token() {
    let request = EnqueueRequest::new(module("hello")).args(&json!({"n": 1})).unwrap();
    let (stub, client) = Stub::answering([(200, json!({"id": request.id, "new": true}))]).await;
    let client = client.token(&Secret::new("s3cret")).unwrap();
    let enqueued = client.enqueue(&request).await.unwrap();
    assert!(enqueued.new && enqueued.id == request.id);
    let asked = &stub.asked()[0];
    assert_eq!((&asked.method, asked.path_and_query.as_str()), (&Method::POST, "/under/a/path/v1/jobs"));
    assert_eq!(asked.authorization.as_deref(), Some("Bearer s3cret"));
    assert_eq!(asked.content_type.as_deref(), Some("application/json"));
    let sent: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(sent, json!({"id": request.id, "module": "hello", "args": {"n": 1}}));
}

#[tokio::test]
async fn a_delete_is_answered_with_nothing() {
    let (stub, client) = Stub::raw([(204, String::new())]).await;
    let id = JobId::generate();
    client.delete(id).await.unwrap();
    let asked = &stub.asked()[0];
    let path = format!("/under/a/path/v1/jobs/{id}");
    assert_eq!((&asked.method, asked.path_and_query.as_str()), (&Method::DELETE, path.as_str()));
}

#[tokio::test]
async fn a_refusal_carries_the_servers_words() {
    let refusal =
        json!({"code": "unknown_module", "error": "there is no module `helo`: did you mean `hello`?"});
    let (stub, client) = Stub::answering([(422, refusal)]).await;
    let error = client.enqueue(&EnqueueRequest::new(module("helo"))).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no module `helo`: did you mean `hello`?");
    assert_eq!(error.code(), Some("unknown_module"));
    assert!(matches!(error, ClientError::Refused { status: 422, .. }));
    assert_eq!(stub.asked().len(), 1, "a refusal is not tried again");
}

#[tokio::test]
async fn what_does_not_speak_as_a_server_is_said_to_be_none() {
    let pages = [(200, "<html>hello</html>".to_owned()), (404, "not found".to_owned()), (302, String::new())];
    let (_, client) = Stub::raw(pages).await;
    for _ in 0..3 {
        let error = client.queues().await.unwrap_err();
        assert!(matches!(error, ClientError::Malformed { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_call_waits_for_a_server_that_is_about_to_listen() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = Client::new(&format!("http://{address}")).unwrap().tries(100);
    let call = tokio::spawn(async move { client.queues().await });
    tokio::task::yield_now().await;
    let listener = TcpListener::bind(address).await.unwrap();
    let stub = Stub::default();
    stub.0.lock().unwrap().answers.push_back((200, json!({"queues": []}).to_string()));
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer).with_state(stub)).await });
    assert_eq!(call.await.unwrap().unwrap().queues, []);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable_after_the_last_try() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Client::new(&url).unwrap().tries(1).queues().await.unwrap_err();
    assert_eq!(error.to_string(), format!("no midge server answers at {url}"));
    assert!(matches!(error, ClientError::Unreachable { .. }));
}

#[tokio::test]
async fn a_call_that_may_have_been_carried_out_is_repeated_only_where_twice_is_as_good_as_once() {
    // A server that takes the call and ends the connection without an answer.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let calls = Arc::new(Mutex::new(0));
    let counted = calls.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.readable().await.unwrap();
            let mut taken = [0; 16];
            let _ = stream.try_read(&mut taken);
            *counted.lock().unwrap() += 1;
        }
    });
    let client = Client::new(&url).unwrap().tries(3);
    let taken = || std::mem::take(&mut *calls.lock().unwrap());
    client.enqueue(&EnqueueRequest::new(module("hello"))).await.unwrap_err();
    assert_eq!(taken(), 3, "an enqueue is idempotent");
    client.retry(JobId::generate()).await.unwrap_err();
    assert_eq!(taken(), 1, "a retry is not");
}

#[tokio::test]
async fn a_wait_asks_again_until_the_job_has_ended() {
    let id = JobId::generate();
    let (stub, client) =
        Stub::answering(["running", "running", "completed"].map(|state| (200, job(id, state)))).await;
    assert!(client.wait(id, None).await.unwrap().state.is_ended());
    let asked = stub.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked[0].path_and_query.ends_with(&format!("/v1/jobs/{id}/wait?timeout_ms=60000")), "{asked:?}");
}

#[tokio::test]
async fn a_wait_with_a_timeout_returns_the_job_as_it_is_then() {
    let id = JobId::generate();
    let (_, client) = Stub::answering([(200, job(id, "running"))]).await;
    let job = client.wait(id, Some(Duration::ZERO)).await.unwrap();
    assert!(!job.state.is_ended());
}

fn no_content() -> (u16, Value) {
    (404, json!({"code": "no_content", "error": "the job has no result"}))
}

#[tokio::test]
async fn a_result_that_comes_in_time_is_one_call() {
    let id = JobId::generate();
    let (stub, client) = Stub::answering([(200, json!([1, 2]))]).await;
    assert_eq!(client.wait_result_bytes(id, None).await.unwrap(), "[1,2]");
    let asked = stub.asked();
    let path = format!("/under/a/path/v1/jobs/{id}/result?timeout_ms=60000");
    assert_eq!((asked.len(), asked[0].path_and_query.as_str()), (1, path.as_str()));
}

#[tokio::test]
async fn a_wait_for_a_result_goes_on_while_the_job_does() {
    let id = JobId::generate();
    let answers = [no_content(), (200, job(id, "running")), (200, json!([1, 2]))];
    let (_, client) = Stub::answering(answers).await;
    assert_eq!(client.wait_result_bytes(id, None).await.unwrap(), "[1,2]");
}

#[tokio::test]
async fn a_wait_for_a_result_that_is_over_tells_of_a_job_that_goes_on() {
    let id = JobId::generate();
    let (_, client) = Stub::answering([no_content(), (200, job(id, "running"))]).await;
    let error = client.wait_result_bytes(id, Some(Duration::ZERO)).await.unwrap_err();
    assert!(matches!(&error, WaitError::NotCompleted(job) if !job.state.is_ended()));
    assert!(error.to_string().contains("is still running"), "{error}");
}

#[tokio::test]
async fn a_job_that_is_not_there_is_not_waited_for() {
    let missing = json!({"code": "no_such_job", "error": "there is no job"});
    let (stub, client) = Stub::answering([(404, missing)]).await;
    let error = client.wait_result_bytes(JobId::generate(), None).await.unwrap_err();
    assert!(matches!(&error, WaitError::Client(error) if error.code() == Some("no_such_job")), "{error:?}");
    assert_eq!(stub.asked().len(), 1);
}

#[tokio::test]
async fn a_typed_result_is_read_from_a_completed_job_only() {
    let id = JobId::generate();
    let mut discarded = job(id, "discarded");
    discarded["failure"] = json!({"cause": "over_time", "message": "700 ms are over"});
    let answers = [(200, json!([1, 2])), no_content(), (200, discarded), (200, json!("text"))];
    let (_, client) = Stub::answering(answers).await;
    assert_eq!(client.wait_result::<Vec<u64>>(id).await.unwrap(), [1, 2]);
    let error = client.wait_result::<Vec<u64>>(id).await.unwrap_err();
    let text = format!("job {id} of module hello was discarded: over_time: 700 ms are over");
    assert!(matches!(&error, WaitError::NotCompleted(_)));
    assert_eq!(error.to_string(), text);
    let error = client.wait_result::<Vec<u64>>(id).await.unwrap_err();
    assert!(matches!(error, WaitError::NotTheType { .. }), "{error:?}");
}

#[tokio::test]
async fn a_filter_travels_in_the_query() {
    let nothing = json!({
        "attempts": 0, "machines": 0, "busy_us": 0, "idle_us": 0, "stopped_us": 0,
        "busy": "0.00", "idle": "0.00", "stopped": "0.00", "dollars": "0.00",
    });
    let costs = json!({
        "since": "2030-01-01", "until": "2030-01-31", "by": "day", "groups": [], "left_out": 0, "total": nothing,
    });
    let answers = [json!({"jobs": []}), json!({"failures": []}), costs];
    let (stub, client) = Stub::answering(answers.map(|answer| (200, answer))).await;
    let filter = JobFilter {
        state: Some("discarded".parse().unwrap()),
        module: Some(module("hello")),
        limit: Some(7),
        ..JobFilter::default()
    };
    assert_eq!(client.jobs(&filter).await.unwrap().jobs, []);
    assert_eq!(stub.asked()[0].path_and_query, "/under/a/path/v1/jobs?state=discarded&module=hello&limit=7");
    let before = Some("7.0c3fa51b22d07e94".parse().unwrap());
    let filter = FailuresFilter { module: Some(module("hello")), before, limit: Some(7) };
    assert_eq!(client.failures(&filter).await.unwrap().failures, []);
    assert_eq!(
        stub.asked()[1].path_and_query,
        "/under/a/path/v1/failures?module=hello&before=7.0c3fa51b22d07e94&limit=7"
    );
    let (since, until) = ("2030-01-01".parse().ok(), "2030-01-31".parse().ok());
    let costs = client.costs(&CostsFilter { since, until, by: Some(CostsBy::Day) }).await.unwrap();
    assert_eq!((costs.since, costs.total.dollars.as_nanos()), (since.unwrap(), 0));
    assert_eq!(
        stub.asked()[2].path_and_query,
        "/under/a/path/v1/costs?since=2030-01-01&until=2030-01-31&by=day"
    );
}

#[tokio::test]
async fn bulks_hold_as_many_jobs_and_bytes_as_they_may() {
    let large = EnqueueRequest::new(module("hello")).input(vec![0; 10 * 1024 * 1024]);
    let small = || EnqueueRequest::new(module("hello"));
    let requests =
        [small(), small(), small(), large.clone(), EnqueueRequest { id: JobId::generate(), ..large }];
    let answers = [2, 2, 1].map(|len| {
        let id = JobId::generate();
        (200, json!({"jobs": vec![json!({"id": id, "new": true}); len]}))
    });
    let (stub, client) = Stub::answering(answers).await;
    let mut done = Vec::new();
    client.enqueue_in_bulks(requests, 2, |bulk| done.push(bulk.len())).await.unwrap();
    assert_eq!(done, [2, 2, 1]);
    let sent = |asked: &Asked| serde_json::from_slice::<BulkRequest>(&asked.body).unwrap().jobs.len();
    assert_eq!(stub.asked().iter().map(sent).collect::<Vec<_>>(), [2, 2, 1]);
}

#[tokio::test]
async fn a_batch_is_made_closed_and_cancelled_under_its_id() {
    let id = BatchId::generate();
    let made = json!({"id": id, "new": true, "callbacks": {"ended": JobId::generate()}});
    let batch = |state: &str| json!({"id": id, "state": state, "jobs": {"completed": 2}, "total": 2, "created_at": "2030-01-01T00:00:00Z"});
    let answers =
        [made, batch("open"), batch("closed"), batch("closed"), json!({"batches": [batch("ended")]})];
    let (stub, client) = Stub::answering(answers.map(|answer| (200, answer))).await;
    let job = EnqueueRequest::new(module("hello"));
    let request = BatchRequest { id, ..BatchRequest::new("import").on(BatchEvent::Ended, job) };
    assert!(client.make_batch(&request).await.unwrap().callbacks.contains_key(&BatchEvent::Ended));
    assert_eq!(client.batch(id).await.unwrap().jobs.completed, 2);
    assert_eq!(client.close_batch(id).await.unwrap().state, BatchState::Closed);
    client.cancel_batch(id).await.unwrap();
    let filter = BatchFilter { before: Some(id), limit: Some(7) };
    assert_eq!(client.batches(&filter).await.unwrap().batches.len(), 1);
    let asked: Vec<String> =
        stub.asked().iter().map(|asked| format!("{} {}", asked.method, asked.path_and_query)).collect();
    let path = "/under/a/path/v1/batches";
    let expected = [
        format!("POST {path}"),
        format!("GET {path}/{id}"),
        format!("POST {path}/{id}/close"),
        format!("POST {path}/{id}/cancel"),
        format!("GET {path}?before={id}&limit=7"),
    ];
    assert_eq!(asked, expected);
    let sent: Value = serde_json::from_slice(&stub.asked()[0].body).unwrap();
    assert_eq!((&sent["name"], &sent["on_ended"]["module"]), (&json!("import"), &json!("hello")));
}

#[test]
fn what_is_no_url_is_refused_before_anything_is_sent() {
    for url in ["", "127.0.0.1:7433", "ftp://host", "unix:/run/midge"] {
        assert!(matches!(Client::new(url), Err(ClientError::Invalid(_))), "{url}");
    }
}

fn event(id: &str, name: &str, data: &Value) -> String {
    format!(": alive\n\nid: {id}\nevent: {name}\ndata: {data}\n\n")
}

#[tokio::test]
async fn who_follows_comes_back_where_it_was_cut_until_the_job_has_ended() {
    let id = JobId::generate();
    let log = |offset: u64, text: &str| json!({"attempt": 1, "offset": offset, "text": text});
    let cut = "id: 1:9\nevent: log\ndata: {\"att";
    let busy = json!({"code": "busy", "error": "too many callers are being answered"});
    let (stub, client) = Stub::raw([
        (200, event("1:0", "state", &job(id, "running")) + &event("1:3", "log", &log(0, "one")) + cut),
        (503, busy.to_string()),
        (200, event("1:5", "sung", &json!("la")) + &event("1:6", "log", &log(3, "two"))),
        (200, event("1:6:over", "ended", &job(id, "completed"))),
    ])
    .await;
    let mut follow = client.follow(id, Position::BEGINNING);
    let (mut heard, mut names) = (Vec::new(), Vec::new());
    while let Some(news) = follow.next().await.unwrap() {
        names.push(news.name());
        if let JobNews::Log(piece) = news {
            heard.extend_from_slice(&piece.bytes);
        }
    }
    assert_eq!((names.as_slice(), &heard[..]), (&["state", "log", "log", "ended"][..], &b"onetwo"[..]));
    assert_eq!(follow.next().await.unwrap(), None);
    assert_eq!(follow.position().to_string(), "1:6:over");
    let asked = stub.asked();
    assert_eq!(asked[0].path_and_query, format!("/under/a/path/v1/jobs/{id}/events"));
    let last: Vec<_> = asked.iter().map(|asked| asked.last_event_id.as_deref()).collect();
    assert_eq!(last, [None, Some("1:3"), Some("1:3"), Some("1:6")]);
}

#[tokio::test]
async fn who_follows_what_is_not_there_is_told_so_and_what_is_over_is_over() {
    let refusal = json!({"code": "no_such_job", "error": "there is no job"}).to_string();
    let full = json!({"code": "too_many_followers", "error": "512 callers follow"}).to_string();
    let (stub, client) = Stub::raw([(404, refusal), (429, full), (204, String::new())]).await;
    for code in ["no_such_job", "too_many_followers"] {
        let error = client.follow(JobId::generate(), Position::BEGINNING).next().await.unwrap_err();
        assert_eq!(error.code(), Some(code));
    }
    let over: Position = "1:6:over".parse().unwrap();
    assert_eq!(client.follow(JobId::generate(), over).next().await.unwrap(), None);
    assert_eq!(stub.asked().len(), 3);
}

#[tokio::test]
async fn who_follows_a_server_that_only_cuts_it_gives_up() {
    let (_, client) = Stub::raw([(200, String::new()), (200, ": alive\n\n".to_owned())]).await;
    let mut follow = client.tries(2).follow(JobId::generate(), Position::BEGINNING);
    let error = follow.next().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
}
