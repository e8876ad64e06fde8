//! Why a request has no answer, in words: what it was, where, and what to do.

use std::error::Error;
use std::io;

use midge_core::NotAllowed;
use midge_protocol::line::{Failed, Why};
use midge_protocol::{limits, shown};

use crate::waits::Waits;

/// The longest body that the head of an answer may tell: hyper has the two numbers above for bodies of no known length.
const BODY_BYTES_MOST: u64 = u64::MAX - 2;

/// Messages are cut to this: a part of what a failure of an attempt may say, and a URL may be longer.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// Errors of a system that lacks descriptors, memory, or room to watch one more. Not that of an address that cannot be used:
/// it is also that of one that the Machine does not have, which another does not have either.
const LACKS: [rustix::io::Errno; 5] = [
    rustix::io::Errno::MFILE,
    rustix::io::Errno::NFILE,
    rustix::io::Errno::NOMEM,
    rustix::io::Errno::NOBUFS,
    rustix::io::Errno::NOSPC,
];

pub(crate) fn failed(why: Why, message: impl AsRef<str>) -> Failed {
    let message = shown::line(message.as_ref());
    Failed { why, message: message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)].to_owned() }
}

pub(crate) fn not_allowed(error: &NotAllowed) -> Failed {
    failed(Why::NotAllowed, error.to_string())
}

/// Returns the failure of a request that was not done in time, from how long it had, in milliseconds, and what it waited for.
pub(crate) fn timed_out(timeout_ms: u64, waits: &Waits) -> Failed {
    let waited = waits.words();
    let message = format!(
        "the request took longer than it may, {timeout_ms} ms with its answer's body: it waited for {waited}"
    );
    failed(Why::TimedOut, message)
}

/// Returns the failure of a name that could not be looked up.
pub(crate) fn no_such_host(name: &str, error: &io::Error) -> Failed {
    match lack(error) {
        Some(lack) => failed(Why::Lacks, format!("cannot look up `{}`: {lack}", shown::cut(name))),
        None => failed(
            Why::NoSuchHost,
            format!("there is no host `{}`, or nobody who knows: {error}", shown::cut(name)),
        ),
    }
}

/// Returns the failure of a connection that was not made to `place`, a host with its port.
pub(crate) fn not_connected(place: &str, error: &io::Error) -> Failed {
    if let Some(lack) = lack(error) {
        return failed(Why::Lacks, format!("cannot connect to {place}: {lack}"));
    }
    match error.kind() {
        io::ErrorKind::TimedOut => {
            failed(Why::TimedOut, format!("cannot connect to {place}: it does not answer"))
        }
        _ => failed(Why::Refused, format!("nobody takes connections at {place}: {error}")),
    }
}

/// Returns the failure of a TLS handshake.
pub(crate) fn no_tls(place: &str, error: &io::Error) -> Failed {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => failed(
            Why::Tls,
            format!(
                "{place} does not prove who it is: {why:?}. Where its certificate is of an authority of your own, set \
                 SSL_CERT_FILE to a file with that"
            ),
        ),
        Some(rustls::Error::InvalidMessage(_)) => {
            failed(Why::Tls, format!("{place} speaks no TLS: is it meant to be `http://`?"))
        }
        Some(error) => failed(Why::Tls, format!("no TLS with {place}: {error}")),
        None => match lack(error) {
            Some(lack) => failed(Why::Lacks, format!("no TLS with {place}: {lack}")),
            None => failed(Why::Reset, format!("{place} ended the connection before there was TLS: {error}")),
        },
    }
}

/// Returns the failure of an answer that did not come, or not to its end.
pub(crate) fn no_answer(place: &str, error: &hyper::Error) -> Failed {
    let too_large = || {
        failed(
            Why::TooLarge,
            format!(
                "the head of the answer of {place} is larger than {} KiB, has more than {} headers, or says that a body of \
                 more than {BODY_BYTES_MOST} bytes follows",
                limits::HTTP_HEAD_BYTES_MAX / 1024,
                limits::HTTP_HEADERS_MAX
            ),
        )
    };
    if error.is_parse_too_large() {
        return too_large();
    }
    let is_bad_chunk =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
    if error.is_parse() || find::<io::Error>(error).is_some_and(is_bad_chunk) {
        return failed(Why::NotHttp, format!("what {place} answers is no HTTP: {}", innermost(error)));
    }
    if let Some(error) = find::<h2::Error>(error) {
        // Frames of one head, more than it may take.
        if error.is_library() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM) {
            return too_large();
        }
        let not_http =
            error.is_library() && error.reason().is_some_and(|reason| reason != h2::Reason::NO_ERROR);
        return if not_http {
            failed(
                Why::NotHttp,
                format!("what {place} answers is no HTTP/2 within its bounds: {}", reason(error)),
            )
        } else {
            failed(Why::Reset, format!("{place} gave the request up: {}", reason(error)))
        };
    }
    if let Some(lack) = find::<io::Error>(error).and_then(lack) {
        return failed(Why::Lacks, format!("no answer from {place}: {lack}"));
    }
    if error.is_incomplete_message()
        || find::<io::Error>(error).is_some()
        || error.is_closed()
        || error.is_canceled()
    {
        let message =
            format!("{place} ended the connection before its answer had ended: {}", innermost(error));
        return failed(Why::Reset, message);
    }
    // Of a body: its chunks are none.
    failed(Why::NotHttp, format!("what {place} answers is no HTTP: {}", innermost(error)))
}

/// Returns why a stream or a connection of HTTP/2 ended. What a server says beside that in a GOAWAY is left out: it may say a
/// secret back in any form.
fn reason(error: &h2::Error) -> String {
    error.reason().map_or_else(|| error.to_string(), |reason| reason.description().to_owned())
}

/// Returns whether a connection ended, or was ended for all its requests, before anything of an answer came.
pub(crate) fn ended_unanswered(error: &hyper::Error) -> bool {
    let ended = |error: &io::Error| {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
    };
    let refused = |error: &h2::Error| {
        error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    };
    error.is_incomplete_message()
        || error.is_canceled()
        || error.is_closed()
        || find::<io::Error>(error).is_some_and(ended)
        || find::<h2::Error>(error).is_some_and(refused)
}

/// Returns what the system lacks, where that is what an error says.
fn lack(error: &io::Error) -> Option<String> {
    let errno = rustix::io::Errno::from_io_error(error)?;
    LACKS.contains(&errno).then(|| format!("the Machine lacks what it takes: {error}"))
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut error = Some(error);
    while let Some(this) = error {
        if let Some(found) = this.downcast_ref() {
            return Some(found);
        }
        error = this.source();
    }
    None
}

fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
