//! What a Machine's supervisor is to do next, and what of it is not yet taken up.

use std::time::Duration;

use rustix::process::Signal;

/// What a supervisor is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Start,
    Stop(StopOrder),
    Destroy,
}

/// How to stop a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StopOrder {
    pub(crate) signal: Signal,
    /// How long until it is killed.
    pub(crate) timeout: Duration,
}

/// What a supervisor has not yet taken up. Bounded by being one of each.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    pub(crate) start: bool,
    pub(crate) stop: Option<StopOrder>,
    pub(crate) destroy: bool,
}

impl Orders {
    /// Takes up the next order: the end before a stop, and a stop before a start.
    pub(crate) fn take(&mut self) -> Option<Order> {
        if self.destroy {
            *self = Orders::default();
            return Some(Order::Destroy);
        }
        if let Some(stop) = self.stop.take() {
            return Some(Order::Stop(stop));
        }
        std::mem::take(&mut self.start).then_some(Order::Start)
    }
}
