//! What documents show of the HTTP API is what a server takes, and what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use midge_protocol::manifest::{QueuePolicy, ScheduleEntry, ServerPolicy};
use midge_server::Access;
use midge_store::conformance::fixtures::{Database, module, queue};
use midge_store::{MemoryStore, Store};
use serde_json::{Value, json};

use super::stage::{self, JSON, Reply, Server, done};

pub const API: &str = include_str!("../../../../docs/api.md");
const QUEUES: &str = include_str!("../../../../docs/queues.md");
/// The id that documents give to what has one, and the address that they call.
const ID: &str = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";
const HOST: &str = "127.0.0.1:7433";

/// Returns the blocks of code of a document, each with what stands behind the backticks that open it.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    let fenced = text.split("\n```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').expect("a block begins with a line of its own")).collect()
}

/// Returns the code that stands in the lines of a document, outside of its blocks.
pub fn spans(text: &str) -> Vec<&str> {
    let mut spans = Vec::new();
    for mut rest in text.split("\n```").step_by(2) {
        while let Some(begin) = rest.find('`') {
            rest = &rest[begin..];
            let inside = rest.trim_start_matches('`');
            let marks = &rest[..rest.len() - inside.len()];
            let end = inside.find(marks).unwrap_or_else(|| panic!("code is not closed: {rest:.80}"));
            spans.push(&inside[..end]);
            rest = &inside[end + marks.len()..];
        }
    }
    spans
}

/// Returns the code in a document's lines that is JSON: objects and lists, whole ones.
fn shown(text: &str) -> Vec<Value> {
    let whole = |span: &str| {
        let span = span.replace("<base64>", "AAAA").replace("<UUID>", ID);
        serde_json::from_str(&span).ok().filter(|value: &Value| value.is_object() || value.is_array())
    };
    spans(text).into_iter().filter_map(whole).collect()
}

/// Returns all texts that stand under a name, however deep.
fn named(value: &Value, name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
                let texts = values.iter().filter(|_| field == name).filter_map(Value::as_str);
                found.extend(texts.map(str::to_owned));
                found.extend(named(value, name));
            }
        }
        Value::Array(values) => found.extend(values.iter().flat_map(|value| named(value, name))),
        _ => {}
    }
    found
}

/// Returns the calls that take an example, told by its fields, and the body of each. An answer is taken by none.
fn calls_of(example: &Value) -> Vec<(&'static str, Value)> {
    let unique = |part: &str| ("/v1/jobs", json!({"module": "resize", "unique": {part: example}}));
    let sweep = || ("/v1/sweeps", json!({"action": example, "all": true}));
    let asked = |path| vec![(path, example.clone())];
    if let Some(words) = example.as_array() {
        return vec![unique(if words.contains(&json!("waiting")) { "states" } else { "by" })];
    }
    let has = |field: &str| example.get(field).is_some();
    match example.as_object().unwrap().keys().next().map_or("", String::as_str) {
        _ if has("module") => asked("/v1/jobs"),
        _ if has("jobs") => asked("/v1/jobs/bulk"),
        _ if has("action") => asked("/v1/sweeps"),
        _ if has("name") => asked("/v1/batches"),
        _ if has("code") || has("conflict") || has("first") || has("base64") => Vec::new(),
        "queue" => asked("/v1/jobs/JOB/move"),
        "priority" => vec![("/v1/jobs/JOB/priority", example.clone()), sweep()],
        "move" => vec![sweep()],
        "id" => asked("/v1/schedules/nightly/run"),
        "" | "trap" => vec![("/v1/jobs", json!({"module": "resize", "backoff_by_cause": example}))],
        _ => panic!("say here which call takes {example}, or that it is an answer"),
    }
}

/// A server whose catalog has what the example names, and whose store has the jobs and batches that it is after or in.
async fn server_for(store: Arc<dyn Store>, example: &Value) -> Server {
    let queues = named(example, "queue").into_iter().chain(named(example, "move"));
    let queues: BTreeMap<_, _> = queues.map(|name| (queue(&name), QueuePolicy::default())).collect();
    let mut catalog = stage::catalog(queues, ServerPolicy::default());
    let entry = catalog.manifest.modules[&module("hello")].clone();
    for name in named(example, "module").into_iter().chain(["resize".to_owned()]) {
        catalog.manifest.modules.insert(module(&name), entry.clone());
    }
    let nightly = ScheduleEntry::new(module("resize"), "@daily");
    catalog.manifest.schedules.insert("nightly".parse().unwrap(), nightly);
    let server = Server::of(store, stage::made, catalog, Access::Loopback).await;
    for id in named(example, "after").difference(&named(example, "id")) {
        server.enqueued(json!({"module": "resize", "id": id})).await;
    }
    for id in named(example, "batch") {
        let made = server.call("POST", "/v1/batches", json!({"id": id}).to_string()).await;
        assert!(made.status.is_success(), "{}", made.text());
    }
    server
}

/// Sends a body. A document's times are far off when it is written, and here for ever.
async fn send(server: &Server, path: &str, body: &Value) -> Reply {
    let body = body.to_string().replace("\"2030-", "\"9030-");
    let waiting = server.enqueued(json!({"module": "resize", "in_ms": 3_600_000})).await;
    server.call("POST", &path.replace("JOB", &waiting), body).await
}

