//! The program that has the network: it makes the requests that guests ask for, where their modules may make them.
//!
//! A host starts it at the first request and passes lines to it, on each of which one request at a time is made: see
//! [`midge_protocol::line`]. What a module may reach and where its secrets may go is judged by `midge_core::reach`; this
//! crate asks before a name is looked up, again about each address, and again at each redirect.
//!
//! Invariant: nothing is connected to but addresses that were judged; nothing that a guest or a server sends is held beyond
//! a named bound; no secret is in a message, a log or an answer. No proxy, no cookies, no decoding of bodies.

mod serve;
mod world;

mod line;

mod frames;
mod judge;
mod modules;
mod request;

mod asked;
mod outgoing;
mod redirect;
mod spelled;
mod stars;
mod waits;

mod connect;
mod link;
mod pool;
mod tls;

mod failure;

pub use judge::Judge;
pub use modules::NoModules;
pub use serve::{ServeError, serve};
pub use world::{Lookup, World};
