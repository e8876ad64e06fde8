//! The server: exchange, dispatcher, HTTP API and dashboard, as a library to embed.
//!
//! [`Midge::start`] is all that an app needs; [`Midge::enqueue`] enqueues, [`Midge::router`] is what it mounts.
//! The functions in [`exchange`] and [`dispatcher`] are the whole of what a server does about Machines; tests drive them
//! with virtual time.

mod catalog;
mod clock;
mod secret;
mod settings;
mod waiters;

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
pub use midge::Midge;
pub use operations::JobContent;
pub use secret::secret_hash;
pub use settings::{Access, Fork, Retention, Settings};
pub use start::StartError;
