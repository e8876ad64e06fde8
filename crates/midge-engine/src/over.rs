//! What ends a guest from inside a host call: it is over a bound, or was stopped.

use midge_protocol::limits::{RANDOM_BYTES_MAX, RESULT_BYTES_MAX};

/// Why a host call or an epoch check ends the guest. Not a trap of its own making.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Over {
    #[error("wrote more than {} MiB to stdout, which is the most a result may have", RESULT_BYTES_MAX >> 20)]
    Output,
    #[error("asked for {bytes} random bytes at once, the limit is {} MiB", RANDOM_BYTES_MAX >> 20)]
    Random { bytes: u32 },
    #[error("was stopped")]
    Stopped,
}
