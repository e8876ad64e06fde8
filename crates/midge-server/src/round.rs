//! The dispatcher's round: look at the Machines, plan, write down what is about to be done, then do it.
//!
//! Invariant: no transaction is held across a call to the Machines API, and a call that fails becomes an event of
//! the next round, never an error that ends the loop.

mod act;

use std::collections::BTreeMap;
use std::time::Duration;

use midge_core::{Action, Event, Machine, MachineEvent, MachineState, QueueDemand, Sight, View, plan};
use midge_machines::{Label, Launch, MachineError, MachineSpec, Machines, Seen, SeenState};
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{JobId, MachineId, MachineName, QueueName, Secret, Timestamp};
use midge_store::{Rows, Store, StoreError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::midge::Fork;
use crate::secret;

/// The metadata key whose value tells our Machines from all others in the app.
pub const OWNER_KEY: &str = "midge_store";
/// A call to the Machines API counts as lost after this. The client gives up on the longest, a create that is tried
/// three times for a minute, before.
const ACT_TIMEOUT: Duration = Duration::from_secs(4 * 60);
/// Rows of Machines that are gone are kept for so long, for people to see.
const GONE_KEPT: Duration = Duration::from_secs(10 * 60);

pub use act::{Act, act};

/// What a round depends on beside the rows and the Machines API.
#[derive(Debug, Clone)]
pub struct Context {
    /// The modules that are served, and their generation.
    pub catalog: std::sync::Arc<Catalog>,
    /// How Machines are made.
    pub fork: Fork,
    /// This store's id, the value of [`OWNER_KEY`].
    pub owner: String,
    /// When this server began to listen.
    pub up_since: Timestamp,
    /// Seeds the names and secrets of the round's new Machines.
    pub seed: u64,
}

/// What a round decided.
#[derive(Debug, Default)]
pub struct Decided {
    /// Calls to make now, in any order and side by side.
    pub acts: Vec<Act>,
    /// Jobs that ended with their Machine.
    pub ended: Vec<JobId>,
    /// Machines that have something to be told.
    pub tell: Vec<MachineName>,
    /// Queues to which jobs came back.
    pub returned: Vec<QueueName>,
    /// Jobs that wait, by queue.
    pub waiting: BTreeMap<QueueName, u64>,
    /// Queues with jobs that are due.
    pub due: Vec<QueueName>,
    /// When the next job becomes due.
    pub next_due: Option<Timestamp>,
    /// Whether there are Machines to look at.
    pub machines: bool,
}

/// Looks, plans and acts, one call after the other: a whole round.
pub async fn round(
    store: &dyn Store,
    machines: &dyn Machines,
    context: &Context,
    clock: &dyn Clock,
) -> Result<Decided, StoreError> {
    let mut decided = decide(store, machines, context, clock).await?;
    for done in std::mem::take(&mut decided.acts) {
        act(store, machines, done, context, clock).await?;
    }
    Ok(decided)
}

/// Looks and plans, and writes down what is about to be done.
pub async fn decide(
    store: &dyn Store,
    machines: &dyn Machines,
    context: &Context,
    clock: &dyn Clock,
) -> Result<Decided, StoreError> {
    let known = midge_store::read(store, |rows| rows.machines()).await?;
    let looked_at = clock.now();
    let sights = look(machines, &known, context).await;
    let context = context.clone();
    let now = clock.now();
    midge_store::write(store, move |rows| {
        let mut round = Round {
            rows,
            rng: StdRng::seed_from_u64(context.seed),
            context: &context,
            now,
            decided: Decided::default(),
        };
        round.see(sights, looked_at)?;
        round.plan()?;
        Ok(round.decided)
    })
    .await
}

/// What the Machines API says: of the Machines that have a row, by name; and those that have none.
#[derive(Debug, Default)]
struct Sights {
    known: BTreeMap<MachineName, (Option<MachineId>, Sight)>,
    strays: Vec<MachineId>,
}

async fn look(machines: &dyn Machines, known: &[(Machine, u32)], context: &Context) -> Sights {
    let mut sights = Sights::default();
    // Rows of Machines that are gone count: what was given up may be made late, and only a list shows it.
    if known.is_empty() {
        return sights;
    }
    let present = known.iter().map(|(machine, _)| machine).filter(|machine| !is_gone(machine));
    let seen = match machines.list(&Label::new(OWNER_KEY, &context.owner)).await {
        Ok(seen) => seen,
        Err(error) => {
            tracing::warn!(%error, "cannot list the Machines; the next round asks again");
            return sights;
        }
    };
    let mut by_name: BTreeMap<&str, &Seen> = seen.iter().map(|seen| (seen.name.as_str(), seen)).collect();
    for machine in present {
        if let Some(seen) = by_name.remove(machine.name.as_str()) {
            sights.known.insert(machine.name.clone(), (Some(seen.id.clone()), sight(seen)));
        } else if let Some(id) = &machine.id {
            // A list may lag, and leaves out what is destroyed: ask for this one.
            let sight = match machines.get(id).await {
                Ok(seen) => sight(&seen),
                Err(MachineError::Gone(_)) => Sight::Gone,
                Err(_) => Sight::Pending,
            };
            sights.known.insert(machine.name.clone(), (None, sight));
        }
    }
    sights.strays = by_name
        .into_values()
        .filter(|seen| seen.reachable && !seen.state.is_gone())
        .map(|seen| seen.id.clone())
        .collect();
    sights
}

fn sight(seen: &Seen) -> Sight {
    match &seen.state {
        // What is said of a Machine whose server host does not answer may be old.
        _ if !seen.reachable => Sight::Pending,
        SeenState::Started => Sight::Running,
        SeenState::Stopped | SeenState::Suspended | SeenState::Failed => {
            Sight::Stopped(seen.exit.as_ref().map(|exit| midge_core::Exit {
                code: exit.code,
                oom_killed: exit.oom_killed,
                requested: exit.requested_stop,
            }))
        }
        SeenState::Destroyed | SeenState::LaunchFailed => Sight::Gone,
        _ => Sight::Pending,
    }
}

/// One round in its transaction.
struct Round<'a> {
    rows: &'a mut dyn Rows,
    rng: StdRng,
    context: &'a Context,
    now: Timestamp,
    decided: Decided,
}

