//! Starts and ends a server, and mounts what it serves.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::Router;
use midge_machines::Machines;
use midge_protocol::limits;
use midge_store::{Store, StoreError};
use rand::Rng;
use tokio::sync::{Semaphore, watch};
use tower::util::MapResponseLayer;

use crate::catalog::{Catalog, Current};
use crate::clock::{Clock, SystemClock};
use crate::http::{self, Bodies};
use crate::live::Live;
use crate::midge::{Inner, Midge};
use crate::settings::{Access, Settings};
use crate::waiters::Hub;
use crate::{dispatcher, page};

/// A server that did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store does not work: it cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The token of [`Access::Token`] is empty, or cannot be sent in a header of HTTP, so that nobody could ever show it.
    #[error("the token is empty, or holds what no HTTP header can carry: use visible characters of ASCII")]
    Token,
    /// The system's clock is before 1970, where neither the date of an answer nor an id can be.
    #[error("the system's clock says a time before 1970: set it, and start again")]
    Clock,
}

impl Midge {
    /// Starts a server on a store and a Machines API. It dispatches until [`Midge::shutdown`].
    ///
    /// # Errors
    /// [`StartError::Store`] where the store cannot be read or written, [`StartError::Token`] where nobody could show the
    /// token, [`StartError::Clock`] where the system's clock is before 1970.
    ///
    /// # Examples
    /// With a store of its own in a file, and an orderly end: first HTTP stops, then the server, then the file is
    /// closed. A job that was enqueued is there for the next server on that file.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// use axum::Router;
    /// use midge_protocol::api::EnqueueRequest;
    /// use midge_server::{ConnectionLimits, Connections, Midge};
    /// use midge_store::SqliteStore;
    /// use tokio::net::TcpListener;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = std::env::temp_dir().join(format!("midge-server-start-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # write_modules(&folder)?;
    /// # let stop_asked = std::future::ready(()); // in an app: SIGTERM
    /// let path = folder.join("jobs.db"); // on a volume; its folder must be there
    /// let store = Arc::new(SqliteStore::open(&path)?);
    /// let midge = Midge::start(store, machines()?, settings(&folder)?).await?;
    ///
    /// let in_an_hour = EnqueueRequest::new("greet".parse()?).delay(Duration::from_secs(3600));
    /// let job = midge.enqueue(in_an_hour).await?.id; // in the file by now
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let app = Router::new().nest("/midge", midge.router());
    /// let connections = Connections::new(ConnectionLimits::of_this_process());
    /// midge_server::serve(listener, app, connections, stop_asked).await; // with bounds
    /// midge.shutdown().await;
    /// drop(midge); // the last handle: the file is closed
    ///
    /// let store = Arc::new(SqliteStore::open(&path)?);
    /// let midge = Midge::start(store, machines()?, settings(&folder)?).await?;
    /// assert_eq!(midge.job(job).await?.id, job);
    /// # midge.shutdown().await;
    /// # drop(midge);
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok(())
    /// # }
    /// #
    /// # /// A client whose Machines API nobody serves, so that this example calls nobody.
    /// # fn machines() -> Result<Arc<midge_machines::FlyMachines>, Box<dyn std::error::Error>> {
    /// #     let (base_url, app) = ("http://127.0.0.1:9".to_owned(), "my-app".to_owned());
    /// #     let token = midge_protocol::Secret::new("a token");
    /// #     Ok(Arc::new(midge_machines::FlyMachines::new(midge_machines::FlySettings { base_url, app, token })?))
    /// # }
    /// #
    /// # fn settings(modules: &std::path::Path) -> Result<midge_server::Settings, Box<dyn std::error::Error>> {
    /// #     Ok(midge_server::Settings {
    /// #         catalog: midge_server::Catalog::open(modules)?,
    /// #         fork: midge_server::Fork {
    /// #             image: "local".to_owned(),
    /// #             env: Default::default(),
    /// #             size: None,
    /// #             region: None,
    /// #             host: vec!["midge-host".to_owned()],
    /// #             server_url: "http://127.0.0.1:8080/midge".to_owned(),
    /// #         },
    /// #         access: midge_server::Access::Loopback,
    /// #         retention: midge_server::Retention::default(),
    /// #     })
    /// # }
    /// #
    /// # /// Writes what `midge build` would have written: a manifest with one module.
    /// # fn write_modules(folder: &std::path::Path) -> std::io::Result<()> {
    /// #     std::fs::create_dir_all(folder)?;
    /// #     std::fs::write(folder.join("greet.cwasm"), "")?;
    /// #     std::fs::write(folder.join("manifest.json"), r#"{
    /// #         "format": 3, "wasmtime": "48", "config_hash": "", "cpu": "x86-64-v2",
    /// #         "modules": { "greet": {
    /// #             "file": "greet.cwasm", "size": 0, "xxh3": "", "source_sha256": "", "queue": "default",
    /// #             "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    /// #             "limits": { "time_ms": 1000, "memory_bytes": 1048576 },
    /// #             "retry": { "max_attempts": 1, "backoff": "sidekiq" }
    /// #         } }
    /// #     }"#)
    /// # }
    /// ```
    pub async fn start(
        store: Arc<dyn Store>,
        machines: Arc<dyn Machines>,
        settings: Settings,
    ) -> Result<Midge, StartError> {
        if let Access::Token(token) = &settings.access
            && !token.is_token()
        {
            return Err(StartError::Token);
        }
        check_clock(SystemTime::now())?;
        let clock = Arc::new(SystemClock::new());
        let up_since = clock.now();
        let new_id = format!("{:016x}", rand::rng().next_u64());
        let owner = dispatcher::take_over(&*store, up_since, new_id).await?;
        let live = midge_store::read(&*store, Live::read).await?;
        let inner = Arc::new(Inner {
            store,
            machines,
            clock,
            catalog: Current::new(Catalog { live, ..settings.catalog }),
            fork: settings.fork,
            access: settings.access,
            retention: settings.retention,
            bodies: Bodies::default(),
            followers: Arc::new(Semaphore::new(limits::FOLLOWERS_MAX)),
            owner,
            up_since,
            waiters: Hub::default(),
            stopping: watch::Sender::new(false),
            dispatcher: Mutex::default(),
        });
        let dispatcher = tokio::spawn(dispatcher::run(inner.clone()));
        *inner.dispatcher.lock().expect("nobody panics with the handle in hand") = Some(dispatcher);
        let midge = Midge { inner };
        midge.warn_of_undeclared_queues().await;
        midge.warn_of_unusable_settings();
        Ok(midge)
    }

