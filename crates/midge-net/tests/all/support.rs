//! A host of the tests' own, and servers that do what they are told.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use midge_net::{World, serve};
use midge_protocol::exchange;
use midge_protocol::line::{Failed, Head, Kind, PREFIX_BYTES, Request, Setup, Why};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::json;
use tempfile::TempDir;

/// A test that waits longer for something has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The module that asks in most tests.
pub const MODULE: &str = "report";

/// What a program is started with.
#[derive(Default)]
pub struct Given {
    pub http: Vec<String>,
    /// Names, values and destinations.
    pub secrets: Vec<(&'static str, Option<&'static str>, Vec<String>)>,
    /// Addresses of names, for each time that one is looked up. All others are at 127.0.0.1.
    pub names: BTreeMap<&'static str, Vec<Vec<&'static str>>>,
    pub certificates: Option<PathBuf>,
}

/// A program that serves, until this is dropped.
pub struct Net {
    control: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    lookups: Arc<Mutex<Vec<String>>>,
    /// The folder of the manifest, while it is needed.
    modules: Option<TempDir>,
}

impl Given {
    /// Returns what reaches these destinations.
    pub fn http(destinations: &[&str]) -> Given {
        Given {
            http: destinations.iter().map(|destination| (*destination).to_owned()).collect(),
            ..Given::default()
        }
    }

    /// Starts what serves them on a thread of this process.
    pub fn start(mut self) -> Net {
        let (control, theirs) = UnixStream::pair().unwrap();
        let lookups = Arc::new(Mutex::new(Vec::new()));
        let names = std::mem::take(&mut self.names);
        let world = World { lookup: lookup(names, &lookups), certificates: self.certificates.clone() };
        let thread = std::thread::spawn(move || {
            theirs.set_nonblocking(true).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let control = tokio::net::UnixStream::from_std(theirs).unwrap();
                serve(control, world).await.unwrap();
            });
            runtime.shutdown_background();
        });
        let mut net = self.over(control);
        (net.thread, net.lookups) = (Some(thread), lookups);
        net
    }

    /// Begins what is served over a socket by somebody else.
    pub fn over(self, control: UnixStream) -> Net {
        let modules = tempfile::tempdir().unwrap();
        let of_module: BTreeMap<_, _> = self.secrets.iter().map(|(name, _, to)| (name, to)).collect();
        let sources: BTreeMap<_, _> =
            self.secrets.iter().map(|(name, ..)| (name, json!({ "env": format!("{name}_KEY") }))).collect();
        let manifest = json!({
            "modules": {
                MODULE: { "http": self.http, "secrets": of_module },
                "other": { "http": self.http },
                "alone": {},
            },
            "secrets": sources,
        });
        std::fs::write(modules.path().join("manifest.json"), manifest.to_string()).unwrap();
        let setup = Setup {
            modules: modules.path().to_str().unwrap().to_owned(),
            secrets: self
                .secrets
                .iter()
                .filter_map(|(name, value, _)| Some((name.parse().unwrap(), Bytes::from((*value)?))))
                .collect(),
        };
        (&control).write_all(&frame(Kind::Setup, &exchange::encode(&setup))).unwrap();
        Net { control: Some(control), thread: None, lookups: Arc::default(), modules: Some(modules) }
    }
}

fn lookup(
    names: BTreeMap<&'static str, Vec<Vec<&'static str>>>,
    lookups: &Arc<Mutex<Vec<String>>>,
) -> midge_net::Lookup {
    let names = Mutex::new(names);
    let lookups = Arc::clone(lookups);
    Arc::new(move |name| {
        lookups.lock().unwrap().push(name.to_owned());
        let mut names = names.lock().unwrap();
        let Some(answers) = names.get_mut(name) else { return Ok(vec![Ipv4Addr::LOCALHOST.into()]) };
        match answers.as_slice() {
            [] => Err(io::Error::other("no such name")),
            // The last answer stays.
            [_] => Ok(answers[0].iter().map(|address| address.parse().unwrap()).collect::<Vec<IpAddr>>()),
            [..] => Ok(answers.remove(0).iter().map(|address| address.parse().unwrap()).collect()),
        }
    })
}