impl Round<'_> {
    /// Writes what was seen.
    fn see(&mut self, sights: Sights, looked_at: Timestamp) -> Result<(), StoreError> {
        for (name, (id, sight)) in sights.known {
            let Some(mut machine) = self.rows.machine(&name)? else { continue };
            if let (None, Some(id)) = (&machine.id, id)
                && machine.act_at <= self.now
            {
                self.change(&mut machine, MachineEvent::Created { id })?;
            }
            self.change(&mut machine, MachineEvent::Seen { sight, looked_at })?;
        }
        // A row that was written since the look is not a stray's.
        let rows = self.rows.machines()?;
        for id in sights.strays {
            if !rows.iter().any(|(machine, _)| machine.id.as_ref() == Some(&id) && !is_gone(machine)) {
                self.decided.acts.push(Act::DestroyStray { id });
            }
        }
        Ok(())
    }

    fn plan(&mut self) -> Result<(), StoreError> {
        let machines = self.rows.machines()?;
        let counts = self.rows.job_counts(self.now)?;
        for (machine, _) in &machines {
            if is_gone(machine) && self.now.since(machine.since) > GONE_KEPT {
                self.rows.delete_machine(&machine.name)?;
            }
        }
        let mut queues = self.context.catalog.queues();
        queues.extend(counts.keys().cloned());
        queues.extend(machines.iter().map(|(machine, _)| machine.queue.clone()));
        let demand = |queue: &QueueName| QueueDemand {
            queue: queue.clone(),
            policy: self.context.catalog.policy(queue),
            due: counts.get(queue).map_or(0, midge_store::JobCounts::due),
        };
        let view = View {
            generation: self.context.catalog.generation.clone(),
            up_since: self.context.up_since,
            queues: queues.iter().map(demand).collect(),
            machines,
        };
        for action in plan(&view, self.now) {
            self.begin(action)?;
        }
        self.decided.machines =
            view.machines.iter().any(|(machine, _)| !is_gone(machine)) || !self.decided.acts.is_empty();
        self.decided.due = view.queues.iter().filter(|q| q.due > 0).map(|q| q.queue.clone()).collect();
        self.decided.waiting = counts.into_iter().map(|(queue, counts)| (queue, counts.waiting())).collect();
        self.decided.next_due = self.rows.next_due(self.now)?;
        Ok(())
    }

    /// Writes down that an action is under way, and what call it takes.
    fn begin(&mut self, action: Action) -> Result<(), StoreError> {
        match action {
            Action::Boot { queue } => self.fork(queue, MachineState::Creating),
            Action::Prepare { queue } => self.fork(queue, MachineState::Preparing),
            Action::Create(name) => self.with(&name, |round, machine| round.create(machine)),
            Action::Start(name) => self.with(&name, |round, machine| {
                let Some(id) = machine.id.clone() else { return Ok(()) };
                round.act_begun(machine, MachineState::Starting)?;
                let name = machine.name.clone();
                round.decided.acts.push(Act::Start { name, id });
                Ok(())
            }),
            Action::Drain(name) => self.with(&name, |round, machine| {
                round.decided.tell.push(machine.name.clone());
                let note = "a new generation takes its place".to_owned();
                round.change(machine, MachineEvent::DrainAsked { note })
            }),
            Action::GiveUp(name, note) => self.with(&name, |round, machine| {
                tracing::warn!(machine.name = %machine.name, note, "gave a Machine up");
                round.change(machine, MachineEvent::Overdue { note })?;
                round.destroy(machine)
            }),
            Action::Destroy(name) => self.with(&name, |round, machine| round.destroy(machine)),
        }
    }

    fn with(
        &mut self,
        name: &MachineName,
        then: impl FnOnce(&mut Self, &mut Machine) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        match self.rows.machine(name)? {
            Some(mut machine) => then(self, &mut machine),
            None => Ok(()),
        }
    }

    fn fork(&mut self, queue: QueueName, state: MachineState) -> Result<(), StoreError> {
        let policy = self.context.catalog.policy(&queue);
        let name = machine_name(self.now, &mut self.rng);
        let generation = self.context.catalog.generation.clone();
        self.create(&mut Machine::new(name, queue, generation, &policy, state, self.now))
    }

    /// Begins to make a Machine, under a secret that only its env and, as a hash, its row will know.
    fn create(&mut self, machine: &mut Machine) -> Result<(), StoreError> {
        let secret = secret::generate(&mut self.rng);
        // Written by the event below, which always changes the row.
        machine.secret_hash = crate::secret_hash(&secret);
        let launch = match machine.state {
            MachineState::Preparing => Launch::Later,
            _ => Launch::Now,
        };
        self.act_begun(machine, machine.state)?;
        let spec = Box::new(machine_spec(self.context, machine, &secret));
        self.decided.acts.push(Act::Create { spec, launch });
        Ok(())
    }

    fn destroy(&mut self, machine: &mut Machine) -> Result<(), StoreError> {
        self.act_begun(machine, MachineState::Destroying)?;
        self.decided.acts.push(Act::Destroy { name: machine.name.clone(), id: machine.id.clone() });
        Ok(())
    }

    fn act_begun(&mut self, machine: &mut Machine, state: MachineState) -> Result<(), StoreError> {
        let until = self.now.after(ACT_TIMEOUT);
        self.change(machine, MachineEvent::ActBegun { state, until })
    }

    fn change(&mut self, machine: &mut Machine, event: MachineEvent) -> Result<(), StoreError> {
        let released = change(self.rows, machine, event, self.now)?;
        self.decided.ended.extend(released.ended);
        if released.returned {
            self.decided.returned.push(machine.queue.clone());
        }
        Ok(())
    }
}

