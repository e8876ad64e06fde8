//! The server that the demo's jobs make requests to: it takes events from who knows its key, and has a file and a page.

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The variable of Machines that holds the key, as `guest-examples/midge.toml` names it.
pub(super) const KEY_VARIABLE: &str = "WEBHOOK_KEY";
/// The key. No job sees it, and everybody may know it: the server is the demo's own.
pub(super) const KEY: &str = "the-demo-s-own-key";
/// The size of the file, in bytes.
pub(super) const FILE_BYTES: usize = 5_000_000;
/// What the page says.
pub(super) const PAGE: &str = "a page of the demo's own server";
/// The largest event.
const EVENT_BYTES_MAX: u64 = 64 * 1024;
/// The longest line of a head.
const LINE_BYTES_MAX: u64 = 8 * 1024;

/// Starts the server on any port of 127.0.0.1, and returns its URL. It ends with the process.
pub(super) async fn start() -> Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("cannot listen on 127.0.0.1")?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever goes away in the middle is no matter.
            tokio::spawn(async move { drop(serve(stream).await) });
        }
    });
    Ok(url)
}

/// Answers what comes on a connection, one request after the other.
async fn serve(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let asked = line(&mut stream).await?;
        let (mut length, mut has_key) = (0, false);
        loop {
            let header = line(&mut stream).await?;
            let Some((name, value)) = header.split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(u64::MAX),
                "x-webhook-key" => has_key = value.trim() == KEY,
                _ => {}
            }
        }
        if length > EVENT_BYTES_MAX {
            return Ok(());
        }
        let mut event = vec![0; length as usize];
        stream.read_exact(&mut event).await?;
        let (status, body) = match asked.split(' ').nth(1) {
            Some("/hook") if has_key => ("200 OK", b"taken".to_vec()),
            Some("/hook") => ("403 Forbidden", b"who are you?".to_vec()),
            Some("/file") => ("200 OK", vec![b'm'; FILE_BYTES]),
            Some("/page") => ("200 OK", PAGE.as_bytes().to_vec()),
            _ => ("404 Not Found", Vec::new()),
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.get_mut().write_all(&[head.as_bytes(), &body].concat()).await?;
    }
}

/// Reads a line without its end; an error where there comes none any more.
async fn line(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = String::new();
    let mut limited = (&mut *stream).take(LINE_BYTES_MAX);
    match limited.read_line(&mut line).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}
