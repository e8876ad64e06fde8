//! A server in this process: the HTTP listener, the Machines API it uses, and an orderly end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::future::join_all;
use midge_flylet::{Flylet, FlyletSettings, Latency};
use midge_machines::{FlyMachines, FlySettings, Machines, SeenState};
use midge_protocol::{MachineId, Secret, limits};
use midge_server::{Access, Catalog, ConnectionLimits, Connections, Fork, Midge, Retention, Settings};
use midge_store::{SqliteStore, Store};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::output::note;
use crate::stop::StopSignal;
use crate::words;

/// How long hosts may take to finish or hand back what they run: their own grace, and a little for the way.
const HOSTS_GRACE: Duration = Duration::from_secs(12);
/// How long requests that are being answered may take to end.
const HTTP_GRACE: Duration = Duration::from_secs(2);
/// The app whose Machines a flylet in this process has.
const LOCAL_APP: &str = "midge";

/// Where Machines come from.
pub enum Backend {
    /// From a flylet in this process.
    Local {
        /// The program of its Machines.
        host_program: PathBuf,
        /// Variables that each Machine has, as one at Fly has its app's secrets. No server sees them.
        secrets: BTreeMap<String, OsString>,
        /// How long its Machines take to be made and started, beside what their processes do.
        latency: Latency,
    },
    /// From Fly, or from whatever speaks as Fly does.
    Fly {
        /// The API.
        api: FlySettings,
        /// How Machines are made.
        fork: Fork,
    },
}

/// What a server is started with.
pub struct Start {
    /// The modules that it runs, and the policies of its queues.
    pub catalog: Catalog,
    /// The store that holds its jobs.
    pub store: Arc<dyn Store>,
    /// The listener of its API and its dashboard.
    pub listener: TcpListener,
    /// The token that callers must know; without one, only callers on this computer are answered.
    pub token: Option<Secret>,
    /// How long jobs are kept that have ended.
    pub retention: Retention,
    /// Where its Machines come from.
    pub backend: Backend,
}

/// A server that runs in this process, until [`Serving::shutdown`].
pub struct Serving {
    /// The handle by which jobs are enqueued and looked at without HTTP.
    pub midge: Midge,
    /// The URL under which programs on this computer reach it.
    pub url: String,
    machines: Arc<dyn Machines>,
    flylet: Option<Flylet>,
    http: JoinHandle<()>,
    close: oneshot::Sender<()>,
}

impl Serving {
    /// Starts a server, and with [`Backend::Local`] a flylet for its Machines.
    pub async fn start(start: Start) -> Result<Serving> {
        raise_files_max();
        let address = start.listener.local_addr()?;
        let url = local_url(address);
        let (api, fork, flylet) = match start.backend {
            Backend::Fly { api, fork } => (api, fork, None),
            Backend::Local { host_program, secrets, latency } => {
                let settings = FlyletSettings { secrets, latency, ..FlyletSettings::new(LOCAL_APP) };
                let flylet = Flylet::start(settings).await?;
                let fork = Fork {
                    image: "local".to_owned(),
                    env: BTreeMap::new(),
                    size: None,
                    region: None,
                    host: vec![host_program.display().to_string()],
                    server_url: url.clone(),
                };
                (flylet.client_settings(), fork, Some(flylet))
            }
        };
        let machines: Arc<dyn Machines> = Arc::new(FlyMachines::new(api)?);
        let access = start.token.map_or(Access::Loopback, Access::Token);
        let settings = Settings { catalog: start.catalog, fork, access, retention: start.retention };
        let midge = Midge::start(start.store, machines.clone(), settings).await?;
        let (close, closed) = oneshot::channel();
        // That the sender is gone means the same.
        let closed = async { drop(closed.await) };
        let connections = Connections::new(ConnectionLimits::of_this_process());
        let http = tokio::spawn(midge_server::serve(start.listener, midge.router(), connections, closed));
        Ok(Serving { midge, url, machines, flylet, http, close })
    }

    /// Ends the server: no more Machines are started, hosts here finish or hand back what they run, and requests
    /// that are being answered end. Being asked again to stop cuts the waiting short.
    pub async fn shutdown(mut self, stop: &mut StopSignal) {
        self.midge.shutdown().await;
        if let Some(flylet) = self.flylet.take() {
            // Machines at Fly go on, and find the next server.
            stop.or(stop_machines(&self.midge, &*self.machines)).await;
            flylet.shutdown().await;
        }
        // An error says that the listener has ended by itself.
        let _ = self.close.send(());
        if tokio::time::timeout(HTTP_GRACE, &mut self.http).await.is_err() {
            self.http.abort();
        }
    }
}

