//! HTTP from a job: requests to where `midge.toml` lets its module.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use midge_job::http;
//!
//! #[derive(serde::Deserialize)]
//! struct Charge {
//!     id: String,
//! }
//!
//! fn charge(cents: u64) -> midge_job::Result<String> {
//!     let charge: Charge = http::post("https://api.stripe.com/v1/charges")
//!         .bearer_secret("STRIPE")
//!         .idempotency_key(&midge_job::step_key("charge"))
//!         .form(&[("amount", cents.to_string()), ("currency", "eur".to_owned())])
//!         .timeout(Duration::from_secs(20))
//!         .send()?
//!         .error_for_status()?
//!         .json()?;
//!     Ok(charge.id)
//! }
//! ```
//!
//! # Where requests may go
//! The module's section in `midge.toml` says that, and which secrets go where; all else is
//! [not allowed](Kind::NotAllowed):
//!
//! ```toml
//! [modules.charge]
//! package = "charge"
//! http = ["https://api.stripe.com"]
//! secrets = { STRIPE = ["https://api.stripe.com"] }
//!
//! [secrets.STRIPE]
//! env = "STRIPE_KEY" # a variable of the Machine
//! ```
//!
//! The job never sees the value of a secret: it writes `{{STRIPE}}` in a header, or lets
//! [`bearer_secret`](Request::bearer_secret) and [`secret_header`](Request::secret_header) do so.
//!
//! # What comes back
//! Every status is an answer; [`error_for_status`](Response::error_for_status) makes errors of 400 and above. A body is
//! read whole by [`bytes`](Response::bytes), [`text`](Response::text) or [`json`](Response::json), up to 64 MiB, or in
//! pieces by [`copy_to`](Response::copy_to) and [`Read`](std::io::Read), however long it is. Nothing is
//! decoded, and nothing is asked for that would have to be. There are no cookies. An [`Error`] says why there is no answer,
//! and by `?` what is to become of the job.
//!
//! A job waits for each of its requests, and a cancel or the deadline of the attempt ends one at once. An answer is open
//! until it is dropped; an attempt may have 16 open at once.
//!
//! In tests [`Given::http`](crate::testing::Given::http) answers.

mod error;
mod head;
mod open;
mod request;
mod response;

pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

pub use self::error::{Error, Kind};
#[cfg(not(target_family = "wasm"))]
pub(crate) use self::head::{of as head_of, read as read_head};
pub use self::request::Request;
pub use self::response::{Response, WHOLE_BODY_BYTES_MAX};

/// Makes a request that asks for what is at a URL.
pub fn get(url: impl AsRef<str>) -> Request<'static> {
    request(Method::GET, url)
}

/// Makes a request like [`get`], for the head of its answer only.
pub fn head(url: impl AsRef<str>) -> Request<'static> {
    request(Method::HEAD, url)
}

/// Makes a request that gives something to a URL, to do with as that does.
pub fn post(url: impl AsRef<str>) -> Request<'static> {
    request(Method::POST, url)
}

/// Makes a request that puts something to a URL.
pub fn put(url: impl AsRef<str>) -> Request<'static> {
    request(Method::PUT, url)
}

/// Makes a request that changes what is at a URL.
pub fn patch(url: impl AsRef<str>) -> Request<'static> {
    request(Method::PATCH, url)
}

/// Makes a request that deletes what is at a URL.
pub fn delete(url: impl AsRef<str>) -> Request<'static> {
    request(Method::DELETE, url)
}

/// Makes a request of any method.
pub fn request(method: Method, url: impl AsRef<str>) -> Request<'static> {
    Request::new(method, url.as_ref())
}
