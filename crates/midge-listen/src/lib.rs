//! HTTP connections under bounds: how many there are, whose they are, and how long each may stand still.
//!
//! Invariant: it knows no route, no token and no secret. Whoever answers a request says whose it is, with
//! [`Connection::belongs_to`]; until then it is a stranger's.
//!
//! A connection costs a descriptor and memory before anybody has shown a right to anything. So there are never more than
//! [`ConnectionLimits`] says. Beyond the bound room is made: the oldest connection of a stranger that is not being
//! answered is closed, else one that is kept and idle; only where all are being answered is the new one refused, with
//! 503. Callers cannot take what is kept for hosts, nor hosts what is kept for callers, and one host has no more than a
//! few. A request that is being answered, such as one that waits for a job, is never cut.

mod connections;
mod limits;

mod answers;
mod io;
mod serve;

pub use connections::{Connection, Connections, Counts, Peer, TooMany};
pub use limits::ConnectionLimits;
pub use serve::serve;
