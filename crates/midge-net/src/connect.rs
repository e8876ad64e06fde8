//! From an origin to a connection: its name is looked up once, each address is judged, and only those that were judged are
//! connected to.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use midge_core::{NotAllowed, Permit};
use midge_protocol::line::{Failed, Why};
use midge_protocol::manifest::Scheme;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::asked::Origin;
use crate::failure::{failed, no_answer, no_such_host, no_tls, not_allowed, not_connected};
use crate::link::Link;
use crate::modules::Module;
use crate::waits::{Step, Waits};
use crate::world::World;

/// Addresses of a name that are tried. Who has more shares his load among them.
const ADDRESSES_MAX: usize = 16;
/// How long an address may be silent before the next is tried beside it (RFC 8305).
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// Connects to an origin, as far as a permit goes.
pub(crate) async fn connect(
    module: &Module,
    world: &World,
    origin: &Origin,
    permit: Permit,
    waits: &Waits,
) -> Result<Link, Failed> {
    waits.now(Step::Address);
    let addresses = match &origin.host {
        url::Host::Ipv4(address) => vec![IpAddr::from(*address)],
        url::Host::Ipv6(address) => vec![IpAddr::from(*address)],
        url::Host::Domain(name) => look_up(module, world, name).await?,
    };
    let judged: Vec<IpAddr> = addresses
        .iter()
        .copied()
        .filter(|address| permit.may_connect(*address))
        .take(ADDRESSES_MAX)
        .collect();
    if let (Some(address), true) = (addresses.first(), judged.is_empty()) {
        return Err(not_allowed(&NotAllowed::not_public(&module.name, origin.target("/"), *address)));
    }
    let place = origin.place();
    waits.now(Step::Connection);
    let to = |address: &IpAddr| TcpStream::connect(SocketAddr::new(*address, origin.port));
    let stream = first(judged.iter().map(to)).await.map_err(|error| not_connected(&place, &error))?;
    // Heads and bodies are written as wholes. Where it cannot be set, it is only slower.
    let _ = stream.set_nodelay(true);
    let no_link = |error| no_answer(&place, &error);
    if origin.scheme == Scheme::Http {
        return Link::alone(stream).await.map_err(no_link);
    }
    let name = server_name(&origin.host)?;
    waits.now(Step::Tls);
    let connector = TlsConnector::from(module.tls.config()?);
    let stream = connector.connect(name, stream).await.map_err(|error| no_tls(&place, &error))?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        Link::shared(stream).await.map_err(no_link)
    } else {
        Link::alone(stream).await.map_err(no_link)
    }
}

/// Looks a name up on a thread that may block. What is given up goes on there, and counts until it has ended.
async fn look_up(module: &Module, world: &World, name: &str) -> Result<Vec<IpAddr>, Failed> {
    let place = Arc::clone(&module.lookups).acquire_owned().await.expect("nobody closes it");
    let (lookup, of) = (Arc::clone(&world.lookup), name.to_owned());
    let looked_up = tokio::task::spawn_blocking(move || {
        let found = lookup(&of);
        drop(place);
        found
    });
    let found = looked_up.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    let addresses = found.map_err(|error| no_such_host(name, &error))?;
    if addresses.is_empty() {
        return Err(no_such_host(name, &io::Error::other("it has no address")));
    }
    Ok(addresses)
}

/// Returns what the first of several attempts to connect comes to, each begun when the one before has failed or has taken
/// a while; the first error where all fail.
async fn first<T, F>(attempts: impl Iterator<Item = F>) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut attempts = attempts.fuse();
    let mut running = FuturesUnordered::new();
    let mut error = None;
    loop {
        running.extend(attempts.next());
        if running.is_empty() {
            return Err(error.unwrap_or_else(|| io::Error::other("there is no address")));
        }
        // Until the next is to be begun; at the end, until all have come to something.
        let ended = match tokio::time::timeout(NEXT_AFTER, running.next()).await {
            Ok(Some(ended)) => ended,
            Ok(None) | Err(_) => continue,
        };
        match ended {
            Ok(connected) => return Ok(connected),
            Err(failed) => {
                error.get_or_insert(failed);
            }
        }
    }
}

fn server_name(host: &url::Host) -> Result<ServerName<'static>, Failed> {
    match host {
        url::Host::Domain(name) => ServerName::try_from(name.clone())
            .map_err(|_| failed(Why::Tls, format!("no certificate can be for the name `{name}`"))),
        url::Host::Ipv4(address) => Ok(ServerName::IpAddress(IpAddr::from(*address).into())),
        url::Host::Ipv6(address) => Ok(ServerName::IpAddress(IpAddr::from(*address).into())),
    }
}
