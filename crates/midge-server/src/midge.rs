//! The handle of a running server, and what the server holds.
//!
//! Everything else is built on this: the operations that can be asked for, the exchange, the dispatcher and HTTP each
//! add methods of their own. How it starts and ends is in `start.rs`.

use std::sync::{Arc, Mutex};

use midge_core::{Job, Phase, Retention};
use midge_machines::Machines;
use midge_protocol::{QueueName, Timestamp};
use midge_store::Store;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::catalog::{Catalog, Current};
use crate::clock::Clock;
use crate::http::Bodies;
use crate::settings::{Access, Fork};
use crate::waiters::Hub;

/// A running server: enqueues, exchanges, dispatches. Cloning it is cheap and gives another handle to the same.
#[derive(Clone)]
pub struct Midge {
    pub(crate) inner: Arc<Inner>,
}

/// All that a running server holds, shared by its handles and its dispatcher.
pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) machines: Arc<dyn Machines>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) catalog: Current,
    pub(crate) fork: Fork,
    pub(crate) access: Access,
    pub(crate) retention: Retention,
    pub(crate) bodies: Bodies,
    /// Room for those who follow a job.
    pub(crate) followers: Arc<Semaphore>,
    /// The store's id, which marks its Machines.
    pub(crate) owner: String,
    pub(crate) up_since: Timestamp,
    pub(crate) waiters: Hub,
    /// Whether the server has been told to end.
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) dispatcher: Mutex<Option<JoinHandle<()>>>,
}

impl Midge {
    /// Returns the modules that jobs may name.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.inner.catalog.get()
    }
}

impl Inner {
    /// Tells all who may wait for what became of a job: for its end, for work in its queue, or for something to tell its
    /// Machine.
    pub(crate) fn tell_changed(&self, job: &Job) {
        self.waiters.jobs.wake(&job.id);
        self.wake_queue(&job.queue);
        if let Some(lease) = job.lease() {
            self.waiters.machines.wake(&lease.machine);
        }
    }

    /// Wakes the hosts that wait for work of a queue: those of its pool, where it is in one.
    pub(crate) fn wake_queue(&self, queue: &QueueName) {
        let catalog = self.catalog.get();
        self.waiters.queues.wake(catalog.manifest.served_as(queue));
    }

    /// Tells who waits for jobs that they have ended, and the log which of them were discarded.
    pub(crate) fn tell_ended(&self, ended: &[Job]) {
        for job in ended {
            if job.phase() == Phase::Discarded {
                let cause = job.failure.as_ref().map_or("", |failure| failure.cause.as_str());
                let why = job.failure.as_ref().map_or("", |failure| failure.message.as_str());
                tracing::warn!(job.id = %job.id, job.module = %job.module, job.attempt = %job.attempt, cause = %cause, why, "a job was discarded");
            }
            self.waiters.jobs.wake(&job.id);
        }
    }
}