/// Checks that a job shows what was asked for, where a job shows a field of that name.
async fn shows(server: &Server, answer: &Value, asked: &Value) {
    assert_eq!(answer["new"], true, "{asked}");
    let job = server.get(&format!("/v1/jobs/{}", answer["id"].as_str().unwrap())).await.json();
    for (field, value) in asked.as_object().unwrap().iter().filter(|(field, _)| *field != "unique") {
        let value = match value.as_str().filter(|text| text.starts_with("2030-")) {
            Some(time) => json!(time.replace("2030-", "9030-").replace('Z', ".000Z")),
            None => value.clone(),
        };
        assert!(
            job.get(field).is_none_or(|shown| *shown == value),
            "`{field}` of {asked} is not that of {job}"
        );
    }
}

#[tokio::test]
async fn every_request_that_a_document_shows_is_taken_on_each_store() {
    let of_blocks = [API, QUEUES].into_iter().flat_map(blocks).filter_map(|(kind, code)| {
        // One that is not taken says so to its reader: it is in a block of "json refused".
        let refused = kind.strip_prefix("json")?.trim() == "refused";
        let example = serde_json::from_str(code).unwrap_or_else(|error| panic!("{error}\n{code}"));
        Some((example, refused))
    });
    let of_lines = [API, QUEUES].into_iter().flat_map(shown).map(|example| (example, false));
    let examples: Vec<(Value, bool)> = of_blocks.chain(of_lines).collect();
    let calls: Vec<_> = examples
        .iter()
        .flat_map(|(example, refused)| {
            calls_of(example).into_iter().map(move |call| (example, call, *refused))
        })
        .collect();
    assert!(calls.len() > 20, "{}", calls.len());
    for (example, (path, body), refused) in calls {
        let database = Database::fresh();
        for store in [Arc::new(MemoryStore::new()) as Arc<dyn Store>, Arc::new(database.open())] {
            let server = server_for(store, example).await;
            let reply = send(&server, path, &body).await;
            if refused {
                assert!(reply.status.is_client_error() && !reply.code().is_empty(), "{path} takes {example}");
                continue;
            }
            assert!(reply.status.is_success(), "{path} with {example}: {}", reply.text());
            let answer = reply.json();
            match path {
                "/v1/jobs" => shows(&server, &answer, &body).await,
                "/v1/jobs/bulk" => {
                    for (answer, asked) in
                        answer["jobs"].as_array().unwrap().iter().zip(body["jobs"].as_array().unwrap())
                    {
                        shows(&server, answer, asked).await;
                    }
                }
                _ => assert_ne!(answer["new"], false, "{example}"),
            }
        }
    }
}

#[tokio::test]
async fn the_answers_about_an_unknown_module_and_a_unique_job_are_those_that_documents_show() {
    let error =
        shown(API).into_iter().find(|value| value.get("code").is_some()).expect("api.md shows an error");
    let server = server_for(Arc::new(MemoryStore::new()), &Value::Null).await;
    let misspelt = error["error"].as_str().unwrap().split('`').nth(1).expect("it quotes what was typed");
    assert_eq!(send(&server, "/v1/jobs", &json!({"module": misspelt})).await.json(), error);

    let answers: Vec<Value> =
        shown(QUEUES).into_iter().filter(|value| value.get("conflict").is_some()).collect();
    let mut unique = Vec::new();
    for (_, code) in
        blocks(QUEUES).into_iter().filter(|(kind, code)| *kind == "json" && code.contains("\"unique\""))
    {
        let example: Value = serde_json::from_str(code).unwrap();
        let server = server_for(Arc::new(MemoryStore::new()), &example).await;
        send(&server, "/v1/jobs", &example).await;
        let mut answer = send(&server, "/v1/jobs", &example).await.json();
        answer["id"] = json!("...");
        unique.push(answer);
    }
    assert!(!unique.is_empty() && unique == answers, "{unique:?} {answers:?}");
}

/// Does what a line for curl does, with the id of a job in place of the document's.
async fn curl(server: &Server, command: &str, id: &str) -> Reply {
    let path = command.split(HOST).nth(1).and_then(|rest| rest.split([' ', '\'']).next()).expect("a path");
    let mut headers = vec![("host", HOST)];
    headers.extend(command.contains("-H 'Content-Type: application/json'").then_some(JSON));
    match command.split("-d '").nth(1).and_then(|rest| rest.split('\'').next()) {
        Some(body) => server.send("POST", path, &headers, body.to_owned()).await,
        None => server.send("GET", &path.replace(ID, id), &headers, "").await,
    }
}

#[tokio::test]
async fn the_example_in_curl_is_answered_as_the_document_shows() {
    let (_, example) =
        blocks(API).into_iter().find(|(_, code)| code.contains("$ curl")).expect("there is one");
    let steps =
        example.split("$ curl ").skip(1).map(|step| step.trim_end().rsplit_once('\n').expect("an answer"));
    let steps: Vec<(&str, &str)> = steps.collect();
    let [(enqueue, enqueued), (look, job), (wait, result)] = steps[..] else { panic!("{steps:?}") };
    let mut server = server_for(Arc::new(MemoryStore::new()), &json!({"module": "greet"})).await;
    let reply = curl(&server, enqueue, ID).await;
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(reply.text(), enqueued.replace(ID, &id));
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    let begins = job.strip_suffix(" ...}").expect("the document shows how the answer begins");
    let reply = curl(&server, look, &id).await;
    assert!(reply.text().starts_with(&begins.replace(ID, &id)), "{}", reply.text());
    host.finish(attempt, done(result)).await;
    assert_eq!(curl(&server, wait, &id).await.text(), result);
}
