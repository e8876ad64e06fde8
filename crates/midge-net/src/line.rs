//! A line: one request after the other, until the host closes it.
//!
//! Three things go on at once while a request is made: the body that the guest writes is read from the line, whether
//! anybody wants it or not; the answer is written to it; and its end is looked for, which ends all.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;

use midge_protocol::exchange;
use midge_protocol::line::{Failed, Kind, Request};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::asked;
use crate::frames::{Reader, Writer};
use crate::modules::Modules;
use crate::outgoing::{self, Given};
use crate::request;

/// What has become of a line.
enum Line {
    /// It is used for the next request.
    Goes,
    /// It has ended, or is given up.
    Ended,
}

/// Holds a line until its host closes it. A line on which something comes that is no request is given up.
pub(crate) async fn hold(line: OwnedFd, modules: Arc<Modules>) {
    let line = std::os::unix::net::UnixStream::from(line);
    // A line that cannot be waited for has the fate of one that could not be taken.
    let Ok(line) = line.set_nonblocking(true).and_then(|()| UnixStream::from_std(line)) else {
        return;
    };
    let mut reader = Reader::new(&line);
    let mut writer = Writer::new(&line);
    while let Ok(Some((Kind::Request, request))) = reader.next().await {
        let Ok(request) = exchange::decode::<Request>(&request) else { return };
        if let Line::Ended = make(request, &line, &mut reader, &mut writer, &modules).await {
            return;
        }
        reader.rest();
        writer.rest();
    }
}

async fn make(
    request: Request,
    line: &UnixStream,
    reader: &mut Reader<'_>,
    writer: &mut Writer<'_>,
    modules: &Modules,
) -> Line {
    let (given, outgoing) = outgoing::body(asked::length(&request));
    let whole = {
        let mut feeding = pin!(feed(reader, given));
        let mut answering = pin!(answer(request, outgoing, writer, modules));
        let (mut fed, mut answered) = (false, false);
        loop {
            tokio::select! {
                biased;
                () = ended(line) => return Line::Ended,
                // What was written first is looked at first: a request with its body comes in one piece.
                result = &mut feeding, if !fed => match result {
                    Ok(()) => fed = true,
                    Err(_) => return Line::Ended,
                },
                whole = &mut answering, if !answered => match whole {
                    Ok(true) => answered = true,
                    Ok(false) => break false,
                    Err(_) => return Line::Ended,
                },
            }
            if fed && answered {
                break true;
            }
        }
    };
    if whole {
        return Line::Goes;
    }
    // Its host closes it, once it has read why. Until then it may be writing.
    tokio::select! {
        () = ended(line) => {}
        _ = reader.discard() => {}
    }
    Line::Ended
}

/// Waits until the other end of a line is closed, also while there is something to be read on it.
async fn ended(line: &UnixStream) {
    // Of all that can be waited for, this comes with nothing else: nobody sends urgent data.
    let _ = line.ready(Interest::PRIORITY).await;
}

/// Reads the body of a request from its line, and hands it on where it is still wanted.
async fn feed(reader: &mut Reader<'_>, mut given: Given) -> io::Result<()> {
    loop {
        match reader.next().await? {
            Some((Kind::Body, piece)) => given.piece(piece).await,
            Some((Kind::End, _)) => {
                given.end().await;
                return Ok(());
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Writes the answer to a line, or why there is none or not all of it. Returns whether it is whole.
async fn answer(
    request: Request,
    outgoing: outgoing::Outgoing,
    writer: &mut Writer<'_>,
    modules: &Modules,
) -> io::Result<bool> {
    match request::make(request, outgoing, writer, modules).await {
        Ok(()) => {
            writer.put(Kind::End, &[]);
            writer.flush().await?;
            Ok(true)
        }
        Err(request::NoAnswer::Line(error)) => Err(error),
        Err(request::NoAnswer::Failed(Failed { why, message })) => {
            writer.put(Kind::Failed, &exchange::encode(&Failed { why, message }));
            writer.flush().await?;
            Ok(false)
        }
    }
}
