//! The conversation between a host and a server: what each side says next, and how long it may be silent.
//!
//! The host's side is [`HostSide`]: what to say, and what to do about an answer. The server's is [`Parked`]: whether an
//! answer that says nothing is held back; and [`Carried`]: how much one answer holds. What an exchange *writes* is in the
//! server's transaction, by [`crate::Job::apply`], [`crate::Machine::apply`] and [`crate::admit`].

mod carried;
mod host;
mod parked;

pub use carried::Carried;
pub(crate) use host::GONE_AFTER;
pub use host::{ANSWER_TIMEOUT, Departure, HostSide, Next, NotBegun, Todo};
pub use parked::Parked;
