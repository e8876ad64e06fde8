//! The dispatcher: a loop of rounds, one at a time, whose calls to the Machines API run side by side.
//!
//! Invariant: what to do is said by [`midge_core::plan`], and when to ask again by [`midge_core::Rounds`].

mod act;
mod change;
mod decide;
mod look;
mod prune;
mod schedules;
mod settle;
mod spec;
mod sweeps;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use midge_core::{Found, Job, Rounds};
use midge_machines::{Launch, MachineSpec};
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{JobId, MachineId, MachineName, QueueName, Timestamp};
use midge_store::StoreError;
use tokio::task::{JoinError, JoinSet};

pub use self::act::act;
pub use self::change::{Drained, Released, drain, follow_clock, take_over};
pub use self::decide::decide;
pub use self::prune::Old;
pub(crate) use self::schedules::{queue_of, request};
pub use self::spec::OWNER_KEY;
pub use self::sweeps::{Swept, sweep_step};
use crate::catalog::Catalog;
use crate::midge::Inner;
use crate::settings::Fork;

/// What a round depends on beside the rows and the Machines API.
#[derive(Debug, Clone)]
pub struct Context {
    /// The modules that are served, and their generation.
    pub catalog: Arc<Catalog>,
    /// The image, region and program that Machines are made with.
    pub fork: Fork,
    /// This store's id, the value of [`OWNER_KEY`].
    pub owner: String,
    /// The time at which this server began to listen: no lease runs out until one lease after it.
    pub up_since: Timestamp,
    /// Whether the round asks the Machines API what Machines there are. One that does not goes by the rows.
    pub looks: bool,
    /// Whether such a round asks although there is no row of any Machine: one may have come late that has none.
    pub seeks_strays: bool,
    /// Seeds the names and secrets of the round's new Machines.
    pub seed: u64,
}

impl Context {
    /// Returns the policy of a queue or of a pool, with the size that its Machines have where it says none.
    fn policy(&self, queue: &QueueName) -> QueuePolicy {
        let policy = self.catalog.policy(queue);
        QueuePolicy { size: policy.size.or_else(|| self.fork.size.clone()), ..policy }
    }
}

/// What a round decided and wrote down: the calls to make, whom to tell, and what the next round goes by.
#[derive(Debug, Default)]
pub struct Decided {
    /// Calls to make now, in any order and side by side.
    pub acts: Vec<Act>,
    /// The jobs that ended with their Machine, or had expired: who waits for them is told.
    pub ended: Vec<Job>,
    /// The Machines whose hosts have something to be told, in answer to their parked exchange.
    pub tell: Vec<MachineName>,
    /// The queues to which jobs came back.
    pub returned: Vec<QueueName>,
    /// The jobs that came back: who follows them is told.
    pub news: Vec<JobId>,
    /// The queues that have jobs which are due.
    pub due: Vec<QueueName>,
    /// The time at which the next job becomes due or expires, or a schedule ticks; nothing where none waits for its time.
    pub next_due: Option<Timestamp>,
    /// Whether there are Machines to look at.
    pub machines: bool,
}

/// One call to the Machines API. Its Machine's row says already that it is under way.
#[derive(Debug)]
pub enum Act {
    /// Make a Machine.
    Create {
        /// The image, program, size and env of the new Machine.
        spec: Box<MachineSpec>,
        /// Whether the new Machine is started at once, or rests stopped.
        launch: Launch,
    },
    /// Start a Machine that is made.
    Start {
        /// The name of the Machine.
        name: MachineName,
        /// The Machine's id at the Machines API.
        id: MachineId,
    },
    /// Suspend a Machine whose host stands by.
    Suspend {
        /// The name of the Machine.
        name: MachineName,
        /// The Machine's id at the Machines API.
        id: MachineId,
    },
    /// Destroy a Machine that has a row.
    Destroy {
        /// The name of the Machine.
        name: MachineName,
        /// The Machine's id at the Machines API; where it is not known, there may be no such Machine.
        id: Option<MachineId>,
    },
    /// Destroy a Machine that carries our label and has no row.
    DestroyStray {
        /// The Machine's id at the Machines API.
        id: MachineId,
    },
}

