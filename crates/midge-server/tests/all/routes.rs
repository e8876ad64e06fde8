//! Every error has the documented form, and every answer keeps what a guest wrote from being taken for something else.

use axum::http::StatusCode;
use midge_protocol::limits::{self, ENQUEUE_BODY_BYTES_MAX, EXCHANGE_BODY_BYTES_MAX};
use midge_protocol::{JobId, exchange};
use tower::ServiceExt;

use crate::stage::{HELLO, JSON, LATER, Server};

const HOST: (&str, &str) = ("host", "localhost");
const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
pub const UNKNOWN: &str = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";

/// All routes for callers, and the methods that each has.
pub const ROUTES: [(&str, &str); 39] = [
    ("/v1/jobs", "GET,HEAD,POST"),
    ("/v1/jobs/bulk", "POST"),
    ("/v1/jobs/count", "GET,HEAD"),
    ("/v1/jobs/ID", "DELETE,GET,HEAD"),
    ("/v1/jobs/ID/wait", "GET,HEAD"),
    ("/v1/jobs/ID/result", "GET,HEAD"),
    ("/v1/jobs/ID/input", "GET,HEAD"),
    ("/v1/jobs/ID/saved", "GET,HEAD"),
    ("/v1/jobs/ID/recording", "GET,HEAD"),
    ("/v1/jobs/ID/log", "GET,HEAD"),
    ("/v1/jobs/ID/cancel", "POST"),
    // Of a job that was not cancelled before, the answer would not end.
    ("/v1/jobs/ID/events", "GET,HEAD"),
    ("/v1/jobs/ID/retry", "POST"),
    ("/v1/jobs/ID/priority", "POST"),
    ("/v1/jobs/ID/move", "POST"),
    ("/v1/sweeps", "GET,HEAD,POST"),
    ("/v1/sweeps/NAME", "GET,HEAD"),
    ("/v1/sweeps/NAME/cancel", "POST"),
    ("/v1/failures", "GET,HEAD"),
    ("/v1/failures/NAME", "GET,HEAD"),
    ("/v1/batches", "GET,HEAD,POST"),
    ("/v1/batches/ID", "GET,HEAD"),
    ("/v1/batches/ID/close", "POST"),
    ("/v1/batches/ID/cancel", "POST"),
    ("/v1/queues", "GET,HEAD"),
    ("/v1/queues/NAME/pause", "POST"),
    ("/v1/queues/NAME/resume", "POST"),
    ("/v1/queues/NAME/settings", "GET,HEAD,POST"),
    ("/v1/schedules", "GET,HEAD"),
    ("/v1/schedules/NAME", "GET,HEAD"),
    ("/v1/schedules/NAME/pause", "POST"),
    ("/v1/schedules/NAME/resume", "POST"),
    ("/v1/schedules/NAME/run", "POST"),
    ("/v1/machines", "GET,HEAD"),
    ("/v1/machines/NAME/drain", "POST"),
    ("/v1/costs", "GET,HEAD"),
    ("/v1/modules", "GET,HEAD"),
    ("/v1/modules/NAME/pause", "POST"),
    ("/v1/modules/NAME/resume", "POST"),
];

