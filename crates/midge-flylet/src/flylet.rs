//! The running server: its start and its end.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use midge_listen::{ConnectionLimits, Connections};
use midge_machines::FlySettings;
use midge_protocol::{MachineId, Secret, limits};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::fleet::Fleet;
use crate::halt::halt_of;
use crate::settings::FlyletSettings;
use crate::{api, chance};

/// The most connections at once: somebody may wait for each of its Machines, and call for each.
const CONNECTIONS_MAX: usize = 2 * limits::MACHINES_MAX as usize;
/// How long killed Machines may take to be dead at a shutdown. A process that waits for a disk that is gone never is.
const DEATH_GRACE: Duration = Duration::from_secs(10);
/// How long requests that are being answered may take to end at a shutdown. Waits end at once.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// A DNS label's, since the names of apps become part of addresses.
const APP_BYTES_MAX: usize = 63;

/// Why a flylet did not start.
#[derive(Debug, thiserror::Error)]
pub enum FlyletError {
    /// The address is none of this computer alone: a flylet would start processes for the whole network.
    #[error("flylet listens on loopback only, not on {0}: use 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    /// The app's name is none that Fly would take: no call could name it.
    #[error("`{}` is not the name of an app: 1 to {APP_BYTES_MAX} of a-z, 0-9 and -", .0.escape_debug())]
    NoApp(String),
    /// A region is there twice, and could have the room of one only.
    #[error("region `{0}` is given twice")]
    RegionTwice(String),
    /// The port is in use, or not allowed.
    #[error("cannot listen on {address}: choose another port, or 0 for any")]
    Listen {
        /// The address it was to listen on.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Takes a quarter of what a server in the same process has, which is an eighth of the open files: its Machines have
/// files of this process too. There are no hosts here, for which to keep some.
fn connection_limits(of_a_server: &ConnectionLimits) -> ConnectionLimits {
    let limits = ConnectionLimits::of((of_a_server.connections / 4).clamp(4, CONNECTIONS_MAX));
    ConnectionLimits { callers: limits.connections - limits.strangers, ..limits }
}

fn check_names(settings: &FlyletSettings) -> Result<(), FlyletError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let app = &settings.app;
    if app.is_empty() || app.len() > APP_BYTES_MAX || !app.bytes().all(plain) {
        return Err(FlyletError::NoApp(app.clone()));
    }
    let mut names = BTreeSet::new();
    match settings.regions.iter().find(|region| !names.insert(&region.name)) {
        Some(twice) => Err(FlyletError::RegionTwice(twice.name.clone())),
        None => Ok(()),
    }
}

/// A running flylet. Dropping it kills its Machines; [`Flylet::shutdown`] also waits until they are dead.
#[derive(Debug)]
pub struct Flylet {
    address: SocketAddr,
    token: Secret,
    fleet: Arc<Fleet>,
    /// Dropped with the rest: every supervisor and every wait sees it close.
    halt: watch::Sender<bool>,
    /// Ends when the last supervisor has.
    supervised: mpsc::Receiver<()>,
    server: JoinHandle<()>,
}

impl Flylet {
    /// Starts a flylet in the current Tokio runtime.
    ///
    /// # Errors
    /// [`FlyletError`] where the address is no loopback address or cannot be listened on, the app has no name that an app
    /// may have, or a region is there twice.
    pub async fn start(settings: FlyletSettings) -> Result<Flylet, FlyletError> {
        if !settings.listen.ip().is_loopback() {
            return Err(FlyletError::NotLoopback(settings.listen));
        }
        check_names(&settings)?;
        let refused = |source| FlyletError::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;

        let token = settings.token.clone().unwrap_or_else(|| Secret::new(chance::hex::<32>()));
        let (halt, halted) = watch::channel(false);
        let (supervisor, supervised) = mpsc::channel(1);
        let fleet = Arc::new(Fleet::new(settings, address.ip(), token.clone(), halted.clone(), supervisor));
        let routes = api::routes(Arc::clone(&fleet));
        let connections = Connections::new(connection_limits(&ConnectionLimits::of_this_process()));
        let server = tokio::spawn(midge_listen::serve(listener, routes, connections, halt_of(halted)));
        tracing::info!(%address, "flylet listens");
        Ok(Flylet { address, token, fleet, halt, supervised, server })
    }

    /// Returns the base URL of its API, without a path, such as `http://127.0.0.1:4280`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the token that its API asks for: the one it was given, or the one it made up.
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// Returns what a [`FlyMachines`](midge_machines::FlyMachines) needs to reach it.
    pub fn client_settings(&self) -> FlySettings {
        FlySettings { base_url: self.url(), app: self.fleet.app().to_owned(), token: self.token.clone() }
    }

    /// Returns the last lines that the programs of a Machine wrote, oldest first; nothing where there is no such
    /// Machine.
    pub fn log(&self, id: &MachineId) -> Vec<String> {
        self.fleet.get(id).map(|machine| machine.log.lines()).unwrap_or_default()
    }

    /// Waits until a program of a Machine has written a line that holds the text, and returns all that [`log`](Self::log)
    /// does; nothing where there is no such Machine.
    pub async fn log_with(&self, id: &MachineId, text: &str) -> Vec<String> {
        match self.fleet.get(id) {
            Some(machine) => machine.log.with(text).await,
            None => Vec::new(),
        }
    }

    /// Kills every Machine, waits until they are dead, at most ten seconds, and stops listening.
    pub async fn shutdown(mut self) {
        self.halt.send_replace(true);
        self.fleet.close();
        // Nothing is ever sent: it ends when the last supervisor drops its end.
        let dead = async { while self.supervised.recv().await.is_some() {} };
        if tokio::time::timeout(DEATH_GRACE, dead).await.is_err() {
            tracing::error!("Machines were killed and are not dead: flylet ends without them");
        }
        if tokio::time::timeout(SHUTDOWN_GRACE, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}
