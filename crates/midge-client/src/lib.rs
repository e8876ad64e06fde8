//! A client for midge's HTTP API: enqueue jobs, wait for their results, look at queues and Machines.
//!
//! ```
//! use midge_client::{Client, EnqueueRequest, WaitError};
//! use serde::{Deserialize, Serialize};
//!
//! // What the job takes and gives: best in a crate that it shares with whoever enqueues.
//! #[derive(Serialize)]
//! struct Resize {
//!     width: u32,
//! }
//!
//! #[derive(Debug, PartialEq, Deserialize)]
//! struct Resized {
//!     bytes: u64,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let url = server().await;
//! # let photo = "not really a photo";
//! let client = Client::new(&url)?; // such as `http://127.0.0.1:7433`
//! let request = EnqueueRequest::new("resize".parse()?).args(&Resize { width: 320 })?.input(photo);
//!
//! let enqueued = client.enqueue(&request).await?; // on the server's disk by now
//! match client.wait_result::<Resized>(enqueued.id).await {
//!     Ok(resized) => assert_eq!(resized, Resized { bytes: 12_345 }),
//!     Err(WaitError::NotCompleted(job)) => println!("job {} was {}: {:?}", job.id, job.state, job.failure),
//!     Err(error) => return Err(error.into()),
//! }
//!
//! // Both in one, where only the result matters. The same request is the same job.
//! let resized: Resized = client.run(&request).await?;
//! # assert_eq!(resized, Resized { bytes: 12_345 });
//! # Ok(())
//! # }
//! #
//! # /// Starts what answers like a server whose jobs have all completed.
//! # async fn server() -> String {
//! #     use axum::routing::{get, post};
//! #     use axum::{Json, Router};
//! #     use serde_json::{Value, json};
//! #     let enqueue = |Json(request): Json<Value>| async move {
//! #         assert_eq!(request["args"], json!({ "width": 320 }));
//! #         Json(json!({ "id": request["id"], "new": true }))
//! #     };
//! #     let result = || async { Json(json!({ "bytes": 12_345 })) };
//! #     let routes = Router::new().route("/v1/jobs", post(enqueue)).route("/v1/jobs/{id}/result", get(result));
//! #     let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
//! #     let url = format!("http://{}", listener.local_addr().unwrap());
//! #     tokio::spawn(async move { axum::serve(listener, routes).await });
//! #     url
//! # }
//! ```
//!
//! Invariant: the only thing known about a server is `midge-protocol`. Nothing here reads the environment.

mod client;
mod costs;
mod error;
mod follow;
mod sweeps;
mod transport;

pub use client::Client;
pub use error::{BoxError, ClientError, WaitError};
pub use follow::Follow;
pub use midge_protocol::api::EnqueueRequest;
pub use midge_protocol::news::{JobNews, Position};
pub use midge_protocol::{
    JobId, JobKey, MachineName, ModuleName, QueueName, ScheduleName, Secret, Tag, Timestamp,
};
