//! The rules of HTTP that hold for every route: what strangers may make a server spend, whose pages may ask for what,
//! and the one form of every error.

mod flood;
mod routes;
mod sites;
mod stage;
mod strangers;
