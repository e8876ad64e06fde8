//! A request, from what a guest asks for to the last piece of the answer: judged, sent, redirected, given back.

use std::io;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::{HeaderMap, Method, Response, StatusCode};
use midge_core::{Permit, reach};
use midge_protocol::limits;
use midge_protocol::line::{BODY_FRAME_BYTES_MAX, Failed, Head, Kind, Request, Why};
use midge_protocol::{exchange, shown};
use tokio::time::Instant;

use crate::asked::{Asked, Origin, within_head};
use crate::connect::connect;
use crate::failure::{ended_unanswered, failed, no_answer, not_allowed, timed_out};
use crate::frames::Writer;
use crate::link::Link;
use crate::modules::{Module, Modules};
use crate::outgoing::{Outgoing, Sending, Sent, Source};
use crate::redirect;
use crate::stars::{StarredBody, Stars};
use crate::waits::{Step, Waits};

/// The body of a redirect that is read to its end, so that its connection is used again.
const REDIRECT_BODY_BYTES_MAX: u64 = 16 * 1024;

/// Kept connections that are tried one after the other, where each turns out to have ended. Then a new one is made.
const KEPT_TRIES_MAX: usize = 3;

/// Why there is no answer, or not all of it.
pub(crate) enum NoAnswer {
    /// The guest is to know.
    Failed(Failed),
    /// There is nobody to tell: the line is broken.
    Line(io::Error),
}

impl From<Failed> for NoAnswer {
    fn from(failed: Failed) -> NoAnswer {
        NoAnswer::Failed(failed)
    }
}

/// Makes a request, and writes its answer but for the `End`.
pub(crate) async fn make(
    request: Request,
    outgoing: Outgoing,
    writer: &mut Writer<'_>,
    modules: &Modules,
) -> Result<(), NoAnswer> {
    // No attempt has longer, and none goes on without an end.
    let longest = Duration::from_millis(request.timeout_ms).min(limits::TIME_LIMIT_MAX);
    let deadline = Instant::now() + longest;
    let timeout_ms = request.timeout_ms;
    let Outgoing { source, wrong } = outgoing;
    let (mut carried, waits) = (Stars::default(), Waits::default());
    let answered = tokio::select! {
        biased;
        failed = wrong.told() => Err(failed.into()),
        answered = tokio::time::timeout_at(deadline, answer(request, source, writer, modules, &mut carried, &waits)) => {
            answered.unwrap_or_else(|_| Err(timed_out(timeout_ms, &waits).into()))
        }
    };
    answered.map_err(|no_answer| match no_answer {
        NoAnswer::Failed(Failed { why, message }) => {
            NoAnswer::Failed(Failed { why, message: carried.hide_in_text(message) })
        }
        line => line,
    })
}

async fn answer(
    request: Request,
    source: Source,
    writer: &mut Writer<'_>,
    modules: &Modules,
    carried: &mut Stars,
    waits: &Waits,
) -> Result<(), NoAnswer> {
    let module = modules.get(&request.module)?;
    let mut asked = Asked::read(&request)?;
    let mut body = None;
    let mut source = Some(source);
    let mut followed = 0;
    loop {
        let origin = asked.origin()?;
        let target = origin.target(asked.url.path());
        let permit = reach(&module.name, &module.http, target).map_err(|error| not_allowed(&error))?;
        let headers = module.headers(&asked, target, carried)?;
        waits.at(origin.place());
        // Not before it is known that the request may be made at all.
        let body = match source.take() {
            Some(source) => body.insert(source.begin().await),
            None => body.get_or_insert_with(Sending::nothing),
        };
        let message = Message { asked: &asked, headers, origin: &origin, waits };
        let (response, link) = send(module, modules, &message, permit, body).await?;
        let redirect = if request.redirects > 0 {
            redirect::of_answer(response.status(), response.headers(), &asked.url, &asked.method)?
        } else {
            None
        };
        let place = (origin.clone(), permit.names_the_host());
        waits.now(Step::Rest);
        let taken = Taken { response, link, place: &place, is_sent: body.is_sent() };
        match redirect {
            Some(redirect) if !redirect.with_body || body.is_kept() => {
                if followed == request.redirects.min(limits::REDIRECTS_MAX) {
                    let message = format!("{} redirects, and {} leads further", followed, origin.place());
                    return Err(failed(Why::TooManyRedirects, message).into());
                }
                if carried.are_in(redirect.url.as_str()) {
                    // It would be sent wherever that is, and into its logs.
                    let message =
                        format!("a redirect of {} leads to a URL with a secret in it", origin.place());
                    return Err(failed(Why::NotAllowed, message).into());
                }
                followed += 1;
                taken.forget(module).await;
                if !redirect.with_body {
                    *body = Sending::nothing();
                }
                redirect::follow(&mut asked, redirect, module)?;
            }
            // Nor is one followed whose body cannot be sent twice: the guest has the answer, and decides.
            _ => return taken.give(&asked, module, writer, carried, waits).await,
        }
    }
}

