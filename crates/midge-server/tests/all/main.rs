//! A whole server in this process, from outside: over HTTP, by the exchange, and round by round.

mod again;
mod api;
mod bounds;
mod capacity;
mod drain;
mod extremes;
mod follow;
mod lanes;
mod modules;
mod retention;
mod routes;
mod rules;
mod schedules;
mod sites;
mod stage;
mod strangers;
mod unreadable;
