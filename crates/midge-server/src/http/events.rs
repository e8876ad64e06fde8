//! `GET /v1/jobs/{id}/events`: a job is followed over server-sent events.
//!
//! A follower that does not take what it is sent is cut by the listener, as any receiver; until then no more is read for
//! it than what goes into its connection's buffer, since the next event is made when the one before has been taken.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use midge_listen::Connection;
use midge_protocol::limits;
use midge_protocol::news::{JobNews, Position};

use super::answer::{Failed, Id};
use crate::error::ServiceError;
use crate::midge::Midge;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// A proxy that collects answers before it passes them on (nginx) does not.
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

pub(super) async fn follow(
    State(midge): State<Midge>,
    Id(id): Id,
    connection: Option<Extension<Connection>>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let from = match headers.get(LAST_EVENT_ID) {
        Some(position) => String::from_utf8_lossy(position.as_bytes())
            .parse()
            .map_err(|error| Failed::invalid(format!("`Last-Event-ID`: {error}")))?,
        None => Position::BEGINNING,
    };
    let Some(follower) = midge.follow(id, from).await? else {
        // What tells a browser that it need not come back.
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let events = stream::try_unfold(follower, |mut follower| async move {
        let told = follower.next().await.inspect_err(|error| {
            tracing::warn!(%error, "a follower is cut: it may come back");
        })?;
        Ok::<_, ServiceError>(told.map(|(position, news)| (event(position, &news), follower)))
    });
    let events = UntilStopped { events: Box::pin(events), connection: connection.map(|Extension(it)| it) };
    let keep_alive = KeepAlive::new().interval(limits::FOLLOWER_HEARD_EVERY);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().extend([UNBUFFERED]);
    Ok(response)
}

fn event(position: Position, news: &JobNews) -> Event {
    Event::default().id(position.to_string()).event(news.name()).data(news.data())
}

/// Events until their connection is to end: a listener that stops waits for every answer, and this one has no end of its
/// own. Its task is woken then, and asks for the next event.
struct UntilStopped<S> {
    events: Pin<Box<S>>,
    connection: Option<Connection>,
}

impl<S: Stream> Stream for UntilStopped<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        if self.connection.as_ref().is_some_and(Connection::is_stopping) {
            return Poll::Ready(None);
        }
        self.events.as_mut().poll_next(cx)
    }
}
