//! Every answer of a walk through all calls has the fields and types that Fly's own document gives it, and no others.

use std::collections::{BTreeMap, BTreeSet};

use midge_flylet::Fault;
use midge_machines::SeenState;
use midge_protocol::{MachineId, Secret};
use serde_json::{Value, json};

use super::bed::Bed;

/// Made of the document as `schemas.jq` beside it says.
const SCHEMAS: &str = include_str!("../schemas.txt");
/// What Fly answers since the document was written, by its clients.
const NEWER: &str = "\
field Machine version string
field Machine cordoned boolean
field Machine lease Lease";
/// Errors that every call may be answered with. The document has few of them, and all are of one form.
const ERRORS: [u16; 13] = [400, 401, 403, 404, 405, 408, 409, 412, 413, 422, 429, 501, 503];

/// The document, as far as flylet answers by it.
#[derive(Default)]
struct Document {
    /// Method, path, status and type.
    calls: Vec<(&'static str, &'static str, u16, &'static str)>,
    fields: BTreeMap<&'static str, BTreeMap<&'static str, &'static str>>,
}

impl Document {
    fn read() -> Document {
        let mut document = Document::default();
        for line in SCHEMAS.lines().chain(NEWER.lines()) {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["call", method, path, status, kind] => {
                    document.calls.push((method, path, status.parse().unwrap(), kind));
                }
                ["field", schema, name, kind] => {
                    document.fields.entry(schema).or_default().insert(name, kind);
                }
                _ => panic!("{line}"),
            }
        }
        document
    }

    /// Returns the path of the document that a request's is of, and the type of its answer.
    fn described(&self, method: &str, path: &str, status: u16) -> Option<(&'static str, &'static str)> {
        let path = path.strip_prefix("/v1").unwrap().split('?').next().unwrap();
        let fits = |template: &str| {
            let (asked, known): (Vec<_>, Vec<_>) = (path.split('/').collect(), template.split('/').collect());
            asked.len() == known.len()
                && asked.iter().zip(known).all(|(part, known)| known.starts_with('{') || *part == known)
        };
        let mut of_path =
            self.calls.iter().filter(|(known, template, ..)| *known == method && fits(template));
        let (_, template, ..) = of_path.clone().next()?;
        match of_path.find(|(_, _, known, _)| *known == status) {
            Some((_, _, _, kind)) => Some((template, kind)),
            None => ERRORS.contains(&status).then_some((template, "ErrorResponse")),
        }
    }

    /// Says what is wrong with a value.
    fn check(&self, kind: &str, value: &Value, place: &str) {
        if let Some(kind) = kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']')) {
            let list = value.as_array().unwrap_or_else(|| panic!("{place} is no list: {value}"));
            return list.iter().for_each(|value| self.check(kind, value, &format!("{place}[]")));
        }
        let fits = match kind {
            "any" => true,
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "object" => value.is_object(),
            "map" => value.as_object().is_some_and(|map| map.values().all(Value::is_string)),
            schema => {
                let fields =
                    self.fields.get(schema).unwrap_or_else(|| panic!("{place}: there is no schema {schema}"));
                if let Some(kind) = fields.get(".") {
                    return self.check(kind, value, place);
                }
                // As Go writes what is not there.
                if value.is_null() {
                    return;
                }
                let object = value.as_object().unwrap_or_else(|| panic!("{place} is no {schema}: {value}"));
                for (name, value) in object {
                    let Some(kind) = fields.get(name.as_str()) else {
                        panic!("{place}: {schema} has no field `{name}`, here {value}");
                    };
                    self.check(kind, value, &format!("{place}.{name}"));
                }
                true
            }
        };
        assert!(fits, "{place} is no {kind}: {value}");
    }
}

/// Makes calls, holds each answer against the document, and remembers which there were.
struct Walk<'a> {
    bed: &'a Bed,
    document: Document,
    made: BTreeSet<(String, String, u16)>,
}

