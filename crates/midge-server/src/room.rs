//! The room of queues, for jobs that come to wait in one: new ones, by a retry, or out of another queue.

use std::collections::BTreeMap;

use midge_core::{Job, is_full, needs_room};
use midge_protocol::QueueName;
use midge_store::{Rows, StoreError};

use crate::catalog::Catalog;
use crate::error::ServiceError;

/// Refuses so many new jobs where they find no room in a queue in which so many wait. More than may ever wait there at once
/// need no second try.
pub(crate) fn check_room(
    catalog: &Catalog,
    queue: &QueueName,
    waiting: u64,
    new: u64,
) -> Result<(), ServiceError> {
    let max = catalog.policy(queue).max_jobs;
    if !is_full(max, waiting, new) {
        return Ok(());
    }
    if !is_full(max, 0, new) {
        return Err(ServiceError::QueueFull { queue: queue.clone(), max, waiting, new });
    }
    let none_fits = format!("[queues.{queue}] has a max_jobs of {max}");
    Err(ServiceError::Invalid(match max {
        0 => format!("{none_fits}, so that it takes no job: raise it, or use another queue"),
        _ => format!(
            "{none_fits}, and {new} jobs at once never fit into it: enqueue fewer at once, or raise it"
        ),
    }))
}

/// How many jobs wait in queues, as jobs take room in one transaction, which writes them after that.
pub(crate) struct Room<'a> {
    catalog: &'a Catalog,
    waiting: BTreeMap<QueueName, u64>,
}

impl Room<'_> {
    pub(crate) fn new(catalog: &Catalog) -> Room<'_> {
        Room { catalog, waiting: BTreeMap::new() }
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
        let waiting = match self.waiting.get_mut(queue) {
            Some(waiting) => waiting,
            None => {
                let waiting = rows.jobs_waiting(queue)?;
                self.waiting.entry(queue.clone()).or_insert(waiting)
            }
        };
        let checked = check_room(self.catalog, queue, *waiting, 1);
        *waiting += u64::from(checked.is_ok());
        Ok(checked)
    }
}