#[tokio::test]
async fn a_method_that_a_route_does_not_have_is_an_error_that_says_which_it_has() {
    let server = Server::start().await;
    let exchange = ("/v1/machines/m/exchange", "POST");
    for (path, allowed) in ROUTES.into_iter().chain([exchange, ("/healthz", "GET,HEAD")]) {
        let path = path.replace("ID", UNKNOWN);
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            if allowed.split(',').any(|allowed| allowed == method) {
                continue;
            }
            let reply = server.send(method, &path, &[HOST, JSON], "").await;
            assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert_eq!(reply.code(), "method_not_allowed", "{method} {path}");
            let mut allow: Vec<&str> = reply.header("allow").split(',').collect();
            allow.sort_unstable();
            assert_eq!(allow.join(","), allowed, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_path_of_which_nothing_is_known_is_an_error_as_any_other() {
    let server = Server::start().await;
    let below_a_job = format!("/v1/jobs/{UNKNOWN}/nothing");
    let paths =
        ["/v1", "/v1/", "/v1/nothing", "/v1/jobs/", "/v1//jobs", "/v2", "/nothing", "/jobs", &below_a_job];
    for path in paths {
        for method in ["GET", "POST", "DELETE", "OPTIONS"] {
            let reply = server.send(method, path, &[HOST, JSON], "").await;
            assert_eq!(
                (reply.status, reply.code().as_str()),
                (StatusCode::NOT_FOUND, "not_found"),
                "{method} {path}"
            );
        }
        let reply = server.send("HEAD", path, &[HOST], "").await;
        assert_eq!((reply.status, reply.body.len()), (StatusCode::NOT_FOUND, 0), "HEAD {path}");
    }
}

#[tokio::test]
async fn a_path_below_which_all_is_mounted_is_not_taken_for_a_route() {
    let server = Server::start().await;
    let mounted = axum::Router::new().nest("/jobs", server.midge.router());
    for (path, status) in
        [("/jobs/healthz", StatusCode::METHOD_NOT_ALLOWED), ("/jobs/v1/jobs/healthz", StatusCode::NOT_FOUND)]
    {
        let request = axum::http::Request::post(path).header(HOST.0, HOST.1).header(JSON.0, JSON.1);
        let answer = mounted.clone().oneshot(request.body(axum::body::Body::empty()).unwrap());
        assert_eq!(answer.await.unwrap().status(), status, "{path}");
    }
}

#[tokio::test]
async fn every_route_answers_what_is_wrong_with_an_error_of_the_documented_form() {
    let server = Server::start().await;
    let id = server.enqueued(LATER).await;
    for (path, _) in ROUTES.into_iter().filter(|(path, _)| path.contains("ID")) {
        let (method, body) = match path.rsplit('/').next() {
            Some("cancel" | "retry" | "close") => ("POST", ""),
            Some("priority") => ("POST", r#"{"priority": 1}"#),
            Some("move") => ("POST", r#"{"queue": "default"}"#),
            _ => ("GET", ""),
        };
        let long = "x".repeat(20_000);
        for (given, status) in [
            ("not-an-id", 400),
            ("%ff", 400),
            ("%00", 400),
            ("..%2f..%2fqueues", 400),
            ("%", 400),
            (&long, 400),
            (UNKNOWN, 404),
        ] {
            let path = path.replace("ID", given);
            let reply = server.send(method, &path, &[HOST, JSON], body).await;
            assert_eq!(reply.status.as_u16(), status, "{method} {:.60}", path);
            assert!(!reply.code().is_empty() && reply.body.len() < 10_000, "{method} {:.60}", path);
        }
    }
    for query in [
        "jobs?limit=0",
        "jobs?limit=-1",
        "jobs?limit=1001",
        "jobs?limit=99999999999",
        "jobs?since=9999-12-31T00:00:00Z",
        "batches?limit=-1",
        "failures?limit=-1",
        "jobs/ID/log?attempt=-1",
        "jobs/ID/log?attempt=4294967296",
        "jobs/ID/wait?timeout_ms=-1",
    ] {
        let path = format!("/v1/{}", query.replace("ID", &id));
        let reply = server.send("GET", &path, &[HOST], "").await;
        let answer = (reply.status.as_u16(), reply.code());
        assert_eq!(answer, (422, "invalid".to_owned()), "what has the right form and cannot be: {path}");
    }
    for query in [
        "jobs?state=happy",
        "jobs?limit=many",
        "jobs?text=%ff",
        "jobs?args=a%ff",
        "jobs/count?text=%ff",
        "jobs?before=x",
        "jobs?queue=%ff",
        "jobs?module=..",
        "jobs?nothing=1",
        "jobs?limit=1&limit=2",
        "jobs?tag=",
        "jobs?tag=%E2%80%AE",
        "jobs?key=",
        "jobs?cause=TRAP",
        "jobs?failure=xyz",
        "jobs?since=yesterday",
        "jobs?failed_until=2030",
        "jobs?sort=oldest",
        "jobs?before=12.x",
        "jobs/count?tags=a",
        "jobs/count?limit=1",
        "failures?limit=x",
        "failures?module=..",
        "failures/xyz",
        "sweeps/x",
        "sweeps/-1",
        "sweeps/18446744073709551615",
        "jobs/ID/log?attempt=abc",
        "jobs/ID/log?attempts=1",
        "jobs/ID/wait?timeout_ms=soon",
        "jobs/ID/result?timeout_ms=1e3",
        "jobs/ID/result?timeout=1",
    ] {
        let path = format!("/v1/{}", query.replace("ID", &id));
        let reply = server.send("GET", &path, &[HOST], "").await;
        assert_eq!((reply.status, reply.code().as_str()), (StatusCode::BAD_REQUEST, "invalid"), "{path}");
    }
    for path in ["/v1/jobs", "/v1/jobs/bulk", "/v1/sweeps"] {
        for body in ["", "{", "[]", "null", "\"\"", "{}", "{\"module\": 1}", "\u{0}", "{\"jobs\": {}}"] {
            let reply = server.send("POST", path, &[HOST, JSON], body).await;
            assert_eq!(
                (reply.status, reply.code().as_str()),
                (StatusCode::BAD_REQUEST, "invalid"),
                "{path} {body}"
            );
        }
        for kind in ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"] {
            let reply = server.send("POST", path, &[HOST, ("content-type", kind)], b"{}".to_vec()).await;
            assert_eq!(
                (reply.status.as_u16(), reply.code().as_str()),
                (415, "foreign_content"),
                "{path} {kind}"
            );
        }
        let reply = server.send("POST", path, &[HOST, JSON], vec![b' '; ENQUEUE_BODY_BYTES_MAX + 1]).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (413, "too_large"), "{path}");
        let reply = server.send("POST", path, &[JSON], b"{}".to_vec()).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (403, "foreign_host"), "{path}");
    }
    let many = vec![r#"{"module":"hello"}"#; limits::BULK_JOBS_MAX + 1].join(",");
    let many = format!(r#"{{"jobs":[{many}]}}"#);
    let reply = server.send("POST", "/v1/jobs/bulk", &[HOST, JSON], many).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (413, "too_large"));
    let quoted = format!("{{\"{}\": 1}}", "é".repeat(1_000_000));
    let reply = server.send("POST", "/v1/jobs", &[HOST, JSON], quoted).await;
    assert!(
        reply.code() == "invalid" && reply.body.len() < 10_000,
        "an error does not give back all that was sent"
    );
}

#[tokio::test]
async fn what_is_wrong_with_an_exchange_is_an_error_of_the_documented_form() {
    let mut server = Server::start().await;
    server.enqueued(HELLO).await;
    let host = server.host().await;
    let (path, bearer, protocol) = (host.path(), host.bearer(), exchange::PROTOCOL.to_string());
    let (right, protocol) = (("authorization", bearer.as_str()), ("midge-protocol", protocol.as_str()));
    for (path, headers, body, status, code) in [
        (path.as_str(), vec![protocol, right], b"{}".to_vec(), 400, "invalid"),
        (&path, vec![protocol, right], Vec::new(), 400, "invalid"),
        (&path, vec![protocol, right], vec![0; EXCHANGE_BODY_BYTES_MAX + 1], 413, "too_large"),
        (&path, vec![right], Vec::new(), 426, "protocol"),
        (&path, vec![protocol], Vec::new(), 401, "no_secret"),
        (&path, vec![protocol, ("authorization", "Bearer guess")], Vec::new(), 403, "wrong_secret"),
        (&path, vec![protocol, ("authorization", "Basic Z3Vlc3M6")], Vec::new(), 401, "no_secret"),
        ("/v1/machines/midge-nobody/exchange", vec![protocol, right], Vec::new(), 404, "unknown_machine"),
        ("/v1/machines/%ff/exchange", vec![protocol, right], Vec::new(), 400, "invalid"),
        ("/v1/machines/../exchange", vec![protocol, right], Vec::new(), 400, "invalid"),
    ] {
        let reply = server.send("POST", path, &headers, body).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{path} {headers:?}");
    }
}

#[tokio::test]
async fn a_person_gets_errors_of_the_dashboard_as_pages() {
    let server = Server::start().await;
    let unknown = format!("/jobs/{UNKNOWN}");
    let act = format!("/jobs/{UNKNOWN}/explode");
    for (method, path, status) in [
        ("GET", "/nothing", 404),
        ("GET", "/jobs/%ff", 400),
        ("GET", "/jobs/not-an-id", 400),
        ("GET", &unknown, 404),
        ("PUT", "/", 405),
        ("DELETE", &unknown, 405),
        ("POST", &act, 404),
        ("POST", "/jobs/%ff/cancel", 400),
    ] {
        let reply = server.send(method, path, &[HOST, HTML, ("origin", "http://localhost")], "").await;
        let text = String::from_utf8(reply.body.to_vec()).unwrap();
        assert_eq!(reply.status.as_u16(), status, "{method} {path}: {text}");
        assert_eq!(reply.header("content-type"), "text/html; charset=utf-8", "{method} {path}");
        assert!(
            text.contains("<p class=\"bad\">") && !text.contains("<p class=\"bad\"></p>"),
            "{path}: {text}"
        );
        assert_eq!(reply.headers.contains_key("allow"), status == 405, "{method} {path}");
    }
}

#[tokio::test]
async fn every_answer_says_that_it_is_kept_and_guessed_by_nobody() {
    let server = Server::start().await;
    let id = server.enqueued(LATER).await;
    let other = JobId::generate().to_string();
    let routes = ROUTES.into_iter().map(|(path, _)| path);
    for path in routes.chain(["/", "/jobs/ID", "/v1", "/nothing", "/healthz", "/v1/machines/m/exchange"]) {
        for (id, method) in [(&id, "GET"), (&other, "GET"), (&id, "POST"), (&id, "OPTIONS"), (&id, "HEAD")] {
            let path = path.replace("ID", id);
            let reply = server.send(method, &path, &[HOST, JSON, ("origin", "http://localhost")], "").await;
            assert_eq!(reply.header("x-content-type-options"), "nosniff", "{method} {path}");
            assert_eq!(reply.header("cache-control"), "no-store", "{method} {path}");
            assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin", "{method} {path}");
            assert_eq!(reply.header("referrer-policy"), "same-origin", "{method} {path}");
            let policy = reply.header("content-security-policy");
            assert!(
                policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
                "{policy}"
            );
            assert!(!policy.contains("unsafe") && !policy.contains("script"), "{policy}");
            let shared = reply.headers.keys().find(|name| name.as_str().starts_with("access-control-"));
            assert_eq!(shared, None, "no other site may read {method} {path}");
        }
    }
}
