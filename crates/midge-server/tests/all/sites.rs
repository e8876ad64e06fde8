//! A page of another site changes nothing and reads nothing, with whatever rights its visitor's browser has.

use axum::http::StatusCode;

use crate::routes::ROUTES;
use crate::stage::{BEARER, JSON, LATER, Server};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const HOST: (&str, &str) = ("host", "midge.example");
/// `midge:s3cret`, which a browser sends by itself to a site where its user has typed it.
const BASIC: (&str, &str) = ("authorization", "Basic bWlkZ2U6czNjcmV0");

/// What browsers send with a request of another site's page.
const FOREIGN: [&[(&str, &str)]; 7] = [
    &[("origin", "http://evil.example")],
    &[("origin", "null")],
    &[("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")],
    &[("sec-fetch-site", "cross-site")],
    &[("sec-fetch-site", "same-site")],
    &[("origin", "https://other.midge.example"), ("sec-fetch-site", "same-site")],
    &[("origin", "https://midge.example:8443")],
];

#[tokio::test]
async fn a_page_of_another_site_changes_nothing_whatever_rights_its_visitor_has() {
    let server = Server::with_token().await;
    let id = server.enqueued(LATER).await;
    let exchange = "/v1/machines/m/exchange";
    let changes =
        |methods: &'static str| methods.split(',').filter(|method| ["POST", "DELETE"].contains(method));
    for (path, methods) in ROUTES.into_iter().chain([(exchange, "POST")]) {
        let path = path.replace("ID", &id);
        for (method, foreign) in changes(methods).flat_map(|method| FOREIGN.map(|foreign| (method, foreign)))
        {
            for (right, kind) in [(BASIC, FORM), (BEARER, JSON), (BASIC, JSON)] {
                let headers = [&[HOST, right, kind], foreign].concat();
                let reply = server.send(method, &path, &headers, "").await;
                assert_eq!(
                    (reply.status, reply.code().as_str()),
                    (StatusCode::FORBIDDEN, "foreign_origin"),
                    "{method} {path} {headers:?}"
                );
            }
        }
    }
    for foreign in FOREIGN {
        let headers = [&[HOST, BASIC, FORM], foreign].concat();
        for action in ["cancel", "retry"] {
            let reply = server.send("POST", &format!("/jobs/{id}/{action}"), &headers, "").await;
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{headers:?}");
        }
        let reply = server.send("POST", "/sweep?action=cancel&state=scheduled", &headers, "").await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{headers:?}");
    }
    assert_eq!(server.state(&id).await, "scheduled");
    assert_eq!(
        server.send("GET", "/v1/sweeps", &[HOST, BEARER], "").await.json()["sweeps"],
        serde_json::json!([])
    );
}

#[tokio::test]
async fn a_header_by_which_a_request_is_judged_is_there_once() {
    let server = Server::with_token().await;
    let id = server.enqueued(LATER).await;
    let own = ("sec-fetch-site", "same-origin");
    let (origin, event) = (("origin", "https://midge.example"), ("last-event-id", "1.0.0"));
    let cancel = format!("/v1/jobs/{id}/cancel");
    let press = format!("/jobs/{id}/cancel");
    for (name, other) in [
        ("Host", "evil.example"),
        ("Origin", "http://evil.example"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Content-Type", "text/plain"),
        ("Authorization", "Bearer other"),
        ("Last-Event-ID", "2.0.0"),
    ] {
        let once = [HOST, BEARER, JSON, own, origin, event];
        let also = [&once[..], &[(name, other)]].concat();
        for (method, path) in
            [("POST", cancel.as_str()), ("POST", &press), ("GET", "/v1/jobs"), ("GET", "/"), ("GET", "/x")]
        {
            let reply = server.send(method, path, &also, "").await;
            reply.refused(400, &format!("the header `{name}` is there twice: send it once"));
        }
    }
    assert_eq!(server.state(&id).await, "scheduled");
}

#[tokio::test]
async fn programs_and_our_own_pages_are_not_taken_for_another_site() {
    let server = Server::with_token().await;
    let own: [&[(&str, &str)]; 5] = [
        &[],
        &[("origin", "http://midge.example")],
        &[("origin", "https://midge.example"), ("sec-fetch-site", "same-origin")],
        &[("origin", "https://jobs.example"), ("x-forwarded-host", "jobs.example")],
        &[("sec-fetch-site", "none")],
    ];
    for own in own {
        let id = server.enqueued(LATER).await;
        let headers = [&[HOST, BEARER, JSON], own].concat();
        let reply = server.send("POST", &format!("/v1/jobs/{id}/cancel"), &headers, "").await;
        assert_eq!(reply.status, StatusCode::OK, "{headers:?}");
    }
}

#[tokio::test]
async fn the_buttons_of_the_dashboard_work_for_whoever_has_the_right() {
    let server = Server::with_token().await;
    for own in [
        vec![("origin", "https://midge.example")],
        vec![("origin", "https://midge.example"), ("sec-fetch-site", "same-origin")],
        vec![("sec-fetch-site", "same-origin")],
    ] {
        let id = server.enqueued(LATER).await;
        let path = format!("/jobs/{id}/cancel");
        let reply = server.send("POST", &path, &[&[HOST, FORM], &own[..]].concat(), "").await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        let reply = server.send("POST", &path, &[&[HOST, FORM, BASIC], &own[..]].concat(), "").await;
        assert_eq!(
            (reply.status, reply.header("location")),
            (StatusCode::SEE_OTHER, format!("/jobs/{id}").as_str())
        );
        assert_eq!(server.state(&id).await, "cancelled");
    }
}

#[tokio::test]
async fn without_a_token_a_name_that_points_here_opens_nothing() {
    let server = Server::start().await;
    // A page that had its own name point at this machine is of the same origin, says its browser.
    let rebound = [("host", "evil.example:7433"), ("origin", "http://evil.example:7433"), JSON];
    let spoofed =
        [&rebound[..], &[("x-forwarded-host", "localhost"), ("sec-fetch-site", "same-origin")]].concat();
    for headers in [&rebound[..], &spoofed] {
        for (method, path) in
            [("POST", "/v1/jobs"), ("GET", "/v1/jobs"), ("GET", "/"), ("GET", "/v1/modules")]
        {
            let reply = server.send(method, path, headers, b"{\"module\": \"hello\"}".to_vec()).await;
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{method} {path}");
        }
    }
}