fn is_gone(machine: &Machine) -> bool {
    machine.state == MachineState::Gone
}

/// What became of the jobs of a Machine that may not exchange any more.
#[derive(Debug, Default)]
struct Released {
    ended: Vec<JobId>,
    returned: bool,
}

/// Applies an event to a Machine, and gives its jobs back where it may hold no lease any more.
fn change(
    rows: &mut dyn Rows,
    machine: &mut Machine,
    event: MachineEvent,
    now: Timestamp,
) -> Result<Released, StoreError> {
    let mut released = Released::default();
    let (suspect, note) = match &event {
        MachineEvent::Seen { sight: Sight::Stopped(Some(exit)), .. } => (exit.is_suspect(), exit.to_string()),
        MachineEvent::Overdue { note } => (true, note.clone()),
        _ => (false, "its Machine is gone".to_owned()),
    };
    let Ok(after) = machine.apply(event, now) else { return Ok(released) };
    if after.state != machine.state {
        let (from, to) = (machine.state.as_str(), after.state.as_str());
        tracing::info!(machine.name = %machine.name, machine.id = after.id.as_ref().map(MachineId::as_str), note = after.note, "Machine {from} -> {to}");
    }
    if machine.state.may_exchange() && !after.state.may_exchange() {
        for job in rows.jobs_leased(&machine.name)? {
            let lost = Event::MachineLost { machine: machine.name.clone(), suspect, note: note.clone() };
            let Ok(lost) = job.apply(lost, now) else { continue };
            rows.put_jobs(std::slice::from_ref(&lost.job))?;
            if let Some(attempt) = lost.attempt {
                rows.put_attempt(job.id, &attempt)?;
            }
            match lost.job.ended_at() {
                Some(_) => released.ended.push(job.id),
                None => released.returned = true,
            }
        }
    }
    // Most of what a round sees is as it was: then it writes nothing, and there is nothing to make durable.
    if after != *machine {
        rows.put_machine(&after)?;
        *machine = after;
    }
    Ok(released)
}