impl Walk<'_> {
    async fn call(&mut self, expected: u16, line: &str, body: Value) -> Value {
        let token = self.bed.flylet.token().clone();
        self.call_by(&token, &[], expected, line, body).await
    }

    async fn call_by(
        &mut self,
        token: &Secret,
        headers: &[(&str, &str)],
        expected: u16,
        line: &str,
        body: Value,
    ) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, head, answer) = self.bed.asked(token, line, headers, &body).await;
        assert_eq!(status, expected, "{line}: {answer}");
        let (method, path) = line.split_once(' ').unwrap();
        let described = self.document.described(method, path, status);
        let (template, kind) = described.unwrap_or_else(|| panic!("{line} is not to be answered {status}"));
        let is_json = head.to_lowercase().contains("content-type: application/json");
        assert!(is_json || answer.is_null(), "{line}: {head}");
        if kind != "any" {
            // Fly puts leases into an envelope that its document does not tell of.
            let value = if kind == "Lease" { &answer["data"] } else { &answer };
            assert!(!value.is_null(), "{line} is answered with nothing");
            self.document.check(kind, value, line);
        }
        self.made.insert((method.to_owned(), template.to_owned(), status));
        answer
    }
}

fn config() -> Value {
    json!({
        "image": "registry.example/app:v1@sha256:ab",
        "init": {"exec": ["/bin/sleep", "86400"], "tty": false, "swap_size_mb": 0},
        "env": {"A": "1"},
        "guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 256},
        "restart": {"policy": "no"},
        "stop_config": {"signal": "SIGTERM", "timeout": "1s"},
        "metadata": {"k": "v"},
        "services": [{"protocol": "tcp", "internal_port": 80, "ports": [{"port": 80, "handlers": ["http"]}]}],
        "checks": {"up": {"type": "tcp", "port": 80}},
        "auto_destroy": false,
        "nothing_of_the_kind": 1,
    })
}

