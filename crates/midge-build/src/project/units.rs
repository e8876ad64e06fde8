//! Durations and sizes as people write them.

pub(super) use midge_protocol::units::{duration, show_duration, show_size, size};
