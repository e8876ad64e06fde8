//! Work on its way to a thread, and how it ended on the way back.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{StoreError, WriteWork};

/// Tells whoever waits for a work how it ended.
pub(super) type Reply = oneshot::Sender<Result<(), StoreError>>;

/// Work that waits for a thread.
pub(super) struct QueuedWork {
    pub(super) work: WriteWork,
    pub(super) reply: Reply,
    /// Gives its room free when the work is done.
    _permit: OwnedSemaphorePermit,
}

/// How much work may wait.
#[derive(Debug)]
pub(super) struct Room(Arc<Semaphore>);

impl std::fmt::Debug for QueuedWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("QueuedWork")
    }
}

impl Room {
    /// Makes room for so many works. Others wait before they are queued.
    pub(super) fn new(works: usize) -> Room {
        Room(Arc::new(Semaphore::new(works)))
    }

    /// Waits for room, hands the work in, and waits until a thread has done it.
    pub(super) async fn wait_for(
        &self,
        work: WriteWork,
        hand_in: impl FnOnce(QueuedWork) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let permit = self.0.clone().acquire_owned().await.map_err(|_| thread_is_gone())?;
        let (reply, replied) = oneshot::channel();
        hand_in(QueuedWork { work, reply, _permit: permit })?;
        replied.await.unwrap_or_else(|_| Err(thread_is_gone()))
    }
}

/// The error where nobody is there to do a work.
pub(super) fn thread_is_gone() -> StoreError {
    StoreError::Failed("the store's thread is gone".to_owned())
}
