//! Who may use the API: whoever has the token, or, without one, programs on this machine that are not web pages.

use axum::extract::Request;
use axum::http::{Extensions, HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use midge_listen::{Connection, Peer, TooMany};
use midge_protocol::Secret;

use super::answer::Failed;
use super::site::{Sender, split_port};
use crate::midge::Midge;
use crate::secret;
use crate::settings::Access;

/// Why a request is turned away: it has no token or a wrong one, or a web page may have sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoToken,
    WrongToken,
    ForeignHost,
    ForeignContent,
    ForeignOrigin,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code, error) = match self {
            Refusal::NoToken => {
                let how = "a token is needed: send it as `Authorization: Bearer TOKEN`, or set MIDGE_TOKEN";
                (StatusCode::UNAUTHORIZED, "no_token", how)
            }
            Refusal::WrongToken => {
                (StatusCode::UNAUTHORIZED, "wrong_token", "the token is not this server's: check MIDGE_TOKEN")
            }
            Refusal::ForeignHost => {
                let how = "without a token this server answers only as localhost: use http://127.0.0.1, or set a token";
                (StatusCode::FORBIDDEN, "foreign_host", how)
            }
            Refusal::ForeignContent => {
                let how = "send the body as `Content-Type: application/json`";
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "foreign_content", how)
            }
            Refusal::ForeignOrigin => {
                (StatusCode::FORBIDDEN, "foreign_origin", "this request comes from another site's page")
            }
        };
        Failed::new(status, code, error).into_response()
    }
}

/// Returns the answer to a request that is turned away.
pub(super) fn check(midge: &Midge, request: &Request) -> Option<Response> {
    let access = &midge.inner.access;
    let checked = check_request(access, request.method(), request.headers(), request.uri().authority());
    if let Err(refusal) = checked {
        return Some(refusal.into_response());
    }
    connection_of(request.extensions(), &Peer::Caller).err().map(Failed::into_response)
}

/// Says whose the connection of a request is. It is refused where there are too many of that kind; where whoever embeds
/// this server does not count connections, there never are.
pub(super) fn connection_of(extensions: &Extensions, peer: &Peer) -> Result<(), Failed> {
    let Some(connection) = extensions.get::<Connection>() else { return Ok(()) };
    connection.belongs_to(peer).map_err(|too_many| match too_many {
        TooMany::Callers | TooMany::Hosts => Failed::busy(too_many.to_string()),
        TooMany::OfTheHost(_) => Failed::too_many_exchanges(format!("{too_many}: wait for an answer first")),
    })
}

fn check_request(
    access: &Access,
    method: &Method,
    headers: &HeaderMap,
    authority: Option<&axum::http::uri::Authority>,
) -> Result<(), Refusal> {
    match access {
        Access::Token(token) => check_token(token, headers)?,
        Access::Loopback => {
            let host = text(headers, header::HOST).or(authority.map(|authority| authority.as_str()));
            if !host.is_some_and(is_loopback) {
                return Err(Refusal::ForeignHost);
            }
        }
    }
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || text(headers, header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    let json = text(headers, header::CONTENT_TYPE).is_some_and(|content| {
        content.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    });
    // A page may POST without a body and without asking: there, the content type must be sent all the same.
    if *method == Method::POST && !json && (has_body || matches!(access, Access::Loopback)) {
        return Err(Refusal::ForeignContent);
    }
    Ok(())
}

/// Checks a form of the dashboard: it is no JSON, so it must come from a page of the same origin.
pub(crate) fn check_form(headers: &HeaderMap) -> Result<(), Refusal> {
    match Sender::of(headers) {
        Sender::Own => Ok(()),
        Sender::Foreign | Sender::Unknown => Err(Refusal::ForeignOrigin),
    }
}

fn check_token(token: &Secret, headers: &HeaderMap) -> Result<(), Refusal> {
    let sent = text(headers, header::AUTHORIZATION).ok_or(Refusal::NoToken)?;
    let (scheme, value) = sent.split_once(' ').ok_or(Refusal::NoToken)?;
    let value = value.trim();
    let password = if scheme.eq_ignore_ascii_case("bearer") {
        Some(value.to_owned())
    } else if scheme.eq_ignore_ascii_case("basic") {
        let decoded = base64::prelude::BASE64_STANDARD.decode(value).ok();
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        decoded.and_then(|pair| pair.split_once(':').map(|(_, password)| password.to_owned()))
    } else {
        None
    };
    match password {
        Some(password) if secret::same(&password, token.expose()) => Ok(()),
        Some(_) => Err(Refusal::WrongToken),
        None => Err(Refusal::NoToken),
    }
}

fn is_loopback(host: &str) -> bool {
    let (name, _) = split_port(host);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

pub(super) fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn post(access: &Access, pairs: &[(header::HeaderName, &str)]) -> Result<(), Refusal> {
        check_request(access, &Method::POST, &headers(pairs), None)
    }

    #[test]
    fn without_a_token_a_web_page_cannot_enqueue() {
        let json = (header::CONTENT_TYPE, "application/json");
        for host in ["127.0.0.1:7433", "localhost", "[::1]:80", "LOCALHOST:1"] {
            assert_eq!(post(&Access::Loopback, &[(header::HOST, host), json.clone()]), Ok(()), "{host}");
        }
        // DNS that points a page's own name at this machine.
        for host in ["evil.example:7433", "127.0.0.1.evil.example", "10.0.0.1", ""] {
            let refused = post(&Access::Loopback, &[(header::HOST, host), json.clone()]);
            assert_eq!(refused, Err(Refusal::ForeignHost), "{host}");
        }
        // What a page may send anywhere without asking.
        let host = (header::HOST, "127.0.0.1:7433");
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
            let refused = post(&Access::Loopback, &[host.clone(), (header::CONTENT_TYPE, kind)]);
            assert_eq!(refused, Err(Refusal::ForeignContent), "{kind}");
        }
        assert_eq!(post(&Access::Loopback, &[host]), Err(Refusal::ForeignContent));
    }

    #[test]
    fn with_a_token_only_the_token_opens() {
        let access = Access::Token(Secret::new("s3cret"));
        let bearer =
            |value| post(&access, &[(header::AUTHORIZATION, value), (header::HOST, "midge.example")]);
        assert_eq!(bearer("Bearer s3cret"), Ok(()));
        assert_eq!(bearer("Basic bWlkZ2U6czNjcmV0"), Ok(()), "midge:s3cret");
        assert_eq!(bearer("Bearer wrong"), Err(Refusal::WrongToken));
        assert_eq!(bearer("Basic bWlkZ2U6"), Err(Refusal::WrongToken));
        assert_eq!(bearer("Negotiate x"), Err(Refusal::NoToken));
        assert_eq!(post(&access, &[(header::HOST, "127.0.0.1")]), Err(Refusal::NoToken));
    }

    #[test]
    fn a_form_must_come_from_our_own_page() {
        let host = (header::HOST, "midge.example");
        let origin = |value| check_form(&headers(&[host.clone(), (header::ORIGIN, value)]));
        assert_eq!(origin("https://midge.example"), Ok(()));
        assert_eq!(origin("https://evil.example"), Err(Refusal::ForeignOrigin));
        assert_eq!(origin("null"), Err(Refusal::ForeignOrigin));
        assert_eq!(check_form(&headers(&[host])), Err(Refusal::ForeignOrigin));
    }
}
