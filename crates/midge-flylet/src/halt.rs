//! The news that flylet halts, for all that would otherwise go on waiting.

use tokio::sync::watch;

/// Waits until flylet is told to halt, or is dropped.
pub(crate) async fn halt_of(mut halted: watch::Receiver<bool>) {
    // An error says that the sender is gone, which means the same.
    let _ = halted.wait_for(|halt| *halt).await;
}
