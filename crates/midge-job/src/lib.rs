//! For people who write midge jobs: a function from typed args to a result becomes a WASI command.
//!
//! ```no_run
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)] // may live in a crate shared with the app that enqueues
//! struct Greet {
//!     name: String,
//! }
//!
//! #[midge_job::main]
//! fn greet(args: Greet) -> midge_job::Result<String> {
//!     if args.name.is_empty() {
//!         return Err(midge_job::Error::refuse("there is nobody to greet"));
//!     }
//!     Ok(format!("Hello, {}!", args.name))
//! }
//! ```
//!
//! `cargo build --release --target wasm32-wasip1` makes a module of it; `midge build` does that for every module that
//! `midge.toml` lists.
//!
//! # What goes in
//! - **Args**: the function's one argument, any [`Deserialize`](serde::Deserialize) type, is read from the job's JSON.
//!   Args that do not fit are refused (no retry: they would not fit next time), with the path of what does not fit. A
//!   function without an argument ignores the args. Nothing in the type needs this crate, so the app that enqueues can
//!   use the same struct.
//! - **Input**: the job's bytes, by [`input`] or, where they need not be in memory at once, by [`input_reader`].
//! - What is known about the attempt: [`job_id`], [`attempt`], [`queue`], [`deadline`], [`time_left`]; and the time, [`now`].
//!
//! # What comes out
//! - **Result**: whatever is returned. A [`Serialize`](serde::Serialize) value becomes JSON (nothing returned is
//!   `null`), [`Bytes`] are written as they are. stdout is the result, so a job must not print to it.
//! - **Log**: stderr, by `eprintln!`.
//! - **Progress**: [`progress`].
//! - **State**: [`save`] and [`saved`], or [`step`] by step: what survives this attempt.
//! - **Follow-up jobs**: [`enqueue`], or [`job`] with more to say: they are there exactly if this attempt completes.
//! - **Failure**: an error, which is written to the log with all its causes. `?` works on every standard error when the
//!   function returns [`Result`]; other error types may be returned too if they can be shown. Unless it says otherwise
//!   it is tried again as the module's retry policy has it: see [`Error`] for the other ways. A panic is a failure too.
//!
//! # HTTP
//! [`http`] makes requests, to where the module's section in `midge.toml` lets them go, with secrets that the job itself
//! never sees. An error of one becomes a failure of the job by `?`, and says itself whether another attempt can help.
//!
//! ```no_run
//! # fn f(order: u64) -> midge_job::Result<()> {
//! midge_job::http::post("https://mail.example.com/v1/send")
//!     .bearer_secret("MAIL")
//!     .idempotency_key(&midge_job::step_key("mail"))
//!     .json(&serde_json::json!({"template": "thanks", "order": order}))
//!     .send()?
//!     .error_for_status()?;
//! # Ok(())
//! # }
//! ```
//!
//! # In tests
//! The function stays a function: call it. There is no server and no WebAssembly in such a test. Progress and the like
//! are written to stderr, and [`testing`] gives the job the input, the attempt number and whatever else it asks for. Its
//! requests are answered by [`Given::http`](testing::Given::http), and its clock says what
//! [`Given::now`](testing::Given::now) does. With the feature `project` it may what its module's section in `midge.toml` says, by
//! `Given::of_module("midge.toml", "NAME")`: `docs/testing.md` has a whole example.
//!
//! ```
//! use midge_job::testing::Given;
//! use midge_job::{Disposition, Error, Result};
//!
//! #[derive(serde::Deserialize)]
//! struct CountWords {
//!     at_least: usize,
//! }
//!
//! // With `#[midge_job::main]` above it, in the job's own `main.rs`.
//! fn count_words(args: CountWords) -> Result<usize> {
//!     let text = String::from_utf8(midge_job::input()?).map_err(Error::refuse)?;
//!     let words = text.split_whitespace().count();
//!     midge_job::progress(1, 1, "counted");
//!     if words < args.at_least {
//!         return Err(Error::new("there should be more words").retry_after(std::time::Duration::from_secs(60)));
//!     }
//!     Ok(words)
//! }
//!
//! // Each a `#[test]`.
//! let words = Given::new().input("one two three").run(|| count_words(CountWords { at_least: 3 }));
//! assert_eq!(words.unwrap(), 3);
//!
//! let error = Given::new().input(*b"\xff").run(|| count_words(CountWords { at_least: 0 })).unwrap_err();
//! assert_eq!(error.disposition(), Disposition::Refuse); // it would not be text next time either
//! ```
//!
//! # Without this crate
//! Any `wasm32-wasip1` command is a job: `argv` is the module's name and the args; stdin is the input, or the args
//! where there is none; stdout, stderr and the exit code (0; 65 for "do not retry"; anything else for failure) do the
//! rest. What this crate adds are imports from the module `midge`, which any language can declare:
//!
//! | import | meaning |
//! |---|---|
//! | `progress(done: i64, total: i64, message: i32, length: i32)` | how far it is; total 0 where that is not known |
//! | `retry_after(ms: i64)` | if this attempt fails, wait so long before the next |
//! | `snooze(ms: i64)` | this attempt ends without result and is not spent; run again after so long |
//! | `error(message: i32, length: i32)` | why this attempt fails, in a line |
//! | `save(state: i32, length: i32) -> i32` | keeps a state for the next attempts: 0, or 1 where it is too large |
//! | `saved(room: i32, length: i32) -> i32` | copies what was saved last; returns how long all of it is, or -1 |
//! | `enqueue(request, length, input, length, id: i32) -> i32` | enqueues a job, should this attempt complete |
//! | `enqueue_error(room: i32, length: i32) -> i32` | copies why the last one was refused, as `saved` does |
//! | `http_open(head: i32, length: i32, redirects: i32, timeout_ms: i64) -> i32` | begins a request; returns its number |
//! | `http_write(request: i32, piece: i32, length: i32) -> i32` | takes a piece of its body |
//! | `http_send(request: i32) -> i32` | ends the body, waits for the answer; returns how long its head is |
//! | `http_head(request: i32, room: i32, length: i32) -> i32` | copies the head; returns how long all of it is |
//! | `http_read(request: i32, room: i32, length: i32) -> i32` | copies the next piece of the answer's body; 0 at its end |
//! | `http_close(request: i32)` | gives the request up, or what is left of its answer |
//! | `http_error(room: i32, length: i32) -> i32` | copies why the last call of HTTP failed; returns how long all of it is |
//!
//! A message is UTF-8 at an address in the guest's memory, a state, a piece or a head is bytes there. A head is lines: `POST
//! https://api.example.com/v1/charges` or `200 https://api.example.com/v1/charges`, then `name: value` for each header. What
//! is below 0 is why a call of HTTP failed. `docs/abi.md` has all of it.