/// Asks the hosts of all Machines to end, and waits until they have.
async fn stop_machines(midge: &Midge, machines: &dyn Machines) {
    let views = match midge.machines().await {
        Ok(views) => views.machines,
        Err(error) => return tracing::warn!(%error, "cannot list the Machines"),
    };
    let there = views.iter().filter(|view| !view.is_gone() && view.state != "ready");
    let ids: Vec<MachineId> = there.clone().filter_map(|view| view.id.clone()).collect();
    let running: u32 = there.map(|view| view.running).sum();
    if running > 0 {
        let jobs = words::count(running as usize, "job");
        note(format_args!("waiting up to 10 s for {jobs} to finish; Ctrl-C again to end now"));
    }
    join_all(ids.iter().map(|id| async move {
        if machines.stop(id).await.is_ok() {
            // One that does not end is killed with flylet.
            let _ = machines.wait(id, SeenState::Stopped, HOSTS_GRACE).await;
        }
    }))
    .await;
}

/// Listens on an address. The error says what to do where the port is in use.
pub async fn listen(address: SocketAddr) -> Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "port {} is in use: stop the program that listens there (another `midge serve` or `midge dev`?), \
             or choose another port with --listen {}",
            address.port(),
            SocketAddr::new(address.ip(), address.port().wrapping_add(1).max(1024)),
        ),
        Err(error) => Err(error).with_context(|| {
            format!(
                "cannot listen on {address}: choose another address with --listen, such as 127.0.0.1:7433"
            )
        }),
    }
}

/// Opens the SQLite database in this file, and makes it where there is none.
pub async fn open_database(path: &Path) -> Result<Arc<dyn Store>> {
    // Where a limit on the size of files (`ulimit -f`) is reached, a write fails as on a full disk: the signal that would
    // end the process is heard, and that is all. Hosts start with the system's default again.
    drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).context("cannot listen for signals")?);
    let path = path.to_owned();
    let open = tokio::task::spawn_blocking(move || SqliteStore::open(&path)).await;
    Ok(Arc::new(open.context("opening the database ended")??))
}

/// Returns the URL under which programs on this machine reach an address.
fn local_url(address: SocketAddr) -> String {
    let ip = match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => [127, 0, 0, 1].into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        other => other.ip(),
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

/// Fails where a server would be open to a network without a token: its address is not loopback, and there is none.
pub fn check_exposure(address: SocketAddr, token: Option<&Secret>) -> Result<()> {
    if address.ip().is_loopback() || token.is_some() {
        return Ok(());
    }
    bail!(
        "refusing to listen on {address} without a token, because everybody who reaches it could run jobs: \
         set MIDGE_TOKEN (`openssl rand -hex 32` makes one), or listen on 127.0.0.1"
    )
}

/// Fails where a command that knows no token would be open to a network.
pub fn check_loopback(address: SocketAddr) -> Result<()> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    bail!(
        "refusing to listen on {address}: this command asks nobody for a token, and everybody who reaches it could run jobs; \
         listen on loopback, such as 127.0.0.1:7433, or use `midge serve` with MIDGE_TOKEN"
    )
}

/// Raises how many files may be open: each parked host is a connection, and so is each caller that waits.
fn raise_files_max() {
    let limit = getrlimit(Resource::Nofile);
    // More than all Machines and callers that a server has a bound for.
    let wanted = u64::from(limits::SERVER_MACHINES_MAX) * 16;
    let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if limit.current.is_some_and(|now| now < current) {
        let raised = Rlimit { current: Some(current), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "cannot raise the number of open files");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_a_network_can_reach_needs_a_token() {
        let token = Secret::new("t");
        for loopback in ["127.0.0.1:1", "[::1]:1", "127.9.9.9:0"] {
            assert!(check_exposure(loopback.parse().unwrap(), None).is_ok(), "{loopback}");
        }
        for open in ["0.0.0.0:1", "[::]:1", "192.168.0.7:1"] {
            assert!(check_exposure(open.parse().unwrap(), Some(&token)).is_ok(), "{open}");
            let error = check_loopback(open.parse().unwrap()).unwrap_err();
            assert!(error.to_string().contains("`midge serve` with MIDGE_TOKEN"), "{error}");
            let error = check_exposure(open.parse().unwrap(), None).unwrap_err();
            assert!(error.to_string().contains("MIDGE_TOKEN"), "{error}");
        }
    }

    #[test]
    fn hosts_on_this_machine_reach_a_server_that_listens_on_all_addresses() {
        for (address, url) in [
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:80", "http://[::1]:80"),
            ("127.0.0.2:80", "http://127.0.0.2:80"),
        ] {
            assert_eq!(local_url(address.parse().unwrap()), url);
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = listen(address).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("port {} is in use", address.port())), "{error}");
        assert!(error.contains("--listen 127.0.0.1:"), "{error}");
    }
}
