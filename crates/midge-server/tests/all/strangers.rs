//! A right can be shown, and before it is, no body is read.

use std::convert::Infallible;

use axum::body::Body;
use futures_util::stream;
use midge_protocol::exchange;

use crate::routes::{ROUTES, UNKNOWN};
use crate::stage::{HELLO, JSON, Server};

/// A body that nobody may ask for anything.
fn unread() -> Body {
    Body::from_stream(stream::poll_fn(|_| -> std::task::Poll<Option<Result<Vec<u8>, Infallible>>> {
        panic!("the body is read")
    }))
}

#[tokio::test]
async fn no_body_of_a_stranger_is_read() {
    let mut server = Server::with_token().await;
    server.enqueued(HELLO).await;
    let exchange = server.host().await.path();
    let protocol = exchange::PROTOCOL.to_string();
    let nobody = "/v1/machines/midge-nobody/exchange";
    for (path, right, status) in [
        ("/v1/jobs", None, 401),
        ("/v1/jobs", Some("Bearer guess"), 401),
        ("/v1/jobs/bulk", Some("Basic bWlkZ2U6Z3Vlc3M="), 401),
        ("/v1/nothing", None, 401),
        ("/nothing", None, 404),
        ("/healthz", None, 405),
        (&exchange, None, 401),
        (&exchange, Some("Bearer guess"), 403),
        (&exchange, Some("Bearer s3cret"), 403),
        (nobody, Some("Bearer guess"), 404),
    ] {
        let mut headers = vec![("host", "midge.example"), JSON, (exchange::PROTOCOL_HEADER, &protocol)];
        headers.extend(right.map(|right| ("authorization", right)));
        let reply = server.send("POST", path, &headers, unread()).await;
        assert_eq!(reply.status.as_u16(), status, "{path} {right:?}");
    }
    for (path, methods) in ROUTES {
        let path = path.replace("ID", UNKNOWN);
        for method in methods.split(',') {
            let headers = [("host", "midge.example"), JSON, ("authorization", "Bearer guess")];
            let reply = server.send(method, &path, &headers, unread()).await;
            assert_eq!(reply.status.as_u16(), 401, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_token_that_nobody_could_show_is_refused_at_the_start() {
    for token in ["", " ", "a\nb", "é"] {
        let error = Server::refuses_to_start(token).await.to_string();
        assert!(error.contains("no HTTP header can carry"), "{token:?}: {error}");
    }
}
