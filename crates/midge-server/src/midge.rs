//! The handle of a running server.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use midge_machines::Machines;
use midge_protocol::{QueueName, Timestamp};
use midge_store::{Store, StoreError};
use rand::Rng;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::catalog::{Catalog, Current};
use crate::clock::{Clock, SystemClock};
use crate::hints::Hints;
use crate::http::Access;
use crate::{dispatcher, exchange, http, page, round};

/// How a server is to be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The modules that jobs may name.
    pub catalog: Catalog,
    /// How Machines are made.
    pub fork: Fork,
    /// Who may use the API.
    pub access: Access,
    /// How long ended jobs are kept.
    pub retention: Retention,
}

/// How Machines are made from the app's own image. Nothing of the server's own environment goes into them.
#[derive(Debug, Clone)]
pub struct Fork {
    /// The image, as a full reference; flylet takes any word.
    pub image: String,
    /// Where, in Fly's words; near the Machines API where it is missing.
    pub region: Option<String>,
    /// The host's program in the image, and what comes before `work`.
    pub host: Vec<String>,
    /// Where hosts reach this server, with the path under which its router is mounted.
    pub server_url: String,
}

/// How long ended jobs are kept before they are deleted with all that belongs to them.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Completed and cancelled jobs.
    pub ended: Duration,
    /// Discarded jobs: the dead set.
    pub discarded: Duration,
}

impl Default for Retention {
    fn default() -> Retention {
        // As River has them.
        Retention { ended: Duration::from_secs(24 * 3600), discarded: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// A server that did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A running server: enqueues, exchanges, dispatches. Cloning it is cheap and gives another handle to the same.
#[derive(Clone)]
pub struct Midge {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) machines: Arc<dyn Machines>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) catalog: Current,
    pub(crate) fork: Fork,
    pub(crate) access: Access,
    pub(crate) retention: Retention,
    pub(crate) owner: String,
    pub(crate) up_since: Timestamp,
    pub(crate) hints: Hints,
    /// About how many jobs wait in each queue: near a queue's limit, the store is asked.
    pub(crate) waiting: Mutex<HashMap<QueueName, u64>>,
    pub(crate) stopping: watch::Sender<bool>,
    dispatcher: Mutex<Option<JoinHandle<()>>>,
}

impl Midge {
    /// Starts a server on a store and a Machines API. It dispatches until [`Midge::shutdown`].
    pub async fn start(
        store: Arc<dyn Store>,
        machines: Arc<dyn Machines>,
        settings: Settings,
    ) -> Result<Midge, StartError> {
        let clock = Arc::new(SystemClock::new());
        let up_since = clock.now();
        let new_id = format!("{:016x}", rand::rng().next_u64());
        let owner = round::take_over(&*store, up_since, new_id).await?;
        let inner = Arc::new(Inner {
            store,
            machines,
            clock,
            catalog: Current::new(settings.catalog),
            fork: settings.fork,
            access: settings.access,
            retention: settings.retention,
            owner,
            up_since,
            hints: Hints::default(),
            waiting: Mutex::default(),
            stopping: watch::Sender::new(false),
            dispatcher: Mutex::default(),
        });
        let dispatcher = tokio::spawn(dispatcher::run(inner.clone()));
        *inner.dispatcher.lock().expect("nobody panics with the handle in hand") = Some(dispatcher);
        Ok(Midge { inner })
    }

    /// Returns the HTTP API and the dashboard, to serve at the root or to nest under a path.
    pub fn router(&self) -> Router {
        let api = http::api(self.inner.clone());
        page::routes(api.clone()).merge(api)
    }

    /// Serves other modules from now on: Machines of the generation before get no more jobs, and go.
    pub async fn deploy(&self, catalog: Catalog) {
        self.inner.catalog.set(catalog);
        self.inner.hints.dispatcher.notify_one();
    }

    /// Ends the dispatcher and answers all who wait. Machines go on with what they run, and find the next server.
    pub async fn shutdown(&self) {
        self.inner.stopping.send_replace(true);
        let dispatcher = self.inner.dispatcher.lock().expect("nobody panics with the handle in hand").take();
        if let Some(dispatcher) = dispatcher {
            // A dispatcher that panicked has said so already.
            let _ = dispatcher.await;
        }
    }
}

impl Inner {
    pub(crate) fn exchange_context(&self) -> exchange::Context {
        let catalog = self.catalog.get();
        exchange::Context {
            generation: catalog.generation.clone(),
            policies: catalog.manifest.queues.clone().into_iter().collect::<BTreeMap<_, _>>(),
            jitter: rand::random(),
        }
    }

    pub(crate) fn round_context(&self) -> round::Context {
        round::Context {
            catalog: self.catalog.get(),
            fork: self.fork.clone(),
            owner: self.owner.clone(),
            up_since: self.up_since,
            seed: rand::random(),
        }
    }
}
