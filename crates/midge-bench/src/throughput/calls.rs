//! Callers that enqueue one job after the other, side by side.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use midge_client::{Client, EnqueueRequest};
use midge_protocol::JobId;
use midge_server::Midge;
use tokio::task::JoinSet;

/// A function that enqueues one job, and returns its id.
pub(super) type Call = Arc<dyn Fn() -> Calling + Send + Sync>;
type Calling = Pin<Box<dyn Future<Output = Result<JobId>> + Send>>;

/// Returns a call that enqueues a job like this one in this process, each time under an id of its own.
pub(super) fn by_library(midge: Midge, job: EnqueueRequest) -> Call {
    Arc::new(move || {
        let (midge, job) = (midge.clone(), another(&job));
        Box::pin(async move { Ok(midge.enqueue(job).await?.id) })
    })
}

/// Returns a call that enqueues a job like this one over HTTP, each time under an id of its own.
pub(super) fn over_http(client: Client, job: EnqueueRequest) -> Call {
    Arc::new(move || {
        let (client, job) = (client.clone(), another(&job));
        Box::pin(async move { Ok(client.enqueue(&job).await?.id) })
    })
}

/// Returns a job like this one under a new id.
pub(super) fn another(job: &EnqueueRequest) -> EnqueueRequest {
    EnqueueRequest { id: JobId::generate(), ..job.clone() }
}

/// How many callers there are, and when they end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calls {
    /// How many callers enqueue side by side.
    pub(super) callers: u32,
    /// After so long they end.
    pub(super) time: Duration,
    /// When so many jobs are enqueued by all of them together, they end.
    pub(super) jobs: u64,
}

impl Calls {
    /// Lets the callers enqueue until the time is over or there are enough jobs, and returns how many were enqueued.
    pub(super) async fn make(self, call: Call) -> Result<u64> {
        Ok(self.make_ids(call).await?.len() as u64)
    }

    /// Lets the callers enqueue as [`Calls::make`] does, and returns the ids of the jobs.
    pub(super) async fn make_ids(self, call: Call) -> Result<Vec<JobId>> {
        let until = Instant::now() + self.time;
        let taken = Arc::new(AtomicU64::new(0));
        let mut running = JoinSet::new();
        for _ in 0..self.callers {
            let (call, taken) = (call.clone(), taken.clone());
            running.spawn(async move {
                let mut ids = Vec::new();
                while Instant::now() < until && taken.fetch_add(1, Ordering::Relaxed) < self.jobs {
                    ids.push(call().await?);
                }
                anyhow::Ok(ids)
            });
        }
        let ids: Vec<Vec<JobId>> = running.join_all().await.into_iter().collect::<Result<_>>()?;
        Ok(ids.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn callers_make_no_more_calls_together_than_they_are_to() {
        let call: Call = Arc::new(|| Box::pin(async { Ok(JobId::generate()) }));
        let calls = Calls { callers: 3, time: Duration::MAX, jobs: 100 };
        assert_eq!(Calls { time: Duration::from_secs(3600), ..calls }.make(call.clone()).await.unwrap(), 100);
        assert_eq!(Calls { time: Duration::ZERO, ..calls }.make(call).await.unwrap(), 0);
    }
}