impl Net {
    pub fn line(&self) -> Line {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        ours.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let lines = [theirs.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&lines)));
        let control = self.control.as_ref().unwrap();
        sendmsg(control, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::empty()).unwrap();
        Line { stream: ours }
    }

    /// Makes a request without a body on a line of its own.
    pub fn get(&self, url: &str) -> Result<Answer, Failed> {
        self.line().ask(&get(url), b"")
    }

    /// Returns why a request is not answered.
    pub fn refuses(&self, request: &Request) -> Failed {
        self.line().ask(request, b"").expect_err(&request.url)
    }

    /// Returns the names that were looked up.
    pub fn lookups(&self) -> Vec<String> {
        self.lookups.lock().unwrap().clone()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        drop(self.control.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if let (Some(ended), false) = (ended, std::thread::panicking()) {
            ended.unwrap();
        }
        drop(self.modules.take());
    }
}

/// A host's end of a line.
pub struct Line {
    pub stream: UnixStream,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub head: Head,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let mut of_name = self.head.headers.iter().filter(|(header, _)| header == name);
        of_name.next().map(|(_, value)| &value[..])
    }
}

impl Line {
    /// Makes a request, and waits for all of its answer.
    pub fn ask(&mut self, request: &Request, body: &[u8]) -> Result<Answer, Failed> {
        self.begin(request);
        for piece in body.chunks(64 * 1024) {
            self.send(Kind::Body, piece);
        }
        self.send(Kind::End, b"");
        self.answer()
    }

    pub fn begin(&mut self, request: &Request) {
        self.send(Kind::Request, &exchange::encode(request));
    }

    /// Asks for what has no body on a line that may have been closed.
    pub fn try_begin(&mut self, request: &Request) {
        let request = frame(Kind::Request, &exchange::encode(request));
        let _ = self.stream.write_all(&[&request[..], &frame(Kind::End, b"")].concat());
    }

    pub fn send(&mut self, kind: Kind, bytes: &[u8]) {
        self.stream.write_all(&frame(kind, bytes)).unwrap();
    }

    /// Waits for all of an answer.
    pub fn answer(&mut self) -> Result<Answer, Failed> {
        let head = self.head()?;
        let mut body = Vec::new();
        while let Some(piece) = self.piece()? {
            body.extend(piece);
        }
        Ok(Answer { head, body })
    }

    pub fn head(&mut self) -> Result<Head, Failed> {
        match self.frame() {
            (Kind::Head, bytes) => Ok(exchange::decode(&bytes).unwrap()),
            (Kind::Failed, bytes) => Err(exchange::decode(&bytes).unwrap()),
            other => panic!("{other:?} is no head"),
        }
    }

    /// Returns a piece of the answer's body; nothing at its end.
    pub fn piece(&mut self) -> Result<Option<Vec<u8>>, Failed> {
        match self.frame() {
            (Kind::Body, bytes) => Ok(Some(bytes)),
            (Kind::End, _) => Ok(None),
            (Kind::Failed, bytes) => Err(exchange::decode(&bytes).unwrap()),
            other => panic!("{other:?} is no piece"),
        }
    }

    /// Returns whether something has come on it, its end included.
    pub fn has_news(&self) -> bool {
        let mut waits = [rustix::event::PollFd::new(&self.stream, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut waits, Some(&rustix::event::Timespec::default())).unwrap() > 0
    }

    /// Returns why there is no answer; nothing where the line has ended without a word.
    pub fn failed_if_told(&mut self) -> Option<Failed> {
        let mut first = [0];
        if self.stream.read(&mut first).unwrap_or(0) == 0 {
            return None;
        }
        let mut rest = vec![0; PREFIX_BYTES - 1];
        self.stream.read_exact(&mut rest).unwrap();
        let prefix = [&first[..], &rest].concat().try_into().unwrap();
        let (kind, length) = Kind::of_prefix(prefix).unwrap();
        assert_eq!(kind, Kind::Failed);
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap();
        Some(exchange::decode(&bytes).unwrap())
    }

    fn frame(&mut self) -> (Kind, Vec<u8>) {
        let mut prefix = [0; PREFIX_BYTES];
        self.stream.read_exact(&mut prefix).expect("a frame comes");
        let (kind, length) = Kind::of_prefix(prefix).unwrap();
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap();
        (kind, bytes)
    }
}

fn frame(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    [&kind.prefix(bytes.len())[..], bytes].concat()
}

pub fn get(url: &str) -> Request {
    Request {
        module: MODULE.parse().unwrap(),
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body_bytes: Some(0),
        redirects: 0,
        timeout_ms: u64::try_from(PATIENCE.as_millis()).unwrap(),
    }
}

pub fn with_headers(mut request: Request, headers: &[(&str, &str)]) -> Request {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), Bytes::from((*value).to_owned())));
    request.headers = headers.collect();
    request
}

