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
///
/// Invariant: an end that was ordered stays until it is taken up. Whatever is ordered after it, or happens to the
/// program, the Machine goes.
#[derive(Debug)]
pub(crate) struct Orders {
    destroy: bool,
    start: Option<Fate>,
    stop: Option<StopOrder>,
    restart: Option<(StopOrder, Fate)>,
    suspend: bool,
    /// As the kernel keeps them: each signal once.
    signals: Vec<Signal>,
    die: Option<Death>,
}

impl Orders {
    pub(crate) const NONE: Orders = Orders {
        destroy: false,
        start: None,
        stop: None,
        restart: None,
        suspend: false,
        signals: Vec::new(),
        die: None,
    };

    /// Adds an order. One to start, stop or restart takes the place of all that it makes pointless.
    pub(crate) fn give(&mut self, order: Order) {
        match order {
            Order::Destroy => self.destroy = true,
            Order::Start(fate) => *self = Orders { start: Some(fate), ..self.end_only() },
            Order::Stop(stop) => *self = Orders { stop: Some(stop), ..self.end_only() },
            Order::Restart(stop, fate) => *self = Orders { restart: Some((stop, fate)), ..self.end_only() },
            Order::Suspend => self.suspend = true,
            Order::Signal(signal) if self.signals.contains(&signal) => {}
            Order::Signal(signal) => self.signals.insert(0, signal),
            Order::Die(death) => self.die = Some(death),
        }
    }

    /// Adds a start of what is suspended, or was to be: what else was asked of the program is still to be done.
    pub(crate) fn resume(&mut self, fate: Fate) {
        self.suspend = false;
        self.start = Some(fate);
    }

    /// Forgets what was asked of a program that has ended.
    pub(crate) fn program_ended(&mut self) {
        *self = Orders { restart: self.restart, ..self.end_only() };
    }

    /// Takes up the next order: the end first, and what stops a program before what starts it.
    pub(crate) fn take(&mut self) -> Option<Order> {
        if self.destroy {
            *self = Orders::NONE;
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

    /// Returns what is left where all else is taken back.
    fn end_only(&self) -> Orders {
        Orders { destroy: self.destroy, ..Orders::NONE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_order_and_no_exit_takes_an_end_back() {
        let stop = StopOrder { signal: Signal::TERM, timeout: Duration::ZERO };
        let fate = Fate::default();
        let later = [
            Order::Start(fate),
            Order::Stop(stop),
            Order::Restart(stop, fate),
            Order::Suspend,
            Order::Signal(Signal::TERM),
            Order::Die(Death::Killed),
            Order::Destroy,
        ];
        for order in later {
            let mut orders = Orders::NONE;
            orders.give(Order::Destroy);
            orders.give(order);
            orders.resume(fate);
            orders.program_ended();
            assert_eq!(orders.take(), Some(Order::Destroy), "{order:?}");
            assert_eq!(orders.take(), None, "{order:?}");
        }
    }
}
