//! TLS: who a server is, and HTTP/2 where it has that.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use midge_protocol::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX};
use midge_protocol::line::{Kind, Why};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

use crate::support::{
    Given, Net, Seen, Server, get, is_failed, ok, post, serve_each, wait_until, with_headers,
};

/// An authority of the tests' own, in a file as `SSL_CERT_FILE` names it.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two authorities of one name would be told apart by their keys only.
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("authority {}", COUNT.fetch_add(1, Ordering::SeqCst));
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let base64 = base64::engine::general_purpose::STANDARD.encode(issuer.der());
        let pem = format!("# ours\n-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
        std::fs::write(folder.path().join("ca.pem"), pem).unwrap();
        Authority { issuer, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Returns what a server of a name is set up with.
    fn server(&self, name: &str, protocols: &[&str]) -> Arc<rustls::ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        config(certificate.der().clone(), &key, protocols)
    }
}

fn config(
    certificate: CertificateDer<'static>,
    key: &KeyPair,
    protocols: &[&str],
) -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A server that speaks HTTP/1.1 by TLS.
fn speaking_tls(config: Arc<rustls::ServerConfig>) -> Server {
    Server::each(move |connection| {
        let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        serve_each(rustls::StreamOwned::new(session, connection), Seen::echo);
    })
}

/// A server that speaks HTTP/2 by TLS, and answers with what a function says.
fn speaking_h2<F, A>(config: Arc<rustls::ServerConfig>, answer: F) -> Server
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    Server::each(move |connection| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (config, answer) = (Arc::clone(&config), answer.clone());
        runtime.block_on(async move {
            connection.set_nonblocking(true).unwrap();
            let connection = tokio::net::TcpStream::from_std(connection).unwrap();
            let Ok(stream) = tokio_rustls::TlsAcceptor::from(config).accept(connection).await else { return };
            let service = hyper::service::service_fn(move |request| {
                let answered = answer(request);
                async move { Ok::<_, std::convert::Infallible>(answered.await) }
            });
            let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            let _ = served.await;
        });
    })
}

fn net(authority: &Authority, server: &Server) -> Net {
    let http = Given::http(&[&url(server, "")]);
    Given { certificates: Some(authority.file()), ..http }.start()
}

fn url(server: &Server, path: &str) -> String {
    format!("https://api.test:{}{path}", server.port)
}

#[test]
fn a_server_that_its_authority_vouches_for_is_believed() {
    let authority = Authority::new();
    let server = speaking_tls(authority.server("api.test", &["http/1.1"]));
    let net = net(&authority, &server);
    let mut line = net.line();
    for _ in 0..3 {
        let answer = line.ask(&post(&url(&server, "/a"), Some(3)), b"abc").unwrap();
        assert!(
            answer.text().starts_with("POST /a HTTP/1.1\n") && answer.text().ends_with("abc"),
            "{answer:?}"
        );
    }
    assert_eq!(server.connections(), 1);
    let without_alpn = speaking_tls(authority.server("api.test", &[]));
    let net = self::net(&authority, &without_alpn);
    assert_eq!(net.get(&url(&without_alpn, "/")).unwrap().head.status, 200);
}

#[test]
fn a_server_that_nobody_vouches_for_is_not_believed() {
    let authority = Authority::new();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["api.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    for (config, says) in [
        (config(own.der().clone(), &key, &[]), "UnknownIssuer"),
        (Authority::new().server("api.test", &[]), "UnknownIssuer"),
        (authority.server("other.test", &[]), "NotValidForName"),
    ] {
        let server = speaking_tls(config);
        let failed = net(&authority, &server).refuses(&get(&url(&server, "/")));
        is_failed(&failed, Why::Tls, says);
        is_failed(&failed, Why::Tls, &format!("api.test:{} does not prove who it is", server.port));
        is_failed(&failed, Why::Tls, "set SSL_CERT_FILE");
    }
    // Without the file nobody knows the authority.
    let server = speaking_tls(authority.server("api.test", &[]));
    let net = Given::http(&[&url(&server, "")]).start();
    is_failed(&net.refuses(&get(&url(&server, "/"))), Why::Tls, "UnknownIssuer");
}

#[test]
fn what_is_no_tls_is_told_as_such() {
    let authority = Authority::new();
    let plain = Server::each(|mut connection| {
        let _ = connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = std::io::Read::read(&mut connection, &mut [0; 1024]);
    });
    is_failed(
        &net(&authority, &plain).refuses(&get(&url(&plain, "/"))),
        Why::Tls,
        "speaks no TLS: is it meant to be `http://`?",
    );
    let ending = Server::each(|mut connection| {
        let _ = std::io::Read::read(&mut connection, &mut [0; 4096]);
    });
    is_failed(
        &net(&authority, &ending).refuses(&get(&url(&ending, "/"))),
        Why::Reset,
        "before there was TLS",
    );
}

#[test]
fn a_file_of_certificates_that_is_none_is_told_by_its_name() {
    let server = Server::answering(|_| ok("plain"));
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.pem");
    std::fs::write(&text, "no certificate").unwrap();
    let broken = folder.path().join("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\n****\n-----END CERTIFICATE-----\n").unwrap();
    for file in [text, broken, folder.path().join("none.pem")] {
        let given = Given::http(&[&server.origin(), &url(&server, "")]);
        let net = Given { certificates: Some(file.clone()), ..given }.start();
        assert_eq!(net.get(&server.url("/")).unwrap().text(), "plain", "who asks without TLS needs none");
        let failed = net.refuses(&get(&url(&server, "/")));
        is_failed(&failed, Why::Tls, &format!("SSL_CERT_FILE is `{}`", file.display()));
    }
}

