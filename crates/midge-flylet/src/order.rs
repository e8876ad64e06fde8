//! What a Machine's supervisor is to do next, and what of it is not yet taken up.

use std::time::Duration;

use rustix::process::Signal;

/// What a supervisor is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Start(Fate),
    Stop(StopOrder),
    /// Ends the program and starts it anew.
    Restart(StopOrder, Fate),
    Suspend,
    Signal(Signal),
    Die(Death),
    Destroy,
}

/// How to stop a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StopOrder {
    pub(crate) signal: Signal,
    /// How long until it is killed.
    pub(crate) timeout: Duration,
}

/// What becomes of a start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// How long the Machine stays `starting`.
    pub(crate) delay: Duration,
    /// Whether it fails, where it is the first.
    pub(crate) launch_fails: bool,
    /// How long after it has started the Machine dies, and how.
    pub(crate) dies: Option<(Duration, Death)>,
}

/// How a Machine dies that nobody stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    Killed,
    OutOfMemory,
}

/// What a supervisor has not yet taken up. Bounded by being one of each.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    pub(crate) start: Option<Fate>,
    pub(crate) stop: Option<StopOrder>,
    pub(crate) restart: Option<(StopOrder, Fate)>,
    pub(crate) suspend: bool,
    /// As the kernel keeps them: each signal once.
    pub(crate) signals: Vec<Signal>,
    pub(crate) die: Option<Death>,
    pub(crate) destroy: bool,
}

impl Orders {
    /// Takes up the next order: the end first, and what stops a program before what starts it.
    pub(crate) fn take(&mut self) -> Option<Order> {
        if self.destroy {
            *self = Orders::default();
            return Some(Order::Destroy);
        }
        if let Some(death) = self.die.take() {
            return Some(Order::Die(death));
        }
        if let Some(stop) = self.stop.take() {
            return Some(Order::Stop(stop));
        }
        if let Some((stop, fate)) = self.restart.take() {
            return Some(Order::Restart(stop, fate));
        }
        if std::mem::take(&mut self.suspend) {
            return Some(Order::Suspend);
        }
        if let Some(fate) = self.start.take() {
            return Some(Order::Start(fate));
        }
        self.signals.pop().map(Order::Signal)
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        if !self.signals.contains(&signal) {
            self.signals.insert(0, signal);
        }
    }
}
