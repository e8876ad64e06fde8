//! What can be written can be read back: extremes of every field, through the API and the exchange, on both stores.

mod bounds;
mod extremes;
mod support;
mod unreadable;
