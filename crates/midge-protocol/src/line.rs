//! What a host and the program that has the network (`midge-net`) say to each other.
//!
//! They speak on *lines*: Unix stream sockets, on each of which one request is made at a time. The host makes a pair of sockets
//! for a line and passes one end on, over the socket that the program was started with; whoever gives up a request closes its
//! line. A line is a row of frames: a byte that says of which [`Kind`] it is, the length of what follows as four bytes, the least
//! first, and so many bytes.
//!
//! A request is a frame `Request`, any number of `Body` and one `End`; the answer a `Head`, any number of `Body` and one `End`.
//! In place of any of the answer's frames comes `Failed`, after which nothing more does. A line on which both have ended is used again.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::object::objects;
use crate::{ModuleName, SecretName};

/// The most bytes of a frame that is a piece of a body.
pub const BODY_FRAME_BYTES_MAX: usize = 64 * 1024;
/// The most bytes of any other frame: a head with all its headers, or an error.
pub const HEAD_FRAME_BYTES_MAX: usize = 256 * 1024;
/// The most bytes of a setup: all secrets that there may be, each of the largest size.
pub const SETUP_FRAME_BYTES_MAX: usize = 1024 * 1024;
/// The length of what stands before the bytes of each frame.
pub const PREFIX_BYTES: usize = 5;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From the host, on the socket by which lines come: the [`Setup`].
    Setup,
    /// From the host: a [`Request`], as [`crate::exchange::encode`] writes it.
    Request,
    /// From both: a piece of a body.
    Body,
    /// From both: the body has ended. It is empty.
    End,
    /// From the program: the [`Head`] of an answer.
    Head,
    /// From the program: a [`Failed`] request.
    Failed,
}

impl Kind {
    const ALL: [Kind; 6] = [Kind::Setup, Kind::Request, Kind::Body, Kind::End, Kind::Head, Kind::Failed];

    /// Returns what stands before a frame's bytes.
    pub fn prefix(self, length: usize) -> [u8; PREFIX_BYTES] {
        let kind = Kind::ALL.iter().position(|kind| *kind == self).expect("all are listed");
        let [a, b, c, d] = u32::try_from(length).expect("a frame has its bound").to_le_bytes();
        [u8::try_from(kind).expect("there are few") + 1, a, b, c, d]
    }

    /// Reads what stands before a frame's bytes: of which kind it is, and how many bytes follow.
    ///
    /// # Errors
    /// [`BadFrame`] where there is no such kind, or more bytes than such a frame may have.
    pub fn of_prefix(prefix: [u8; PREFIX_BYTES]) -> Result<(Kind, usize), BadFrame> {
        let [kind, length @ ..] = prefix;
        let kind = Kind::ALL.get(usize::from(kind).wrapping_sub(1)).copied().ok_or(BadFrame)?;
        let length = u32::from_le_bytes(length) as usize;
        let most = match kind {
            Kind::Body => BODY_FRAME_BYTES_MAX,
            Kind::End => 0,
            Kind::Setup => SETUP_FRAME_BYTES_MAX,
            Kind::Request | Kind::Head | Kind::Failed => HEAD_FRAME_BYTES_MAX,
        };
        if length <= most { Ok((kind, length)) } else { Err(BadFrame) }
    }
}

/// The error of bytes on a line that are no frame: whoever reads them gives the line up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what came on a line is no frame")]
pub struct BadFrame;

/// What the program is told once, at its start: the first frame on the socket by which lines come. It cannot be shown, for what
/// it holds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Setup {
    /// The folder of the manifest, which says what each module may reach.
    pub modules: String,
    /// The values of secrets, by their names in the manifest. One that the Machine does not have is left out.
    pub secrets: BTreeMap<SecretName, Bytes>,
}

/// A request that a guest makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Request {
    /// The module of the guest, by which the program judges what may be reached and which secrets are put in.
    pub module: ModuleName,
    /// The method, such as `GET`, as the guest wrote it.
    pub method: String,
    /// The URL, as the guest wrote it.
    pub url: String,
    /// The headers in their order, as the guest wrote them: `{{NAME}}` in a value stands for a secret.
    pub headers: Vec<(String, Bytes)>,
    /// The length of the body in bytes, where it is known; 0 where there is none.
    pub body_bytes: Option<u64>,
    /// How many redirects are followed.
    pub redirects: u32,
    /// How long all of it may take, to the end of the answer's body, in milliseconds.
    pub timeout_ms: u64,
}

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Head {
    /// The status, such as 200.
    pub status: u16,
    /// The URL that answered: another one than was asked for after redirects.
    pub url: String,
    /// The headers in their order, as they came.
    pub headers: Vec<(String, Bytes)>,
}

/// Why a request has no answer, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Failed {
    /// What it was, of few.
    pub why: Why,
    /// The same for people, with what to do. It holds no secret.
    pub message: String,
}

/// What kept a request from its answer. `docs/abi.md` has the numbers by which guests know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The module may not reach it, or not with that secret.
    NotAllowed,
    /// What the guest asks for is no request: its method, URL, a header, or a length that is not the body's.
    Invalid,
    /// There is no host of that name, or who knows names does not answer.
    NoSuchHost,
    /// Nobody takes connections there.
    Refused,
    /// The connection ended before the answer did.
    Reset,
    /// The server is not who it should be, or does not speak TLS.
    Tls,
    /// It took longer than it may.
    TimedOut,
    /// A head is larger than its bound.
    TooLarge,
    /// What came is no HTTP.
    NotHttp,
    /// One redirect more than are followed.
    TooManyRedirects,
    /// The Machine lacks what it takes, such as descriptors. It is not the guest's fault.
    Lacks,
}

objects!(Setup, Request, Head, Failed);
