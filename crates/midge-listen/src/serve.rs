//! Accepts connections and serves each, until it ends, stands still, gives way or the server stops.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use axum::response::Response;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tower::Service;

use crate::answers;
use crate::connections::{Connection, Connections, Entry, Phase};
use crate::io::Watched;

/// The most bytes of a request's head: cookies of other apps on the same name, and room to spare.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// The most bytes of a request's URI. The longest of ours has a few hundred.
const URI_BYTES_MAX: usize = 8 * 1024;
/// The most bytes that are read or written at once.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// One more connection for so many may be there only to be told that there is no room.
const REFUSALS_SHARE: usize = 8;
/// How often it is told that the system has no descriptor for another.
const WARN_EACH: Duration = Duration::from_secs(60);
/// How long to wait for a connection to end where the system has no descriptor for another.
const NO_FILES_PAUSE: Duration = Duration::from_secs(1);

/// Serves an app on a listener, under the limits of `connections`, until `stop`; then waits until every request that is
/// being answered has been. Whoever does not want to wait drops the future, which ends them.
///
/// Each request carries a [`Connection`] as an extension.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    connections: Connections,
    stop: impl Future<Output = ()>,
) {
    let mut stop = pin!(stop);
    let mut tasks = JoinSet::new();
    let limits = *connections.limits();
    let refusals = Arc::new(Semaphore::new(limits.connections.div_ceil(REFUSALS_SHARE)));
    let mut warned: Option<Instant> = None;
    loop {
        // A new one takes a descriptor before the one that gave way for it has given its own back.
        let may_accept = !connections.are_closing();
        let accepted = tokio::select! {
            () = &mut stop => break,
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept(), if may_accept => accepted,
        };
        match accepted {
            Ok((stream, _)) => match connections.admit() {
                Some(connection) => drop(tasks.spawn(hold(stream, connection, app.clone()))),
                None => {
                    if let Ok(place) = refusals.clone().try_acquire_owned() {
                        tasks.spawn(refuse(stream, limits.linger, place));
                    }
                }
            },
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                // Whoever floods us is not to flood the log.
                if warned.is_none_or(|warned| warned.elapsed() > WARN_EACH) {
                    warned = Some(Instant::now());
                    tracing::warn!(%error, "no further connection can be accepted: idle ones are closed");
                }
                connections.make_room();
                tokio::select! {
                    () = &mut stop => break,
                    Some(_) = tasks.join_next() => {}
                    () = tokio::time::sleep(NO_FILES_PAUSE) => {}
                }
            }
        }
    }
    drop(listener);
    connections.stop();
    while tasks.join_next().await.is_some() {}
}

/// Returns whether an accept failed because of that one connection, which has gone again.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Says that there is no room, and waits for the client to hear it: what it sends meanwhile is thrown away.
async fn refuse(mut stream: TcpStream, linger: Duration, _place: OwnedSemaphorePermit) {
    let said = async {
        stream.write_all(&answers::full()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    // A client that has gone needs no answer.
    let _ = tokio::time::timeout(linger, said).await;
}

/// Holds a connection to its end.
async fn hold(stream: TcpStream, connection: Connection, app: Router) {
    // Answers are small and awaited: held back for more, each would cost 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set nodelay");
    }
    let entry = connection.entry().clone();
    let io = TokioIo::new(Watched::new(stream, entry.clone()));
    let answering = connection.clone();
    let service = service_fn(move |request| answer(request, &answering, app.clone()));
    let mut builder = http1::Builder::new();
    builder.max_header_size(HEAD_BYTES_MAX).max_buf_size(BUFFER_BYTES_MAX);
    let mut http = pin!(builder.serve_connection(io, service));
    let mut limit = pin!(StandsStill::of(&connection));
    let mut told = false;
    poll_fn(|cx| {
        entry.listens(cx.waker());
        // A request that has begun meanwhile is answered all the same, and is the last.
        if entry.is_closed() && !entry.is_answered() {
            return Poll::Ready(());
        }
        if !told && (entry.is_closed() || entry.is_stopping()) {
            told = true;
            http.as_mut().graceful_shutdown();
        }
        // What went wrong with a connection is its client's to know.
        if http.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        limit.as_mut().poll(cx)
    })
    .await;
}

/// Asks the routes, and has the entry know until when the answer is theirs.
fn answer(
    request: Request<Incoming>,
    connection: &Connection,
    mut app: Router,
) -> impl Future<Output = Result<Response<Answer>, Infallible>> + use<> {
    let entry = connection.entry().clone();
    entry.enter(Phase::Answering);
    let too_long = request.uri().path_and_query().map_or(0, |text| text.as_str().len()) > URI_BYTES_MAX;
    let asked = entry.clone();
    let mut request = request.map(|body| Body::new(Asked { body, entry: asked }));
    request.extensions_mut().insert(connection.clone());
    let answer = if too_long { Err(answers::uri_too_long()) } else { Ok(app.call(request)) };
    async move {
        let answer = match answer {
            Ok(answer) => answer.await?,
            Err(too_long) => too_long,
        };
        Ok(answer.map(|body| Answer { body, _until: Until(entry) }))
    }
}

/// The body of a request. One that is dropped before all of it has come may still be on its way.
struct Asked {
    body: Incoming,
    entry: Arc<Entry>,
}

impl HttpBody for Asked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.body.is_end_stream() {
            self.entry.leave_unread();
        }
    }
}

/// The body of an answer, until hyper has all of it.
struct Answer {
    body: Body,
    _until: Until,
}

struct Until(Arc<Entry>);

impl Drop for Until {
    fn drop(&mut self) {
        self.0.enter(Phase::Sending);
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Is ready when a connection has stood still for too long. Its timer is set anew only where it would ring too late: a
/// connection with many requests sets it once in a while, and one whose request is being answered has it ring for
/// nothing at most once.
struct StandsStill<'a> {
    connection: &'a Connection,
    sleep: Pin<Box<Sleep>>,
}

impl<'a> StandsStill<'a> {
    fn of(connection: &'a Connection) -> StandsStill<'a> {
        let due = connection.entry().due(connection.limits()).map(Instant::from_std);
        let sleep = tokio::time::sleep_until(due.unwrap_or_else(Instant::now));
        StandsStill { connection, sleep: Box::pin(sleep) }
    }
}

impl Future for StandsStill<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(due) = self.connection.entry().due(self.connection.limits()) else {
                return Poll::Pending;
            };
            let due = Instant::from_std(due);
            if due < self.sleep.deadline() {
                self.sleep.as_mut().reset(due);
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if due <= Instant::now() {
                self.connection.stood_still();
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(due);
        }
    }
}
