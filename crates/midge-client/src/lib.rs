//! A client for midge's HTTP API: enqueue jobs, wait for their results, look at queues and Machines.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use midge_client::{Client, EnqueueRequest};
//!
//! let client = Client::new("http://127.0.0.1:7433")?;
//! let request = EnqueueRequest::new("word-count".parse()?).input("one two three");
//! let words: u64 = client.run(&request).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Invariant: the only thing known about a server is `midge-protocol`. Nothing here reads the environment.

mod client;
mod error;
mod transport;

pub use client::Client;
pub use error::{BoxError, ClientError, WaitError};
pub use midge_protocol::api::EnqueueRequest;