#[tokio::test]
async fn every_answer_is_as_fly_s_document_has_it() {
    let bed = Bed::new().await;
    let mut walk = Walk { bed: &bed, document: Document::read(), made: BTreeSet::new() };
    let nothing = Value::Null;
    let all = "/v1/apps/jobs/machines";

    // What is not a Machine's.
    walk.call(200, "GET /v1/apps?org_slug=personal", nothing.clone()).await;
    walk.call(200, "GET /v1/apps/jobs", nothing.clone()).await;
    walk.call(404, "GET /v1/apps/other", nothing.clone()).await;
    walk.call(200, "GET /v1/platform/regions", nothing.clone()).await;
    walk.call(200, "GET /v1/tokens/current", nothing.clone()).await;
    walk.call_by(&Secret::new("wrong"), &[], 401, "GET /v1/tokens/current", nothing.clone()).await;

    // A Machine's life.
    let create = format!("POST {all}");
    walk.call(400, &create, json!({"config": {}})).await;
    let made = walk.call(200, &create, json!({"name": "m", "config": config(), "lease_ttl": 60})).await;
    let id = MachineId::new(made["id"].as_str().unwrap()).unwrap();
    let nonce = made["nonce"].as_str().unwrap().to_owned();
    walk.call(409, &create, json!({"name": "m", "config": config()})).await;
    let path = Bed::path(&id);
    walk.call(200, &format!("GET {path}/wait"), nothing.clone()).await;
    walk.call(400, &format!("GET {path}/wait?state=odd"), nothing.clone()).await;
    walk.call(408, &format!("GET {path}/wait?state=failed&timeout=1"), nothing.clone()).await;
    walk.call(200, &format!("GET {all}?include_leases=true"), nothing.clone()).await;
    walk.call(200, &format!("GET {all}?summary=true"), nothing.clone()).await;
    walk.call(200, &format!("GET {path}?include_leases=true"), nothing.clone()).await;

    // Its lease.
    walk.call(409, &format!("POST {path}/stop"), nothing.clone()).await;
    walk.call(200, &format!("GET {path}/lease"), nothing.clone()).await;
    let token = bed.flylet.token().clone();
    let holds = [("fly-machine-lease-nonce", nonce.as_str())];
    let lease = format!("POST {path}/lease");
    walk.call_by(&token, &holds, 201, &lease, json!({"ttl": 60, "description": "d"})).await;
    walk.call_by(&token, &holds, 200, &format!("DELETE {path}/lease"), nothing.clone()).await;
    walk.call(404, &format!("GET {path}/lease"), nothing.clone()).await;

    // Its labels.
    let labels = format!("{path}/metadata");
    walk.call(200, &format!("GET {labels}"), nothing.clone()).await;
    walk.call(204, &format!("PATCH {labels}"), json!({"metadata": {"a": "b"}})).await;
    walk.call(412, &format!("PATCH {labels}"), json!({"metadata": {}, "machine_version": "x"})).await;
    walk.call(204, &format!("PUT {labels}"), json!({"metadata": {"k": "v"}})).await;
    walk.call(204, &format!("POST {labels}/c"), json!({"value": "d"})).await;
    walk.call(200, &format!("GET {labels}/c"), nothing.clone()).await;
    walk.call(204, &format!("DELETE {labels}/c"), nothing.clone()).await;
    walk.call(404, &format!("GET {labels}/c"), nothing.clone()).await;

    // What it does.
    for call in ["cordon", "uncordon", "start", "suspend", "suspend", "start", "restart"] {
        walk.call(200, &format!("POST {path}/{call}"), nothing.clone()).await;
        bed.reaches(&id, if call == "suspend" { SeenState::Suspended } else { SeenState::Started }).await;
    }
    // It ends by it.
    walk.call(400, &format!("POST {path}/signal"), json!({"signal": "SIGSTOP"})).await;
    walk.call(200, &format!("POST {path}/signal"), json!({"signal": "SIGUSR1"})).await;
    bed.reaches(&id, SeenState::Stopped).await;
    walk.call(200, &format!("POST {path}"), json!({"config": config()})).await;
    bed.reaches(&id, SeenState::Started).await;
    walk.call(409, &format!("POST {path}"), json!({"config": config(), "current_version": "x"})).await;
    walk.call(200, &format!("POST {path}/stop"), json!({"signal": "SIGKILL", "timeout": "1s"})).await;
    bed.reaches(&id, SeenState::Stopped).await;
    walk.call(412, &format!("POST {path}/suspend"), nothing.clone()).await;
    walk.call(200, &format!("GET {path}/events?limit=50"), nothing.clone()).await;
    walk.call(200, &format!("GET {path}/versions"), nothing.clone()).await;

    // Where its server host does not answer, and where it ends.
    let dark = [("flylet-fault", Fault::DarkHost.as_str())];
    walk.call_by(&token, &dark, 408, &format!("POST {path}/start"), nothing.clone()).await;
    walk.call(200, &format!("GET {path}"), nothing.clone()).await;
    let other = walk.call(200, &create, json!({"config": config(), "skip_launch": true})).await;
    let other = MachineId::new(other["id"].as_str().unwrap()).unwrap();
    walk.call(200, &format!("DELETE {}?force=true", Bed::path(&other)), nothing.clone()).await;
    bed.reaches(&other, SeenState::Destroyed).await;
    walk.call(200, &format!("GET {all}?include_deleted=true"), nothing.clone()).await;
    walk.call(404, &format!("GET {all}/00000000000000"), nothing.clone()).await;
    walk.call(202, "DELETE /v1/apps/jobs", nothing.clone()).await;
    walk.call(201, "POST /v1/apps", json!({"name": "jobs", "org_slug": "personal"})).await;
    walk.call(422, "POST /v1/apps", json!({"name": "other", "org_slug": "personal"})).await;

    let successes = walk.document.calls.iter().filter(|(_, _, status, _)| *status < 300);
    let left: Vec<_> = successes
        .filter(|(method, path, status, _)| {
            !walk.made.contains(&((*method).to_owned(), (*path).to_owned(), *status))
        })
        .collect();
    assert!(left.is_empty(), "not walked: {left:?}");
}