impl Decided {
    /// Returns what the next round depends on.
    pub fn found(&self) -> Found {
        Found::Seen { machines: self.machines, next_due: self.next_due }
    }
}

/// How often Machines without a row are sought where no Machine has one. One that comes so late costs a few minutes at most,
/// since its host goes when nobody knows it; a server without work asks for nothing else.
const STRAYS_EVERY: Duration = Duration::from_secs(5 * 60);

/// What a round asks the Machines API.
#[derive(Clone, Copy)]
struct Looks {
    looks: bool,
    seeks_strays: bool,
}

/// Runs rounds, and beside them deletes old jobs and makes sweeps, until the server stops.
pub(crate) async fn run(inner: Arc<Inner>) {
    tokio::join!(run_rounds(&inner), prune::run(&inner), sweeps::run(&inner));
}

async fn run_rounds(inner: &Arc<Inner>) {
    let mut stopping = inner.stopping.subscribe();
    let mut acts: JoinSet<Result<Released, StoreError>> = JoinSet::new();
    let mut rounds = Rounds::new(inner.clock.now());
    let mut even_since = inner.up_since;
    // At the start, since an earlier server on this store may have left some.
    let mut seeks_at = inner.up_since;
    loop {
        // What was hinted before a round is for that round.
        inner.waiters.dispatcher.notified().now_or_never();
        let looks = rounds.begin(inner.clock.now());
        let seeks_strays = looks && inner.clock.now() >= seeks_at;
        if seeks_strays {
            seeks_at = inner.clock.now().after(STRAYS_EVERY);
        }
        let looks = Looks { looks, seeks_strays };
        let found = one_round(inner, looks, &mut even_since, &mut acts).await.unwrap_or_else(|error| {
            tracing::error!(%error, "a round of the dispatcher failed; it will be tried again");
            Found::Failed
        });
        rounds.end(found, inner.clock.now());
        loop {
            let wait = rounds.wait(inner.clock.now());
            if wait.is_zero() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // One hint is as good as many: nobody is woken by those that follow it.
                () = inner.waiters.dispatcher.notified(), if !rounds.is_hinted() => rounds.hint(),
                // What a call brought may be what the next round waits for.
                Some(done) = acts.join_next() => {
                    report(inner, done);
                    rounds.call_ended();
                }
                _ = stopping.wait_for(|stopping| *stopping) => break,
            }
        }
        if *stopping.borrow() {
            break;
        }
    }
    // Every call is bounded by the client's own timeout, but a server should not take that long to end.
    acts.shutdown().await;
}

async fn one_round(
    inner: &Arc<Inner>,
    Looks { looks, seeks_strays }: Looks,
    even_since: &mut Timestamp,
    acts: &mut JoinSet<Result<Released, StoreError>>,
) -> Result<Found, StoreError> {
    follow_clock(&*inner.store, &*inner.clock, even_since).await?;
    let context = Context {
        catalog: inner.catalog.get(),
        fork: inner.fork.clone(),
        owner: inner.owner.clone(),
        up_since: inner.up_since,
        looks,
        seeks_strays,
        seed: rand::random(),
    };
    let decided = decide(&*inner.store, &*inner.machines, &context, &*inner.clock).await?;
    let found = decided.found();
    for decided in decided.acts {
        let (inner, context) = (inner.clone(), context.clone());
        acts.spawn(
            async move { act(&*inner.store, &*inner.machines, decided, &context, &*inner.clock).await },
        );
    }
    inner.tell_ended(&decided.ended);
    inner.waiters.news.wake_each(&decided.news);
    decided.tell.iter().for_each(|machine| inner.waiters.machines.wake(machine));
    decided.returned.iter().chain(&decided.due).for_each(|queue| inner.wake_queue(queue));
    Ok(found)
}

fn report(inner: &Inner, done: Result<Result<Released, StoreError>, JoinError>) {
    match done {
        Ok(Ok(released)) => {
            inner.tell_ended(&released.ended);
            inner.waiters.news.wake_each(&released.returned);
        }
        Ok(Err(error)) => tracing::error!(%error, "cannot write what came of a call to the Machines API"),
        Err(error) => tracing::error!(%error, "a call to the Machines API panicked"),
    }
}
