//! A whole server in this process, from outside: over HTTP, by the exchange, and round by round.

mod after;
mod again;
mod api;
mod batches;
mod bounds;
mod capacity;
mod extremes;
mod lanes;
mod modules;
mod routes;
mod rules;
mod schedules;
mod sites;
mod stage;
mod strangers;
mod unreadable;
