//! Before a right is shown, no body is read.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::{Request, header};
use futures_util::stream;
use midge_protocol::{Secret, exchange};
use midge_server::Access;
use tower::ServiceExt;

use crate::stage::{Stage, TOKEN};

/// A body that nobody may ask for anything.
fn unread() -> Body {
    Body::from_stream(stream::poll_fn(|_| -> std::task::Poll<Option<Result<Vec<u8>, Infallible>>> {
        panic!("the body is read")
    }))
}

#[tokio::test]
async fn no_body_of_a_stranger_is_read() {
    let mut stage = Stage::set(Access::Token(Secret::new(TOKEN))).await;
    let (name, _) = stage.machine().await;
    let exchange = format!("/v1/machines/{name}/exchange");
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
        let mut request = Request::post(path)
            .header(header::HOST, "midge.example")
            .header(header::CONTENT_TYPE, "application/json")
            .header(exchange::PROTOCOL_HEADER, exchange::PROTOCOL);
        if let Some(right) = right {
            request = request.header(header::AUTHORIZATION, right);
        }
        let answer = stage.midge.router().oneshot(request.body(unread()).unwrap()).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path} {right:?}");
    }
}
