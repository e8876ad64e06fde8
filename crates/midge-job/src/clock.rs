//! The time, from one place, so that a test can give it.

use std::time::SystemTime;

/// Returns what time it is: the host's time, or in a test what [`Given::now`](crate::testing::Given::now) says.
///
/// [`time_left`](crate::time_left) and whatever else of this crate knows the time goes by it.
pub fn now() -> SystemTime {
    #[cfg(not(target_family = "wasm"))]
    if let Some(time) = crate::testing::now() {
        return time;
    }
    SystemTime::now()
}
