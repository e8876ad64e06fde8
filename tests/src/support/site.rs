//! A server on this computer that jobs make requests to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The first line and all headers.
    pub head: String,
    /// The body, where it came with its length.
    pub body: Vec<u8>,
}

impl Asked {
    /// Returns the path that was asked for.
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// Returns the value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A server that answers each request as its test says, each connection on a thread of its own. It listens until the tests
/// end.
pub struct Site {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Site {
    /// Starts one. `answer` writes what it likes.
    pub fn start(answer: impl Fn(&Asked, &mut TcpStream) + Send + Sync + 'static) -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let site = Site { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let (asked, answer) = (Arc::clone(&site.asked), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, asked, answer) = (stream.unwrap(), Arc::clone(&asked), Arc::clone(&answer));
                thread::spawn(move || {
                    while let Some(request) = read(&mut stream) {
                        asked.lock().unwrap().push(request.clone());
                        answer(&request, &mut stream);
                    }
                });
            }
        });
        site
    }

    /// Starts one that answers every request with 200 and this.
    pub fn saying(text: &'static str) -> Site {
        Site::start(move |_, stream| say(stream, "200 OK", text))
    }

    /// Returns its URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the requests that came, in their order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// Writes an answer. Whoever asked may be gone.
pub fn say(stream: &mut TcpStream, status: &str, body: &str) {
    let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
}

/// Reads a request; nothing where there comes none.
fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        (stream.read(&mut byte).ok()? > 0).then(|| head.push(byte[0]))?;
    }
    let mut asked = Asked { head: String::from_utf8_lossy(&head).into_owned(), body: Vec::new() };
    asked.body.resize(asked.header("content-length").map_or(0, |length| length.parse().unwrap()), 0);
    stream.read_exact(&mut asked.body).ok()?;
    Some(asked)
}
