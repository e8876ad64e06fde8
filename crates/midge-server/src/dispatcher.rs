//! The dispatcher: a loop of rounds, one at a time, whose calls to the Machines API run side by side.

use std::sync::Arc;
use std::time::Duration;

use midge_core::Phase;
use midge_store::StoreError;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::midge::Inner;
use crate::round::{self, Decided};

/// With Machines to look at, a round comes at least this often: it is how soon a dead one is noticed.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// However many hints there are, rounds come no closer than this: each looks at all Machines, and speaks for all hints
/// before it. The first hint after a quiet time is not held up.
const ROUND_GAP: Duration = Duration::from_millis(5);
/// Without Machines, only time can bring work that nobody announced.
const IDLE_ROUND_EVERY: Duration = Duration::from_secs(10);
/// After a round that the store failed.
const ROUND_AFTER_FAILURE: Duration = Duration::from_secs(2);
/// How often ended jobs are deleted, and how many in one transaction.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
const PRUNE_JOBS_MAX: usize = 2_000;

/// Runs rounds until the server stops.
pub(crate) async fn run(inner: Arc<Inner>) {
    let mut stopping = inner.stopping.subscribe();
    let mut acts: JoinSet<Result<(), StoreError>> = JoinSet::new();
    let mut prune_at = inner.clock.now();
    loop {
        let next_not_before = Instant::now() + ROUND_GAP;
        let wait = match one_round(&inner, &mut acts).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::error!(%error, "a round of the dispatcher failed; it will be tried again");
                ROUND_AFTER_FAILURE
            }
        };
        if prune_at <= inner.clock.now() {
            prune_at = inner.clock.now().after(PRUNE_EVERY);
            if let Err(error) = prune(&inner).await {
                tracing::error!(%error, "cannot delete old jobs");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = inner.hints.dispatcher.notified() => {}
            // What a call brought may be what the next round waits for.
            Some(done) = acts.join_next() => report(done),
            _ = stopping.wait_for(|stopping| *stopping) => break,
        }
        tokio::select! {
            () = tokio::time::sleep_until(next_not_before) => {}
            _ = stopping.wait_for(|stopping| *stopping) => break,
        }
    }
    // Every call is bounded by the client's own timeout, but a server should not take that long to end.
    acts.shutdown().await;
}

async fn one_round(
    inner: &Arc<Inner>,
    acts: &mut JoinSet<Result<(), StoreError>>,
) -> Result<Duration, StoreError> {
    let context = inner.round_context();
    let Decided { acts: decided, ended, tell, returned, waiting, due, next_due, machines } =
        round::decide(&*inner.store, &*inner.machines, &context, &*inner.clock).await?;
    for act in decided {
        let (inner, context) = (inner.clone(), context.clone());
        acts.spawn(
            async move { round::act(&*inner.store, &*inner.machines, act, &context, &*inner.clock).await },
        );
    }
    ended.iter().for_each(|job| inner.hints.jobs.wake(job));
    tell.iter().for_each(|machine| inner.hints.machines.wake(machine));
    returned.iter().chain(&due).for_each(|queue| inner.hints.queues.wake(queue));
    *inner.waiting.lock().expect("nobody panics with the counts in hand") = waiting.into_iter().collect();

    let every = if machines { ROUND_EVERY } else { IDLE_ROUND_EVERY };
    let until_due = next_due.map_or(every, |due| due.since(inner.clock.now()));
    Ok(until_due.clamp(Duration::from_millis(1), every))
}

fn report(done: Result<Result<(), StoreError>, tokio::task::JoinError>) {
    match done {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "cannot write what came of a call to the Machines API"),
        Err(error) => tracing::error!(%error, "a call to the Machines API panicked"),
    }
}

async fn prune(inner: &Inner) -> Result<(), StoreError> {
    let now = inner.clock.now();
    let before = |kept: Duration| {
        midge_protocol::Timestamp::from_millis(now.as_millis().saturating_sub(kept.as_millis() as i64))
    };
    let (ended, discarded) = (before(inner.retention.ended), before(inner.retention.discarded));
    for (phase, before) in
        [(Phase::Completed, ended), (Phase::Cancelled, ended), (Phase::Discarded, discarded)]
    {
        while midge_store::write(&*inner.store, move |rows| rows.delete_ended(phase, before, PRUNE_JOBS_MAX))
            .await?
            == PRUNE_JOBS_MAX
        {}
    }
    Ok(())
}