    /// Returns the HTTP API and the dashboard, to serve at the root or to nest under a path.
    pub fn router(&self) -> Router {
        let api = http::api(self.clone());
        let pages = page::routes(api.clone());
        let on_all = (MapResponseLayer::new(http::with_headers), http::Before(http::check_once));
        pages.merge(api).fallback(page::nothing_here).layer(on_all)
    }

    /// Serves other modules from now on: Machines of the generation before get no more jobs, and go.
    pub async fn deploy(&self, catalog: Catalog) {
        self.inner.catalog.set(catalog);
        self.inner.waiters.dispatcher.notify_one();
        self.warn_of_undeclared_queues().await;
        self.warn_of_unusable_settings();
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

/// Refuses a clock with which each connection would end in a panic: HTTP writes no date before 1970.
fn check_clock(now: SystemTime) -> Result<(), StartError> {
    if now < SystemTime::UNIX_EPOCH { Err(StartError::Clock) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_server_does_not_start_with_a_clock_before_1970() {
        let second = Duration::from_secs(1);
        let error = check_clock(SystemTime::UNIX_EPOCH - second).unwrap_err().to_string();
        assert_eq!(error, "the system's clock says a time before 1970: set it, and start again");
        assert!(check_clock(SystemTime::UNIX_EPOCH).is_ok());
    }
}