/// A name that rises with time, so that Machines list in the order in which they were made.
fn machine_name(now: Timestamp, rng: &mut StdRng) -> MachineName {
    let chance: u32 = rng.next_u32();
    MachineName::new(format!("midge-{:012x}-{chance:08x}", now.as_millis()))
        .expect("lower-case hex and hyphens are a Machine name")
}

fn machine_spec(context: &Context, machine: &Machine, secret: &Secret) -> MachineSpec {
    let policy: QueuePolicy = context.catalog.policy(&machine.queue);
    let fork = &context.fork;
    let mut env = context.catalog.manifest.env.clone();
    let ours = [
        ("MIDGE_SERVER", fork.server_url.clone()),
        ("MIDGE_MACHINE", machine.name.to_string()),
        ("MIDGE_SECRET", secret.expose().to_owned()),
        ("MIDGE_MODULES", context.catalog.modules_dir.display().to_string()),
        ("MIDGE_PLACES", machine.places.to_string()),
        ("MIDGE_WAIT", policy.wait.to_string()),
    ];
    env.extend(ours.map(|(key, value)| (key.to_owned(), value)));
    let metadata = [
        (OWNER_KEY, context.owner.clone()),
        ("midge_queue", machine.queue.to_string()),
        ("midge_generation", machine.generation.clone()),
    ];
    MachineSpec {
        name: machine.name.clone(),
        region: fork.region.clone(),
        image: fork.image.clone(),
        exec: fork.host.iter().cloned().chain(["work".to_owned()]).collect(),
        env,
        size: policy.size,
        metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into(),
    }
}

/// Takes up what an earlier server left: its calls to the Machines API are nobody's any more.
pub async fn take_over(store: &dyn Store, now: Timestamp, new_id: String) -> Result<String, StoreError> {
    midge_store::write(store, move |rows| {
        for (mut machine, _) in rows.machines()? {
            if machine.act_at > now {
                machine.act_at = now;
                rows.put_machine(&machine)?;
            }
        }
        if let Some(id) = rows.setting("store_id")? {
            return Ok(id);
        }
        rows.put_setting("store_id", &new_id)?;
        Ok(new_id)
    })
    .await
}