/// What is sent, but for the body.
struct Message<'a> {
    asked: &'a Asked,
    headers: HeaderMap,
    origin: &'a Origin,
    waits: &'a Waits,
}

impl Message<'_> {
    /// Makes it for a connection.
    fn on(&self, link: &Link, length: Option<u64>, body: Sent) -> Result<hyper::Request<Sent>, Failed> {
        let Message { asked, headers, origin, .. } = self;
        let mut headers = headers.clone();
        let brings = [Method::POST, Method::PUT, Method::PATCH].contains(&asked.method);
        match length {
            Some(0) if !brings => {}
            Some(length) => drop(headers.insert(CONTENT_LENGTH, length.into())),
            // HTTP/2 has an end of its own for it.
            None if link.is_shared() => {}
            None => drop(headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))),
        }
        let path = asked.path_and_query();
        let mut request = hyper::Request::builder().method(asked.method.clone());
        if link.is_shared() {
            request = request.uri(format!("{}://{}{path}", origin.scheme.as_str(), origin.authority()));
        } else {
            let host = HeaderValue::try_from(origin.authority()).map_err(|error| self.is_none(&error))?;
            headers.insert(HOST, host);
            request = request.uri(path);
        }
        let mut request = request.body(body).map_err(|error| self.is_none(&error))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Returns whether it may be sent again where its connection ended without a word: what was done twice is as if it was
    /// done once (RFC 9110, 9.2.2), or the server knows by a key.
    fn may_be_repeated(&self) -> bool {
        let repeated = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];
        repeated.contains(&self.asked.method)
            || self.headers.contains_key(HeaderName::from_static("idempotency-key"))
    }

    fn is_none(&self, error: &dyn std::error::Error) -> Failed {
        failed(
            Why::Invalid,
            format!("`{}` cannot be asked for: {error}", shown::cut(self.asked.url.as_str())),
        )
    }
}

/// Sends a request on a connection that is kept, or on a new one, and returns the head of its answer.
async fn send(
    module: &Module,
    modules: &Modules,
    message: &Message<'_>,
    permit: Permit,
    body: &mut Sending,
) -> Result<(Response<Incoming>, Link), Failed> {
    let place = (message.origin.clone(), permit.names_the_host());
    // The system is asked what has come, before a kept connection is used: most often its end, where it has ended.
    tokio::task::yield_now().await;
    for _ in 0..KEPT_TRIES_MAX {
        let Some(mut link) = module.pool.take(&place) else { break };
        let request = message.on(&link, body.length(), body.take())?;
        message.waits.now(Step::Head);
        match link.send(request).await {
            Ok(response) => return Ok((response, link)),
            // It had ended meanwhile, which says nothing about the server.
            Err(mut unsent) => match unsent.take_message() {
                Some(request) => body.give_back(request.into_body()),
                None if body.is_kept() && message.may_be_repeated() && ended_unanswered(unsent.error()) => {
                    break;
                }
                None => return Err(no_answer(&message.origin.place(), unsent.error())),
            },
        }
    }
    let mut link = connect(module, &modules.world, message.origin, permit, message.waits).await?;
    if let Some(share) = link.share() {
        module.pool.keep(place, share);
    }
    let request = message.on(&link, body.length(), body.take())?;
    message.waits.now(Step::Head);
    match link.send(request).await {
        Ok(response) => Ok((response, link)),
        Err(error) => Err(no_answer(&message.origin.place(), error.error())),
    }
}