mod outcome;

mod attempt;
mod checkpoint;
mod clock;
mod error;
mod follow_up;
pub mod http;
mod input;
mod run;

mod host;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use attempt::{attempt, deadline, job_id, progress, queue, time_left};
pub use checkpoint::{save, saved, step, step_key};
pub use clock::now;
pub use error::{Disposition, Error, Result};
pub use follow_up::{FollowUp, enqueue, job};
pub use input::{InputReader, input, input_reader};
pub use outcome::{Bytes, Output};
pub use run::Args;

/// Makes a function into a job: writes the `fn main` that reads the args, calls the function, and writes its result.
///
/// There is one in a binary. The function takes its args as one owned value, or nothing, and returns any
/// [`Serialize`](serde::Serialize) value or [`Bytes`], or a `Result` of one. It is not async, generic or a method, and
/// it is not called `main`. It stays callable, in tests for one.
///
/// ```no_run
/// #[midge_job::main]
/// fn reverse() -> midge_job::Result<midge_job::Bytes> {
///     let photo = midge_job::input()?;
///     Ok(midge_job::Bytes(photo.into_iter().rev().collect()))
/// }
/// ```
pub use midge_job_macros::main;

/// The page about tests of jobs, whose examples are run.
#[cfg(all(doctest, feature = "project"))]
#[doc = include_str!("../../../docs/testing.md")]
struct TestingPage;

/// What the code that [`main`] writes calls. Not for people: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use std::process::ExitCode;

    pub use crate::outcome::{IsFallible, IsPlain, IsShowable, Returned};
    pub use crate::run::{read_args, run};
}