#[test]
fn http_2_is_spoken_where_a_server_has_it() {
    let authority = Authority::new();
    let server = speaking_h2(authority.server("api.test", &["h2", "http/1.1"]), |request| async move {
        assert_eq!(request.version(), Version::HTTP_2);
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = format!(
            "{} {} {:?} {:?} {}",
            head.method,
            head.uri,
            head.headers.get("content-length"),
            head.headers.get("x"),
            body.len()
        );
        Response::builder().header("x-two", "2").body(Full::new(text.into())).unwrap()
    });
    let net = net(&authority, &server);
    let answer = net.get(&url(&server, "/a?b")).unwrap();
    assert_eq!(answer.text(), format!("GET https://api.test:{}/a?b None None 0", server.port));
    assert_eq!(answer.header("x-two"), Some(&b"2"[..]));
    let request = with_headers(post(&url(&server, "/"), Some(3)), &[("x", "y")]);
    assert!(net.line().ask(&request, b"abc").unwrap().text().ends_with("Some(\"3\") Some(\"y\") 3"));
    let large = vec![0; 1 << 20];
    assert!(
        net.line()
            .ask(&post(&url(&server, "/"), None), &large)
            .unwrap()
            .text()
            .ends_with("None None 1048576")
    );
    assert_eq!(server.connections(), 1, "all on one connection");
}

#[test]
fn requests_on_one_connection_of_http_2_do_not_wait_for_each_other() {
    let authority = Authority::new();
    let server = speaking_h2(authority.server("api.test", &["h2"]), |request| async move {
        if request.uri().path() == "/never" {
            std::future::pending::<()>().await;
        }
        if request.uri().path() == "/large" {
            return Response::new(Full::new(vec![0; 8 << 20].into()));
        }
        Response::new(Full::new("here".into()))
    });
    let net = net(&authority, &server);
    assert_eq!(net.get(&url(&server, "/")).unwrap().text(), "here");
    // Some are never answered, and the answers of others are not read.
    let waiting: Vec<_> = (0..8)
        .map(|number| {
            let mut line = net.line();
            line.begin(&get(&url(&server, if number % 2 == 0 { "/never" } else { "/large" })));
            line.send(Kind::End, b"");
            line
        })
        .collect();
    for _ in 0..10 {
        assert_eq!(net.get(&url(&server, "/")).unwrap().text(), "here");
    }
    assert_eq!(server.connections(), 1);
    drop(waiting);
    assert_eq!(net.get(&url(&server, "/large")).unwrap().body.len(), 8 << 20);
    assert_eq!(server.connections(), 1, "what was given up ended none but itself");
    // More side by side than one connection takes.
    let mut many: Vec<_> = (0..40)
        .map(|_| {
            let mut line = net.line();
            line.begin(&get(&url(&server, "/never")));
            line.send(Kind::End, b"");
            line
        })
        .collect();
    assert_eq!(net.get(&url(&server, "/")).unwrap().text(), "here");
    wait_until("others have connections of their own", || server.connections() >= 3);
    many.clear();
}

#[test]
fn heads_of_http_2_have_the_same_bounds() {
    let authority = Authority::new();
    let server = speaking_h2(authority.server("api.test", &["h2"]), |request| async move {
        let mut response = Response::builder();
        let path = request.uri().path().to_owned();
        let (count, length) = match path.as_str() {
            "/many" => (HTTP_HEADERS_MAX + 1, 1),
            "/large" => (4, HTTP_HEAD_BYTES_MAX),
            "/larger" => (1, HTTP_HEAD_BYTES_MAX + 1),
            "/just" => (80, 800),
            "/most" => (HTTP_HEADERS_MAX - 2, 500),
            _ => (1, 1),
        };
        for number in 0..count {
            response = response.header(format!("x-{number}"), "y".repeat(length));
        }
        response.body(Full::new(path.into())).unwrap()
    });
    let net = net(&authority, &server);
    is_failed(&net.refuses(&get(&url(&server, "/many"))), Why::TooLarge, "100 are the most");
    for path in ["/large", "/larger"] {
        is_failed(&net.refuses(&get(&url(&server, path))), Why::TooLarge, "");
    }
    assert_eq!(net.get(&url(&server, "/most")).unwrap().text(), "/most");
    assert_eq!(net.get(&url(&server, "/just")).unwrap().text(), "/just");
    assert_eq!(net.get(&url(&server, "/")).unwrap().text(), "/", "the connection goes on, or another does");
}

#[test]
fn a_body_that_is_given_up_is_no_whole_one_by_http_2() {
    let (tell, told) = std::sync::mpsc::channel();
    let authority = Authority::new();
    let server = speaking_h2(authority.server("api.test", &["h2"]), move |request| {
        let tell = tell.clone();
        async move {
            tell.send("begins").unwrap();
            let whole = request.into_body().collect().await.is_ok();
            tell.send(if whole { "is whole" } else { "is given up" }).unwrap();
            Response::new(Full::new("read".into()))
        }
    });
    let hears = || told.recv_timeout(crate::support::PATIENCE).unwrap();
    let net = net(&authority, &server);
    let mut line = net.line();
    line.begin(&post(&url(&server, "/"), None));
    line.send(Kind::Body, b"a piece");
    assert_eq!(hears(), "begins");
    drop(line);
    assert_eq!(hears(), "is given up", "its end must not look like that of a whole one");
    let mut line = net.line();
    line.begin(&post(&url(&server, "/"), Some(100_000)));
    line.send(Kind::Body, b"less");
    assert_eq!(hears(), "begins");
    line.send(Kind::End, b"");
    is_failed(&line.answer().unwrap_err(), Why::Invalid, "fewer bytes");
    assert_eq!(hears(), "is given up");
    assert_eq!(server.connections(), 1);
}
