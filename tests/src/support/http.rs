//! HTTP as no client would send it, and servers that are none of ours.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;

use super::wait::DEADLINE;

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The lines before the body.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.head, self.text()))
    }
}

/// Sends a request, header by header, to a URL such as `http://127.0.0.1:80/path`. A `Host` is sent if it is given.
pub fn http(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let rest = url.strip_prefix("http://").expect("an http URL");
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut head = format!("{method} /{path} HTTP/1.1\r\nConnection: close\r\n");
    if method == "POST" {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    // A server may answer, and close, before it has read all.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap_or(answer.len());
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let body = answer.get(end + 4..).unwrap_or_default().to_vec();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("{method} {url} was not answered: {head:?}"));
    Reply { status, head, body }
}

/// A server that gives every request the same answer.
pub struct StubServer {
    /// Its URL, without a path.
    pub url: String,
}

impl StubServer {
    /// Answers everything with a status and a body, until the test binary ends.
    pub fn answering(status: u16, body: &'static str) -> StubServer {
        StubServer::answering_with(status, "", body)
    }

    /// Answers everything with a status, further lines of the head and a body, until the test binary ends.
    pub fn answering_with(status: u16, lines: &'static str, body: &'static str) -> StubServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                // One read: what hosts and clients send first is small.
                let _ = stream.read(&mut [0; 64 * 1024]);
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status} X\r\n{lines}Content-Length: {length}\r\nConnection: close");
                let _ = stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes());
            }
        });
        StubServer { url }
    }
}