pub fn post(url: &str, body_bytes: Option<u64>) -> Request {
    Request { method: "POST".to_owned(), body_bytes, ..get(url) }
}

/// Checks why a request failed, and that its message says what it should.
#[track_caller]
pub fn is_failed(failed: &Failed, why: Why, says: &str) {
    assert!(failed.why == why && failed.message.contains(says), "{failed:?}: not {why:?} with `{says}`");
}

/// A server on loopback that treats each connection as it is told, on a thread of its own.
pub struct Server {
    pub port: u16,
    connections: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Server {
    pub fn each(treat: impl Fn(TcpStream) + Send + Sync + 'static) -> Server {
        Server::at("127.0.0.1:0", treat)
    }

    pub fn at(address: &str, treat: impl Fn(TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        let treat = Arc::new(treat);
        let connections = Arc::new(AtomicUsize::new(0));
        let ended = Arc::new(AtomicUsize::new(0));
        let (count, ends) = (Arc::clone(&connections), Arc::clone(&ended));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let connection = connection.unwrap();
                connection.set_read_timeout(Some(PATIENCE)).unwrap();
                connection.set_write_timeout(Some(PATIENCE)).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let (treat, ends) = (Arc::clone(&treat), Arc::clone(&ends));
                std::thread::spawn(move || {
                    treat(connection);
                    ends.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Server { port, connections, ended }
    }

    /// Answers each request of each connection with what a function says.
    pub fn answering(answer: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> Server {
        Server::each(move |connection| serve_each(connection, &answer))
    }

    /// Sends bytes to whoever has asked, and ends the connection.
    pub fn sending(bytes: impl Into<Vec<u8>>) -> Server {
        let bytes = bytes.into();
        Server::each(move |mut connection| {
            if Seen::read(&mut connection).is_some() {
                let _ = connection.write_all(&bytes);
            }
        })
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://api.test:{}{path}", self.port)
    }

    pub fn origin(&self) -> String {
        self.url("")
    }

    /// Starts a program that reaches it.
    pub fn net(&self) -> Net {
        Given::http(&[&self.origin()]).start()
    }

    /// Returns how many connections were made to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Returns how many of them have ended.
    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }
}

/// Answers the requests of a connection, one after the other.
pub fn serve_each(mut connection: impl Read + Write, answer: impl Fn(&Seen) -> Vec<u8>) {
    while let Some(seen) = Seen::read(&mut connection) {
        if connection.write_all(&answer(&seen)).is_err() {
            return;
        }
    }
}

/// A request as a server sees it.
pub struct Seen {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    /// Reads one; nothing where the connection ends before it.
    pub fn read(connection: &mut impl Read) -> Option<Seen> {
        let (head, rest) = read_head(connection)?;
        let mut lines = head.lines();
        let line = lines.next()?.to_owned();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut seen = Seen { line, headers, body: rest };
        if seen.header("transfer-encoding") == Some("chunked") {
            while !seen.body.ends_with(b"0\r\n\r\n") {
                read_some(connection, &mut seen.body)?;
            }
        } else {
            let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
            while seen.body.len() < length {
                read_some(connection, &mut seen.body)?;
            }
        }
        Some(seen)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }

    /// Returns all of it as a server's answer.
    pub fn echo(&self) -> Vec<u8> {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        let body = format!("{}\n{headers}\n{}", self.line, String::from_utf8_lossy(&self.body));
        ok(&body)
    }
}

/// Reads to the end of a request's head. Returns it, and what came behind.
pub fn read_head(connection: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Some((String::from_utf8(bytes).unwrap(), rest));
        }
        read_some(connection, &mut bytes)?;
    }
}

fn read_some(connection: &mut impl Read, bytes: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 16 * 1024];
    match connection.read(&mut piece) {
        Ok(0) | Err(_) => None,
        Ok(length) => {
            bytes.extend_from_slice(&piece[..length]);
            Some(())
        }
    }
}

/// Returns an answer of HTTP/1.1 with a body.
pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Returns a redirect.
pub fn redirect(status: u16, location: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 4\r\n\r\ngone").into_bytes()
}

/// Waits until something holds.
#[track_caller]
pub fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
}
