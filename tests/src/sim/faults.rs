//! Faults that are put into the server deliberately: each is one that somebody might make, and that a seed must find.
//!
//! Invariant: the server's own functions run as they are. A fault changes rows, settings or a request around them, so that
//! what comes of it is what would have come of the fault.

use std::collections::BTreeMap;

use midge_core::{Job, QueueRow};
use midge_protocol::api::Pause;
use midge_protocol::exchange::Request;
use midge_protocol::job::Cause;
use midge_protocol::{AttemptRange, QueueName, Timestamp};
use midge_server::Catalog;

use super::messages::Sender;
use super::world::World;

/// What is wrong with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// How many jobs of a queue run is read before the transaction that claims more of them.
    LimitReadOutside,
    /// The end of an attempt is taken twice.
    DoubleFinish,
    /// The jobs of a Machine that is lost are not given back.
    LostHandBack,
    /// The time that fills the bucket of a queue's rate is counted twice.
    BucketRefilledTwice,
    /// A claim does not look whether its queue is paused.
    PausedQueueClaims,
}

/// What a fault remembers from one exchange to the next.
#[derive(Default)]
pub(super) struct Remembered {
    running: BTreeMap<QueueName, u64>,
    filled_at: BTreeMap<QueueName, Timestamp>,
}

/// What a fault did before an exchange, to be dealt with after it.
#[derive(Default)]
pub(super) struct Before {
    pause: Option<(QueueName, Pause)>,
    /// The jobs whose attempts end with the exchange, as they were.
    running: Vec<Job>,
}

impl World {
    /// Returns the jobs that run, if the fault of this run is that they are forgotten when their Machine is lost.
    pub(super) fn may_be_forgotten(&self) -> Vec<Job> {
        if self.fault != Some(Fault::LostHandBack) {
            return Vec::new();
        }
        self.store.look(|rows| {
            let mut running = Vec::new();
            for (machine, _) in rows.machines()? {
                running.extend(rows.jobs_leased(&machine.name)?);
            }
            Ok(running)
        })
    }

    /// Has those of the jobs run on that a lost Machine gave back, as if nobody had written that it did.
    pub(super) fn forget_given_back(&mut self, running: Vec<Job>) {
        self.store.tamper(move |rows| {
            for before in running {
                let Some(after) = rows.jobs(&[before.id])?.pop().flatten() else { continue };
                let lost = after.failure.as_ref().is_some_and(|failure| failure.cause == Cause::MachineLost);
                if lost && after.lease().is_none() && after.attempt == before.attempt {
                    let range = AttemptRange { first: before.attempt, last: before.attempt };
                    rows.delete_attempts(before.id, range)?;
                    rows.put_jobs(&[before])?;
                }
            }
            Ok(())
        });
    }

    /// Puts the fault of this run into what an exchange is about to see.
    pub(super) fn spoil_before(
        &mut self,
        sender: &Sender,
        request: &Request,
        catalog: &mut Catalog,
    ) -> Before {
        let (mut before, now) = (Before::default(), self.now);
        let (Some(fault), name) = (self.fault, sender.name.clone()) else { return before };
        let Some(machine) = self.store.look(move |rows| rows.machine(&name)) else { return before };
        let queue = machine.queue;
        let of = queue.clone();
        let (row, running) = self.store.look(move |rows| Ok((rows.queue(&of)?, rows.jobs_running(&of)?)));
        match fault {
            Fault::LimitReadOutside => {
                let read = self.remembered.running.insert(queue.clone(), running).unwrap_or(running);
                let policy = catalog.manifest.queues.get_mut(&queue);
                if let Some(max) = policy.and_then(|policy| policy.max_running.as_mut()) {
                    // What is free by what was read, beside those that run by now.
                    *max = max.saturating_add(u32::try_from(running.saturating_sub(read)).unwrap_or(0));
                }
            }
            Fault::BucketRefilledTwice => {
                let filled_at = self.remembered.filled_at.insert(queue.clone(), now).unwrap_or(now);
                let mut row = row;
                row.bucket.full_at_us -= now.since(filled_at).as_micros() as i64;
                self.put_queue(queue, row);
            }
            Fault::PausedQueueClaims => {
                before.pause = row.pause.clone().map(|pause| (queue.clone(), pause));
                if before.pause.is_some() {
                    self.put_queue(queue, QueueRow { pause: None, ..row });
                }
            }
            Fault::DoubleFinish => {
                let ids: Vec<_> = request.finished.iter().map(|finished| finished.attempt.job).collect();
                let jobs = self.store.look(move |rows| rows.jobs(&ids)).into_iter().flatten();
                before.running = jobs.filter(|job| job.lease().is_some()).collect();
            }
            Fault::LostHandBack => {}
        }
        before
    }

    /// Takes back what is not to be seen, and returns whether the same exchange is to be made once more.
    pub(super) fn spoil_after(&mut self, before: Before) -> bool {
        if self.fault.is_none() {
            return false;
        }
        if let Some((queue, pause)) = before.pause {
            let of = queue.clone();
            let row = self.store.look(move |rows| rows.queue(&of));
            self.put_queue(queue, QueueRow { pause: Some(pause), ..row });
        }
        let ids: Vec<_> = before.running.iter().map(|job| job.id).collect();
        let after = self.store.look(move |rows| rows.jobs(&ids));
        let ended = before.running.into_iter().zip(after).filter_map(|(before, after)| {
            let after = after.filter(|after| after.lease().is_none())?;
            // All is written but that it runs no more.
            Some(Job { state: before.state, ..after })
        });
        let again: Vec<Job> = ended.collect();
        let is_again = !again.is_empty();
        self.store.tamper(move |rows| rows.put_jobs(&again));
        is_again
    }

    fn put_queue(&mut self, queue: QueueName, row: QueueRow) {
        self.store.tamper(move |rows| rows.put_queue(&queue, &row));
    }
}