/// An answer whose head has come.
struct Taken<'a> {
    response: Response<Incoming>,
    link: Link,
    place: &'a (Origin, bool),
    /// Whether all of the request's body was sent: else its connection cannot be used again.
    is_sent: bool,
}

impl Taken<'_> {
    /// Reads what is left of it, if that is little, and keeps the connection.
    async fn forget(self, module: &Module) {
        let Taken { response, link, place, is_sent } = self;
        let mut body = response.into_body();
        if body.size_hint().upper().is_some_and(|bytes| bytes <= REDIRECT_BODY_BYTES_MAX) && is_sent {
            while let Some(frame) = body.frame().await {
                if frame.is_err() {
                    return;
                }
            }
            keep(module, place, link);
        }
    }

    /// Writes it to a line, but for the `End`, no faster than its guest reads.
    async fn give(
        self,
        asked: &Asked,
        module: &Module,
        writer: &mut Writer<'_>,
        carried: &Stars,
        waits: &Waits,
    ) -> Result<(), NoAnswer> {
        let Taken { response, link, place, is_sent } = self;
        let (head, mut body) = response.into_parts();
        put_head(&head, asked, writer, carried)?;
        let mut starred = StarredBody::new(carried);
        loop {
            if writer.waiting() >= BODY_FRAME_BYTES_MAX {
                waits.now(Step::Reader);
                writer.flush().await.map_err(NoAnswer::Line)?;
                waits.now(Step::Rest);
            }
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                flushed = flush_soon(writer), if writer.waiting() > 0 => {
                    flushed.map_err(NoAnswer::Line)?;
                    continue;
                }
            };
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) if carried.is_empty() => writer.put_body(&bytes),
                    Ok(bytes) => writer.put_body(&starred.piece(&bytes)),
                    // What comes behind a body is not given back.
                    Err(_) => {}
                },
                Some(Err(error)) => return Err(no_answer(&place.0.place(), &error).into()),
                None => break,
            }
        }
        writer.put_body(&starred.end());
        if is_sent {
            keep(module, place, link);
        }
        Ok(())
    }
}

/// Writes what was put, once all that is ready to run has run: most often that is who brings the next piece.
async fn flush_soon(writer: &mut Writer<'_>) -> io::Result<()> {
    tokio::task::yield_now().await;
    writer.flush().await
}

/// Keeps a connection for the next request. One that is shared is kept since it was made.
fn keep(module: &Module, place: &(Origin, bool), link: Link) {
    if !link.is_shared() {
        module.pool.keep(place.clone(), link);
    }
}

fn put_head(
    head: &hyper::http::response::Parts,
    asked: &Asked,
    writer: &mut Writer<'_>,
    carried: &Stars,
) -> Result<(), Failed> {
    let place = asked.url.authority();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(failed(
            Why::NotHttp,
            format!("{place} goes over to another protocol, which nobody asked for"),
        ));
    }
    let count = head.headers.len();
    if count > limits::HTTP_HEADERS_MAX {
        let max = limits::HTTP_HEADERS_MAX;
        let message = format!("the answer of {place} has {count} headers: {max} are the most");
        return Err(failed(Why::TooLarge, message));
    }
    within_head(head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum())?;
    let headers = head.headers.iter().map(|(name, value)| {
        let mut value = value.as_bytes().to_vec();
        carried.hide(&mut value);
        (carried.hide_in_text(name.to_string()), value.into())
    });
    let head = Head {
        status: head.status.as_u16(),
        url: carried.hide_in_text(asked.url.to_string()),
        headers: headers.collect(),
    };
    writer.put(Kind::Head, &exchange::encode(&head));
    Ok(())
}
