//! The room of queues, for jobs that come to wait in one: by a retry, or out of another queue.

use std::collections::BTreeMap;

use midge_core::{Job, needs_room, room_for_new};
use midge_protocol::QueueName;
use midge_store::{Rows, StoreError};

use crate::catalog::Catalog;
use crate::error::ServiceError;

/// How many more jobs may wait in queues, as jobs take room in one transaction, which writes them after that.
pub(crate) struct Room<'a> {
    catalog: &'a Catalog,
    left: BTreeMap<QueueName, u64>,
}

impl Room<'_> {
    pub(crate) fn new(catalog: &Catalog) -> Room<'_> {
        Room { catalog, left: BTreeMap::new() }
    }

    /// Takes room for a job that is about to become another, if it needs any; or returns why it cannot come into the queue:
    /// another manifest may be served since somebody looked.
    pub(crate) fn take(
        &mut self,
        rows: &mut dyn Rows,
        before: &Job,
        after: &Job,
    ) -> Result<Result<(), ServiceError>, StoreError> {
        let queue = &after.queue;
        if !needs_room(before, after) {
            return Ok(Ok(()));
        }
        // One that runs again stays where it was, as those do that wait there.
        if before.queue != *queue
            && let Err(nearest) = self.catalog.takes_jobs(queue)
        {
            return Ok(Err(ServiceError::UnknownQueue { name: queue.clone(), nearest }));
        }
        let max = self.catalog.policy(queue).max_jobs;
        let left = match self.left.get_mut(queue) {
            Some(left) => left,
            None => {
                let left = room_for_new(max, rows.jobs_waiting(queue)?);
                self.left.entry(queue.clone()).or_insert(left)
            }
        };
        if *left == 0 {
            return Ok(Err(ServiceError::QueueFull { queue: queue.clone(), max }));
        }
        *left -= 1;
        Ok(Ok(()))
    }
}
