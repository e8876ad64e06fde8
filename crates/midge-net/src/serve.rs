//! Serves a host: the socket by which its lines come, and a task for each line.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;

use midge_protocol::exchange::{self, Malformed};
use midge_protocol::limits::{OPEN_REQUESTS_MAX, PLACES_MAX};
use midge_protocol::line::{BadFrame, Kind, PREFIX_BYTES, Setup};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::line;
use crate::modules::{Modules, NoModules};
use crate::world::World;

/// Lines that are held at once: as many as the largest host may have requests open. Descriptors end sooner.
const LINES_MAX: usize = PLACES_MAX as usize * OPEN_REQUESTS_MAX;

/// Why a host cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket by which lines come is broken.
    #[error("the socket of the host is broken")]
    Control(#[from] io::Error),
    /// What came first is no frame, or another one than the setup.
    #[error("the host does not begin with its setup")]
    NoSetup(#[from] BadFrame),
    /// The setup cannot be read.
    #[error("the setup cannot be read: host and program are of one release")]
    Setup(#[from] Malformed),
    /// The manifest cannot be read.
    #[error(transparent)]
    Modules(#[from] NoModules),
}

/// Serves a host until the socket by which its lines come ends. Requests that are under way then are given up.
///
/// # Errors
/// [`ServeError`] where the host does not say at first what its modules are.
pub async fn serve(mut control: UnixStream, world: World) -> Result<(), ServeError> {
    let Some(setup) = read_setup(&mut control).await? else {
        return Ok(());
    };
    let modules = Arc::new(Modules::read(setup, world)?);
    let mut lines = JoinSet::new();
    let mut tidying = pin!(modules.drop_unused_links());
    loop {
        tokio::select! {
            came = next_line(&control) => match came? {
                // One that cannot be taken ends, by which its host knows.
                Came::Line(line) if lines.len() < LINES_MAX => {
                    lines.spawn(line::hold(line, Arc::clone(&modules)));
                }
                Came::Line(_) | Came::Nothing => {}
                Came::End => return Ok(()),
            },
            Some(_) = lines.join_next(), if !lines.is_empty() => {}
            () = &mut tidying => {}
        }
    }
}

/// Reads the first frame, and not a byte more: a line comes with the byte behind it.
async fn read_setup(control: &mut UnixStream) -> Result<Option<Setup>, ServeError> {
    let mut prefix = [0; PREFIX_BYTES];
    match control.read_exact(&mut prefix).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    };
    let (kind, length) = Kind::of_prefix(prefix)?;
    if kind != Kind::Setup {
        return Err(BadFrame.into());
    }
    let mut setup = vec![0; length];
    control.read_exact(&mut setup).await?;
    Ok(Some(exchange::decode(&setup)?))
}

enum Came {
    Line(OwnedFd),
    /// A byte without its line: there was no descriptor left for it.
    Nothing,
    End,
}

async fn next_line(control: &UnixStream) -> io::Result<Came> {
    control
        .async_io(Interest::READABLE, || {
            let mut byte = [0];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let bytes = &mut [IoSliceMut::new(&mut byte)];
            if recvmsg(control, bytes, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?.bytes == 0 {
                return Ok(Came::End);
            }
            let lines = ancillary.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut lines) => lines.next(),
                _ => None,
            });
            Ok(lines.last().map_or(Came::Nothing, Came::Line))
        })
        .await
}
