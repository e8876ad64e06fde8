//! Calls to the Machines API: the server's end of them. A call waits until the world has answered it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use midge_machines::{Label, Launch, MachineError, MachineSpec, Machines, Seen, SeenState};
use midge_protocol::MachineId;

/// A call as the API hears it.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Create(Box<MachineSpec>, Launch),
    Start(MachineId),
    Stop(MachineId),
    Suspend(MachineId),
    Destroy(MachineId),
    Get(MachineId),
    List(Label),
}

impl Call {
    /// Returns when the client gives up on it, as the client of Fly's API does.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(if matches!(self, Call::Create(..)) { 60 } else { 30 })
    }

    pub(super) fn changes_something(&self) -> bool {
        !matches!(self, Call::Get(_) | Call::List(_))
    }
}

/// What the API says.
#[derive(Debug)]
pub(super) enum Reply {
    Made(MachineId),
    Done,
    Seen(Seen),
    List(Vec<Seen>),
}

pub(super) type Answered = Result<Reply, MachineError>;

/// The client that the server calls. The world takes what was called, and puts answers in.
#[derive(Default)]
pub(super) struct Calls(Mutex<Mail>);

#[derive(Default)]
struct Mail {
    next: u64,
    called: Vec<(u64, Call)>,
    answers: BTreeMap<u64, Answered>,
}

impl Calls {
    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.0.lock().expect("nobody panics with the mail in hand")
    }

    /// Returns what was called since it was asked last.
    pub(super) fn take(&self) -> Vec<(u64, Call)> {
        std::mem::take(&mut self.mail().called)
    }

    pub(super) fn answer(&self, id: u64, answer: Answered) {
        self.mail().answers.insert(id, answer);
    }

    /// Forgets everything, as a process does that dies.
    pub(super) fn forget(&self) {
        let mut mail = self.mail();
        mail.called.clear();
        mail.answers.clear();
    }

    async fn call(&self, call: Call) -> Answered {
        let id = {
            let mut mail = self.mail();
            mail.next += 1;
            let id = mail.next;
            mail.called.push((id, call));
            id
        };
        // The world polls whoever may have been answered: nobody needs to be woken.
        poll_fn(|_| self.mail().answers.remove(&id).map_or(Poll::Pending, Poll::Ready)).await
    }
}

#[async_trait]
impl Machines for Calls {
    async fn create(&self, spec: &MachineSpec, launch: Launch) -> Result<MachineId, MachineError> {
        match self.call(Call::Create(Box::new(spec.clone()), launch)).await? {
            Reply::Made(id) => Ok(id),
            other => unreachable!("the API answers a create with {other:?}"),
        }
    }

    async fn start(&self, id: &MachineId) -> Result<(), MachineError> {
        self.call(Call::Start(id.clone())).await.map(drop)
    }

    async fn stop(&self, id: &MachineId) -> Result<(), MachineError> {
        self.call(Call::Stop(id.clone())).await.map(drop)
    }

    async fn suspend(&self, id: &MachineId) -> Result<(), MachineError> {
        self.call(Call::Suspend(id.clone())).await.map(drop)
    }

    async fn destroy(&self, id: &MachineId) -> Result<(), MachineError> {
        self.call(Call::Destroy(id.clone())).await.map(drop)
    }

    async fn get(&self, id: &MachineId) -> Result<Seen, MachineError> {
        match self.call(Call::Get(id.clone())).await? {
            Reply::Seen(seen) => Ok(seen),
            other => unreachable!("the API answers a get with {other:?}"),
        }
    }

    async fn list(&self, label: &Label) -> Result<Vec<Seen>, MachineError> {
        match self.call(Call::List(label.clone())).await? {
            Reply::List(list) => Ok(list),
            other => unreachable!("the API answers a list with {other:?}"),
        }
    }

    async fn wait(&self, id: &MachineId, state: SeenState, _: Duration) -> Result<(), MachineError> {
        let seen = self.get(id).await?;
        if seen.state == state { Ok(()) } else { Err(MachineError::NotReady(seen.state.to_string())) }
    }
}
