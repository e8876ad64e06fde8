//! The answers that are given where no route is asked: by hyper to what is no HTTP, and by a server that is full.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use midge_protocol::api::ApiError;

/// Returns the bytes of the answer to a connection for which there is no room.
pub(crate) fn full() -> Vec<u8> {
    let error = "too many connections are being answered: try again in a second";
    written(&answer(StatusCode::SERVICE_UNAVAILABLE, "busy", error))
}

/// Returns the bytes of an answer in place of the empty one that hyper gives to a request that it cannot read.
pub(crate) fn instead_of(hypers: &[u8]) -> Vec<u8> {
    let status = hypers.get(9..12).and_then(|digits| StatusCode::from_bytes(digits).ok());
    written(&match status.unwrap_or(StatusCode::BAD_REQUEST) {
        status @ StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            let error = "the request's line and headers are too large: send fewer or shorter ones";
            answer(status, "head_too_large", error)
        }
        status => answer(status, "not_http", "the request is not HTTP/1.1 as it should be"),
    })
}

/// Returns the answer to a request whose URI is longer than any that is known.
pub(crate) fn uri_too_long() -> Response {
    let error = "the request's URI is too long: nothing here has one so long";
    answer(StatusCode::URI_TOO_LONG, "uri_too_long", error).map(Body::from)
}

fn answer(status: StatusCode, code: &str, error: &str) -> Response<String> {
    let error = ApiError { code: code.to_owned(), error: error.to_owned() };
    let mut answer = Response::new(serde_json::to_string(&error).expect("two texts are JSON"));
    *answer.status_mut() = status;
    let mut headers = vec![
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONNECTION, "close"),
    ];
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.push((header::RETRY_AFTER, "1"));
    }
    let headers = headers.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value)));
    answer.headers_mut().extend::<Vec<(HeaderName, HeaderValue)>>(headers.collect());
    answer
}

fn written(answer: &Response<String>) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {}\r\ncontent-length: {}\r\n", answer.status(), answer.body().len());
    for (name, value) in answer.headers() {
        text += &format!("{name}: {}\r\n", value.to_str().expect("they are ours"));
    }
    format!("{text}\r\n{}", answer.body()).into_bytes()
}
