//! The server: exchange, dispatcher, HTTP API and dashboard, as a library to embed.
//!
//! [`Midge::start`] is all that an app needs; [`Midge::enqueue`] enqueues, [`Midge::router`] is what it mounts.
//! The functions [`exchange`] and [`round`] are the whole of what a server does about Machines; tests drive them
//! with virtual time.

mod catalog;
mod clock;
mod dispatcher;
mod enqueue;
pub mod exchange;
mod hints;
mod http;
mod midge;
mod page;
pub mod round;
mod secret;
mod service;

pub use catalog::{Catalog, CatalogError};
pub use clock::{Clock, SystemClock};
pub use http::Access;
pub use midge::{Fork, Midge, Retention, Settings, StartError};
pub use secret::secret_hash;
pub use service::{JobContent, ServiceError};
