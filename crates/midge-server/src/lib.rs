//! The server: exchange, dispatcher, HTTP API and dashboard, as a library to embed.
//!
//! An app embeds a server in three steps and mounts it in a fourth: a store, the Machines, [`Midge::start`], and
//! [`Midge::router`], which has the HTTP API and the dashboard.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use axum::Router;
//! use midge_machines::{FlyMachines, FlySettings};
//! use midge_protocol::Secret;
//! use midge_protocol::api::EnqueueRequest;
//! use midge_protocol::job::State;
//! use midge_server::{Access, Catalog, Fork, Midge, Retention, Settings};
//! use midge_store::MemoryStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let modules = std::env::temp_dir().join(format!("midge-server-embed-{}", std::process::id()));
//! # write_modules(&modules)?;
//! # let fly_token = "as Fly gave it";
//! let store = Arc::new(MemoryStore::new()); // forgets all with the process: see `Midge::start` for a durable one
//! let machines = FlyMachines::new(FlySettings {
//!     base_url: FlySettings::BASE_URL_DEFAULT.to_owned(),
//!     app: "my-app".to_owned(),
//!     token: Secret::new(fly_token), // stays here: no Machine is given it
//! })?;
//! # // Nobody listens there, so that this example calls nobody.
//! # let base_url = "http://127.0.0.1:9".to_owned();
//! # let settings = FlySettings { base_url, app: "my-app".to_owned(), token: Secret::new(fly_token) };
//! # let machines = FlyMachines::new(settings)?;
//! let settings = Settings {
//!     catalog: Catalog::open(&modules)?, // the folder that `midge build` wrote
//!     fork: Fork {
//!         image: "registry.fly.io/my-app:deployment-1".to_owned(),
//!         env: std::collections::BTreeMap::new(),
//!         size: None,
//!         region: None,
//!         host: vec!["/usr/local/bin/midge-host".to_owned()],
//!         server_url: "http://my-app.internal:8080/midge".to_owned(), // with the path of `nest` below
//!     },
//!     access: Access::Token(Secret::new("what people and programs must send")),
//!     retention: Retention::default(),
//! };
//! let midge = Midge::start(store, Arc::new(machines), settings).await?;
//!
//! let app: Router = Router::new().nest("/midge", midge.router()); // beside the app's own routes
//!
//! // The app itself needs no HTTP to enqueue.
//! let greet = EnqueueRequest::new("greet".parse()?).args("you")?.delay(Duration::from_secs(60));
//! let job = midge.enqueue(greet).await?.id;
//! assert_eq!(midge.job(job).await?.state, State::Scheduled);
//! # use axum::body::Body;
//! # use axum::http::{Request, StatusCode};
//! # use tower::ServiceExt;
//! # let get = Request::get(format!("/midge/v1/jobs/{job}"));
//! # let get = get.header("authorization", "Bearer what people and programs must send").body(Body::empty())?;
//! # assert_eq!(app.oneshot(get).await?.status(), StatusCode::OK);
//! # midge.shutdown().await;
//! # std::fs::remove_dir_all(&modules)?;
//! # Ok(())
//! # }
//! #
//! # /// Writes what `midge build` would have written: a manifest with one module.
//! # fn write_modules(folder: &std::path::Path) -> std::io::Result<()> {
//! #     std::fs::create_dir_all(folder)?;
//! #     std::fs::write(folder.join("greet.cwasm"), "")?;
//! #     std::fs::write(folder.join("manifest.json"), r#"{
//! #         "format": 3, "wasmtime": "48", "config_hash": "", "cpu": "x86-64-v2",
//! #         "modules": { "greet": {
//! #             "file": "greet.cwasm", "size": 0, "xxh3": "", "source_sha256": "", "queue": "default",
//! #             "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
//! #             "limits": { "time_ms": 1000, "memory_bytes": 1048576 },
//! #             "retry": { "max_attempts": 1, "backoff": "sidekiq" }
//! #         } }
//! #     }"#)
//! # }
//! ```
//!
//! The functions in [`exchange`] and [`dispatcher`] are the whole of what a server does about Machines; tests drive them
//! with virtual time.

mod budgets;
mod catalog;
mod clock;
mod expiry;
mod held;
mod live;
mod pass_on;
mod room;
mod secret;
mod settings;
mod waiters;
mod waits;

mod keys;
mod midge;

mod error;
mod operations;

pub mod dispatcher;
pub mod exchange;

mod http;
mod page;

mod start;

pub use catalog::{Catalog, CatalogError};
pub use clock::{Clock, SystemClock};
pub use error::ServiceError;
pub use http::read_json;
pub use live::Live;
pub use midge::Midge;
pub use midge_core::Retention;
pub use midge_listen::{ConnectionLimits, Connections, Counts, serve};
pub use operations::enqueue::after::put_new;
pub use operations::{Follower, JobContent};
pub use secret::secret_hash;
pub use settings::{Access, Fork, Settings};
pub use start::StartError;
