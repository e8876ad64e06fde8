//! The exchange: what a host reports is written, and what it gets is leased, in one transaction.
//!
//! Invariant: nothing here decides. What a report makes of a job, which jobs a Machine gets and whether it may go is said
//! by `midge-core`; so is whether an answer that says nothing is held back ([`midge_core::exchange`]), for which `park`
//! waits.

mod claim;
mod follow_ups;
mod park;
mod report;
mod session;

use std::sync::Arc;

use midge_core::{Job, Machine, MachineEvent};
use midge_protocol::exchange::{Answer, AttemptRef, Request};
use midge_protocol::job::Failure;
use midge_protocol::{JobId, MachineName, QueueName, Timestamp};
use midge_store::{Rows, Store, StoreError};

use self::session::Session;
use crate::catalog::Catalog;
use crate::midge::Midge;
use crate::secret;

/// What an exchange depends on beside the request and the rows.
#[derive(Debug, Clone)]
pub struct Context {
    /// What is served: Machines of another generation may not claim, and jobs of other modules do not start.
    pub catalog: Arc<Catalog>,
    /// Spreads retries: at least 0 and less than 1.
    pub jitter: f64,
}

/// The answer to an exchange, and what others in this process have to hear of it.
#[derive(Debug, Default)]
pub struct Exchanged {
    /// The answer for the host.
    pub answer: Answer,
    /// The queue that the Machine serves.
    pub queue: Option<QueueName>,
    /// The jobs that ended with what the host reported, or had expired: who waits for them is told.
    pub ended: Vec<Job>,
    /// The jobs of which there is news for who follows them: a piece of a log, progress, an attempt that began or ended.
    pub news: Vec<JobId>,
    /// Whether the dispatcher may have something to decide: jobs came back to the queue, or the Machine left.
    pub changed: bool,
    /// The queues that have jobs which waited for one that ended.
    pub returned: Vec<QueueName>,
    /// The Machines that run jobs of a batch which is cancelled.
    pub tell: Vec<MachineName>,
    /// Whether jobs of the queue that had to wait, behind a suspect or for a limit, may be claimed now.
    pub unblocked: bool,
    /// When there may be more for the host without anything else happening: a rate has come back, or a lane has its turn.
    pub look_at: Option<Timestamp>,
    /// Whether a newer request of the same Machine has come: this one gets nothing any more.
    pub stale: bool,
    /// Whether the same request was heard before, and nothing of the Machine since.
    pub again: bool,
}

impl Exchanged {
    /// Makes the answer to a host that may go, and knows it already or will at once.
    fn left() -> Exchanged {
        let answer = Answer { left: true, ..Answer::default() };
        Exchanged { answer, stale: true, ..Exchanged::default() }
    }
}

/// Why a host may not exchange: its Machine is unknown or gone, or its secret is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no row of a Machine of that name.
    #[error("there is no Machine {0}")]
    Unknown(MachineName),
    /// The secret is not that of the Machine.
    #[error("the secret is not that of Machine {0}")]
    WrongSecret(MachineName),
    /// The Machine left or was given up, and is in the state that is named.
    #[error("Machine {0} is {1}: its secret is revoked")]
    Revoked(MachineName, &'static str),
}

/// Why an exchange was not made. Nothing of it is written.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The host has no right to it: it stops everything and exits.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The store failed: the host says the same again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the transaction of an exchange is undone.
enum Undone {
    /// The exchange is not made.
    Failed(ExchangeError),
    /// An attempt could not enqueue what it wanted to: the exchange is made again, in which that one has failed.
    NotEnqueued {
        attempt: AttemptRef,
        /// How it has failed: which job was refused, and why.
        failure: Failure,
    },
}

impl<E: Into<ExchangeError>> From<E> for Undone {
    fn from(error: E) -> Undone {
        Undone::Failed(error.into())
    }
}

/// Writes what a host reports and leases to it what it may have.
pub async fn exchange(
    store: &dyn Store,
    context: Context,
    name: MachineName,
    secret_hash: String,
    request: Request,
    now: Timestamp,
) -> Result<Exchanged, ExchangeError> {
    let mut request = Arc::new(request);
    loop {
        let who = (name.clone(), secret_hash.clone());
        match exchange_once(store, context.clone(), who, Arc::clone(&request), now).await {
            Ok(done) => return Ok(done),
            Err(Undone::Failed(error)) => return Err(error),
            // One attempt less enqueues anything each time.
            Err(Undone::NotEnqueued { attempt, failure }) => {
                follow_ups::fails(Arc::make_mut(&mut request), attempt, &failure);
            }
        }
    }
}

async fn exchange_once(
    store: &dyn Store,
    context: Context,
    (name, secret_hash): (MachineName, String),
    request: Arc<Request>,
    now: Timestamp,
) -> Result<Exchanged, Undone> {
    let follow_ups = follow_ups::accept_all(&request, &context.catalog, now);
    midge_store::write(store, move |rows| {
        let row = authorise(rows, &name, &secret_hash)?;
        let newest = row.is_newest(request.boot, request.seq);
        let again = row.is_heard_last(request.boot, request.seq);
        let generation = context.catalog.generation.clone();
        let heard = MachineEvent::Heard { boot: request.boot, seq: request.seq, generation };
        let machine = match row.apply(heard, now) {
            Ok(change) => change.machine,
            Err(_) if row.has_left_behind(request.boot, request.seq) => return Ok(Exchanged::left()),
            Err(refused) => return Err(Denied::Revoked(name, refused.0.as_str()).into()),
        };
        let mut session = Session::begin(rows, row, machine, &context, now)?;
        session.report(&request, follow_ups)?;
        session.pass_on()?;
        if newest {
            session.resend(&request)?;
            session.claim(request.room)?;
            session.leave(&request)?;
        }
        let mut done = session.finish()?;
        (done.stale, done.again) = (!newest, again);
        Ok(done)
    })
    .await
}

impl Midge {
    /// Looks whether a host has the secret of its Machine, before anything else is done for it. Whether it may still
    /// use it, the exchange says, in whose transaction this is looked at again.
    pub(crate) async fn authorise_host(
        &self,
        name: &MachineName,
        secret_hash: &str,
    ) -> Result<(), ExchangeError> {
        let (name, secret_hash) = (name.clone(), secret_hash.to_owned());
        midge_store::read(&*self.inner.store, move |rows| authorise(rows, &name, &secret_hash).map(drop))
            .await
    }
}

fn authorise(rows: &mut dyn Rows, name: &MachineName, secret_hash: &str) -> Result<Machine, ExchangeError> {
    let machine = rows.machine(name)?.ok_or_else(|| Denied::Unknown(name.clone()))?;
    if secret::same_hash(&machine.secret_hash, secret_hash) {
        Ok(machine)
    } else {
        Err(Denied::WrongSecret(name.clone()).into())
    }
}
