//! A whole server in this process, from outside: over HTTP, by the exchange, and round by round.

mod after;
mod again;
mod api;
mod batches;
mod bounds;
mod capacity;
mod documents;
mod drain;
mod extremes;
mod follow;
mod lanes;
mod looking;
mod modules;
mod pages;
mod parked;
mod repeated;
mod retention;
mod routes;
mod rules;
mod schedules;
mod sites;
mod stage;
mod strangers;
mod sweeps;
mod unique;
mod unreadable;
