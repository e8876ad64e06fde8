//! A process that has no descriptor left. Alone in its file: the limit is the whole process's.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use midge_listen::{ConnectionLimits, Connections, serve};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const DEADLINE: Duration = Duration::from_secs(60);
const OPEN_FILES: u64 = 96;

#[tokio::test]
async fn where_the_process_has_no_descriptor_left_the_oldest_stranger_gives_way() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(OPEN_FILES), ..limit }).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // As many as the process could never have.
    let connections = Connections::new(ConnectionLimits::of(4_000));
    let app = Router::new().route("/", get(|| async { "ok" }));
    let server = tokio::spawn(serve(listener, app, connections.clone(), std::future::pending()));
    // The clients' ends are descriptors of this process too: the last one takes the last.
    let mut clients = Vec::new();
    let error = loop {
        match TcpStream::connect(address).await {
            Ok(client) => clients.push(client),
            Err(error) => break error,
        }
    };
    assert_eq!(error.raw_os_error(), Some(24), "there are no more descriptors: {error}");
    let mut last = clients.pop().unwrap();
    last.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(DEADLINE, last.read_to_string(&mut answer)).await;
    read.expect("it is answered").unwrap();
    assert!(answer.ends_with("ok"), "{answer}");
    let counts = connections.counts();
    assert!(counts.gave_way >= 1 && counts.refused == 0, "{counts:?}");
    assert!(!server.is_finished());
}
