//! The host as a process, against a server that keeps the rules of the exchange and nothing else.

mod guests;
mod lacks;
mod run;
mod secrets;
mod server;
mod work;
