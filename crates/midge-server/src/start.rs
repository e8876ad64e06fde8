//! Starts and ends a server, and mounts what it serves.

use std::sync::{Arc, Mutex};

use axum::Router;
use midge_machines::Machines;
use midge_store::{Store, StoreError};
use rand::Rng;
use tokio::sync::watch;

use crate::catalog::{Catalog, Current};
use crate::clock::{Clock, SystemClock};
use crate::midge::{Inner, Midge};
use crate::settings::Settings;
use crate::waiters::Hub;
use crate::{dispatcher, http, page};

/// A server that did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store does not work: it cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Midge {
    /// Starts a server on a store and a Machines API. It dispatches until [`Midge::shutdown`].
    ///
    /// # Errors
    /// [`StartError::Store`] where the store cannot be read or written.
    pub async fn start(
        store: Arc<dyn Store>,
        machines: Arc<dyn Machines>,
        settings: Settings,
    ) -> Result<Midge, StartError> {
        let clock = Arc::new(SystemClock::new());
        let up_since = clock.now();
        let new_id = format!("{:016x}", rand::rng().next_u64());
        let owner = dispatcher::take_over(&*store, up_since, new_id).await?;
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
            waiters: Hub::default(),
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
        let api = http::api(self.clone());
        page::routes(api.clone()).merge(api)
    }

    /// Serves other modules from now on: Machines of the generation before get no more jobs, and go.
    pub async fn deploy(&self, catalog: Catalog) {
        self.inner.catalog.set(catalog);
        self.inner.waiters.dispatcher.notify_one();
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
