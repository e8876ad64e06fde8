//! The server's process: rounds, calls under way and parked exchanges, all of which a crash ends.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Polled, Poll, Waker};
use std::time::Duration;

use midge_core::exchange::Parked;
use midge_core::{Found, Rounds};
use midge_protocol::exchange::Request;
use midge_protocol::job::{AttemptLimits, RetryPolicy};
use midge_protocol::manifest::{self, Manifest, ModuleEntry, Prices, ServerPolicy};
use midge_protocol::{QueueName, Timestamp, limits};
use midge_server::dispatcher::{self, Act, Decided};
use midge_server::exchange::{self, ExchangeError, Exchanged};
use midge_server::{Catalog, Fork, Live, ServiceError};
use midge_store::{Rows, Store, StoreError};

use super::faults::Fault;
use super::ledger::Broken;
use super::messages::Sender;
use super::people::{MODULES, draw_max_machines};
use super::world::{Event, World};

/// What the manifest says of each module. Nobody looks at it.
fn entry() -> ModuleEntry {
    ModuleEntry {
        file: String::new(),
        size: 0,
        sha256: String::new(),
        xxh3: String::new(),
        source_sha256: String::new(),
        queue: QueueName::default_queue(),
        limits: AttemptLimits::default(),
        retry: RetryPolicy::default(),
        env: Vec::new(),
        dirs: BTreeMap::new(),
        enqueues: MODULES.iter().map(|name| name.parse().expect("a plain name")).collect(),
        http: Vec::new(),
        secrets: BTreeMap::new(),
    }
}

/// What a catalog is made of: the generation, the most Machines, whether it has all modules and no schedule, and how often
/// settings of queues were changed.
pub(super) type MadeOf = (u64, u32, bool, bool, u64);

type Running<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// Runs a future that has nothing to wait for.
pub(super) fn at_once<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Polled::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("rows in memory are there at once"),
    }
}

/// One life of the server's process.
pub(super) struct Server {
    owner: String,
    up_since: Timestamp,
    /// Since when the dispatcher knows that its clock was not set.
    even_since: Timestamp,
    deciding: Option<Running<Decided>>,
    /// Decided, and not begun.
    decided: BTreeMap<u64, Act>,
    acting: Vec<Running<()>>,
    held_back: BTreeMap<u64, HeldBack>,
    acts: u64,
    rounds: Rounds,
    /// The newest appointment for a round: earlier ones are void.
    round: u64,
}

/// An exchange whose answer is held back.
struct HeldBack {
    sender: Sender,
    request: Request,
    parked: Parked,
}

impl World {
    /// The process begins.
    pub(super) fn server_starts(&mut self) {
        if self.server.is_some() {
            return;
        }
        let new_id = format!("{:016x}", self.chance.number());
        self.server_s_clock_starts();
        let now = self.told();
        let taken = at_once(dispatcher::take_over(&*self.store, now, new_id));
        let Ok(owner) = taken else {
            let again = self.chance.millis(100, 2_000);
            self.after(again, Event::ServerStarts);
            return;
        };
        if !self.quiet && self.chance.below(3) == 0 {
            self.max_machines = draw_max_machines(&mut self.chance);
        }
        self.ledger.server_began(self.now);
        let (generation, max) = (self.generation, self.max_machines);
        self.trace
            .say(self.now, format_args!("server starts, generation {generation}, {max} Machines at most"));
        self.server = Some(Server {
            owner,
            up_since: now,
            even_since: now,
            deciding: None,
            decided: BTreeMap::new(),
            acting: Vec::new(),
            held_back: BTreeMap::new(),
            acts: 0,
            rounds: Rounds::new(now),
            round: 0,
        });
        self.next_round();
        self.sweep_goes_on();
        self.after(Duration::ZERO, Event::Prune { epoch: self.epoch });
    }

    /// The process ends without a word. Only the store is left.
    pub(super) fn server_crashes(&mut self) {
        let Some(server) = self.server.take() else { return };
        for held_back in server.held_back.into_values() {
            // Its connection breaks, and the host knows it.
            let soon = self.message_delay();
            self.fails_after(soon, &held_back.sender, held_back.request.seq, false);
        }
        self.trace.say(self.now, format_args!("server crashes"));
        self.trace.count("crashes of the server");
        self.epoch += 1;
        // What was called and not sent yet is lost or not, as chance has it.
        self.calls.forget();
        let away = if self.chance.below(4) == 0 {
            self.chance.millis(10_000, 90_000)
        } else {
            self.chance.millis(100, 5_000)
        };
        self.after(away, Event::ServerStarts);
    }

    /// The process may crash at any of its steps.
    pub(super) fn may_crash(&mut self) {
        if self.chance.permille(self.faults.crash_at_step) {
            self.server_crashes();
        }
    }

    /// Returns whether a round is under way.
    pub(super) fn is_deciding(&self) -> bool {
        self.server.as_ref().is_some_and(|server| server.deciding.is_some())
    }

    /// Makes an appointment for the next round.
    fn next_round(&mut self) {
        let now = self.told();
        let Some(server) = &mut self.server else { return };
        server.round += 1;
        let (round, wait) = (server.round, server.rounds.wait(now));
        self.after(wait, Event::Round { epoch: self.epoch, round });
    }

    /// Something changed that a round should look at.
    pub(super) fn hint(&mut self) {
        if self.chance.permille(self.faults.hint_lost) {
            return;
        }
        if let Some(server) = &mut self.server {
            server.rounds.hint();
            if server.deciding.is_none() {
                self.next_round();
            }
        }
        self.wake_parked();
    }

    fn wake_parked(&mut self) {
        let parked: Vec<u64> =
            self.server.iter().flat_map(|server| server.held_back.keys().copied()).collect();
        for number in parked {
            let soon = self.chance.millis(0, 5);
            self.after(soon, Event::ParkedLooks { epoch: self.epoch, parked: number, slept: false });
        }
    }

    /// A round begins.
    pub(super) fn round_begins(&mut self, epoch: u64, round: u64) -> Result<(), Broken> {
        let (store, calls, clock) = (self.store.clone(), self.calls.clone(), self.clock.clone());
        let now = self.told();
        let Some(server) = &mut self.server else { return Ok(()) };
        if epoch != self.epoch || round != server.round || server.deciding.is_some() {
            return Ok(());
        }
        if !server.rounds.wait(now).is_zero() {
            self.next_round();
            return Ok(());
        }
        let looks = server.rounds.begin(now);
        if let Err(failed) = at_once(dispatcher::follow_clock(&*store, &*clock, &mut server.even_since)) {
            self.decided(Err(failed));
            return Ok(());
        }
        let context = self.round_context(looks);
        let Some(server) = &mut self.server else { return Ok(()) };
        server.deciding = Some(Box::pin(async move {
            dispatcher::decide(&*store, &*calls, &context.ok_or(gone())?, &*clock).await
        }));
        self.poll_server()
    }

    fn round_context(&mut self, looks: bool) -> Option<dispatcher::Context> {
        let catalog = self.catalog();
        let seed = self.chance.number();
        let server = self.server.as_ref()?;
        let fork = Fork {
            image: "sim".to_owned(),
            env: BTreeMap::new(),
            size: None,
            region: None,
            host: vec!["midge-host".to_owned()],
            server_url: "http://sim".to_owned(),
        };
        Some(dispatcher::Context {
            catalog,
            fork,
            owner: server.owner.clone(),
            up_since: server.up_since,
            looks,
            seeks_strays: looks,
            seed,
        })
    }

    /// Returns what is deployed. It is made anew only where that is another.
    pub(super) fn catalog(&mut self) -> Arc<Catalog> {
        let (all, no_schedule) = (self.serves_all(), self.schedules.is_empty());
        let of: MadeOf = (self.generation, self.max_machines, all, no_schedule, self.settings_changed);
        let made = self.catalog_made.take().filter(|(made_of, _)| *made_of == of);
        let (_, catalog) =
            self.catalog_made.insert(made.unwrap_or_else(|| (of, Arc::new(self.new_catalog()))));
        catalog.clone()
    }

    fn new_catalog(&self) -> Catalog {
        Catalog {
            manifest: Manifest {
                format: manifest::FORMAT,
                wasmtime: String::new(),
                config_hash: String::new(),
                cpu: String::new(),
                modules: self.served().into_iter().map(|name| (name, entry())).collect(),
                server: ServerPolicy { max_machines: Some(self.max_machines), ..ServerPolicy::default() },
                prices: Prices::default(),
                queues: self.policies.clone(),
                schedules: self.schedules.clone(),
                env: BTreeMap::new(),
                secrets: BTreeMap::new(),
            },
            generation: format!("g{}", self.generation),
            modules_dir: PathBuf::from("modules"),
            live: Live::default(),
        }
    }

    /// A decided call begins.
    pub(super) fn act_begins(&mut self, epoch: u64, act: u64) -> Result<(), Broken> {
        let context = self.round_context(false);
        let (store, calls, clock) = (self.store.clone(), self.calls.clone(), self.clock.clone());
        let Some(server) = self.server.as_mut().filter(|_| epoch == self.epoch) else { return Ok(()) };
        let Some(act) = server.decided.remove(&act) else { return Ok(()) };
        server.acting.push(Box::pin(async move {
            dispatcher::act(&*store, &*calls, act, &context.ok_or(gone())?, &*clock).await.map(drop)
        }));
        self.poll_server()
    }

    /// Lets the process go on, as far as it can.
    pub(super) fn poll_server(&mut self) -> Result<(), Broken> {
        let running = self.may_be_forgotten();
        let Some(server) = &mut self.server else { return Ok(()) };
        let polled = &mut Polled::from_waker(Waker::noop());
        let mut acted = 0;
        server.acting.retain_mut(|acting| {
            let done = acting.as_mut().poll(polled).is_ready();
            acted += usize::from(done);
            !done
        });
        let decided = server.deciding.as_mut().map(|deciding| deciding.as_mut().poll(polled));
        if let Some(Poll::Ready(decided)) = decided {
            server.deciding = None;
            self.decided(decided);
        } else if acted > 0 {
            server.rounds.call_ended();
            if server.deciding.is_none() {
                self.next_round();
            }
            self.wake_parked();
        }
        self.send_calls();
        if !running.is_empty() {
            self.forget_given_back(running);
        }
        self.check()?;
        self.may_crash();
        Ok(())
    }

    fn decided(&mut self, decided: Result<Decided, StoreError>) {
        let now = self.told();
        let Some(server) = &mut self.server else { return };
        let found = decided.as_ref().map_or(Found::Failed, Decided::found);
        server.rounds.end(found, now);
        let Ok(decided) = decided else { return self.next_round() };
        for act in decided.acts {
            server.acts += 1;
            server.decided.insert(server.acts, act);
            let soon = self.chance.millis(0, 30);
            let event = Event::ActBegins { epoch: self.epoch, act: server.acts };
            self.agenda.after(self.now, soon, event);
        }
        self.next_round();
        if !decided.due.is_empty() || !decided.tell.is_empty() || !decided.returned.is_empty() {
            self.wake_parked();
        }
    }

    /// A request reaches the server.
    pub(super) fn requested(&mut self, sender: Sender, mut request: Request) -> Result<(), Broken> {
        if self.server.is_none() {
            // Nobody listens there: the connection is refused.
            let soon = self.message_delay();
            self.fails_after(soon, &sender, request.seq, false);
            return Ok(());
        }
        if self.fault == Some(Fault::FenceNotChecked) {
            self.forge_late_reports(&sender, &mut request)?;
        }
        if self.fault == Some(Fault::EnqueueNotChecked) {
            self.forge_enqueues(&sender, &mut request);
        }
        let parked = Parked::new(&request, self.told());
        self.look(None, HeldBack { sender, request, parked })?;
        // The Machine's older request, still parked, learns that this one is newer.
        self.wake_parked();
        Ok(())
    }

    /// An exchange whose answer is held back looks again: it was woken, or it has slept.
    pub(super) fn parked_looks(&mut self, epoch: u64, number: u64, slept: bool) -> Result<(), Broken> {
        let Some(server) = self.server.as_mut().filter(|_| epoch == self.epoch) else { return Ok(()) };
        let Some(held_back) = server.held_back.remove(&number) else { return Ok(()) };
        self.look(Some((number, slept)), held_back)
    }

    /// Makes an exchange, and answers it or holds the answer back. One that was held back has a number.
    fn look(&mut self, again: Option<(u64, bool)>, held_back: HeldBack) -> Result<(), Broken> {
        let HeldBack { sender, request, parked } = held_back;
        let Some(done) = self.exchange(&sender, &request)? else { return Ok(()) };
        let now = self.told();
        let Some(server) = &mut self.server else { return Ok(()) };
        if parked.is_answered(&request, &done.answer, done.stale, now) {
            self.answers(&sender, request.seq, Ok(done.answer));
            return Ok(());
        }
        let number = again.map_or_else(
            || {
                server.acts += 1;
                server.acts
            },
            |(number, _)| number,
        );
        server.held_back.insert(number, HeldBack { sender, request, parked });
        let epoch = self.epoch;
        let looks = |slept| Event::ParkedLooks { epoch, parked: number, slept };
        if again.is_none_or(|(_, slept)| slept) {
            // Never longer than this: the clock may be put back.
            self.after(parked.until.since(now).min(limits::HEARTBEAT), looks(true));
        }
        if let Some(at) = done.look_at.filter(|at| *at < parked.until) {
            self.after(at.since(now), looks(false));
        }
        Ok(())
    }

    /// Calls the server's own function. What is denied is answered here; a store that fails answers nothing.
    pub(super) fn exchange(
        &mut self,
        sender: &Sender,
        request: &Request,
    ) -> Result<Option<Exchanged>, Broken> {
        let mut catalog = self.catalog();
        let jitter = self.chance.fraction();
        let before = self.spoil_before(sender, request, &mut catalog);
        let context = exchange::Context { catalog, jitter };
        let (name, hash) = (sender.name.clone(), sender.secret_hash.clone());
        let (store, now) = (self.store.clone(), self.told());
        let exchange = || {
            let (context, name, hash) = (context.clone(), name.clone(), hash.clone());
            at_once(exchange::exchange(&*store, context, name, hash, request.clone(), now))
        };
        let mut done = exchange();
        if self.spoil_after(before) {
            done = exchange();
        }
        self.check()?;
        match done {
            Err(ExchangeError::Store(_)) => {
                // The server says that it failed.
                let soon = self.message_delay();
                self.fails_after(soon, sender, request.seq, false);
                Ok(None)
            }
            Err(ExchangeError::Denied(denied)) => {
                self.trace.say(self.now, format_args!("server denies {}: {denied}", sender.id));
                self.trace.count("hosts denied");
                self.answers(sender, request.seq, Err(denied));
                Ok(None)
            }
            Ok(mut done) => {
                // Somebody follows, or nobody: a host only tells more often.
                done.answer.followed = self.chance.below(4) == 0;
                if !done.stale {
                    self.ledger.heard(&sender.name, self.now);
                }
                self.trace_exchange(sender, request, &done);
                if done.changed {
                    self.hint();
                }
                if done.unblocked {
                    self.wake_parked();
                }
                self.may_crash();
                Ok(self.server.is_some().then_some(done))
            }
        }
    }

    fn trace_exchange(&mut self, sender: &Sender, request: &Request, done: &Exchanged) {
        let jobs: Vec<_> = done.answer.jobs.iter().map(|grant| grant.attempt).collect();
        let finished: Vec<_> = request.finished.iter().map(|f| f.attempt).collect();
        self.trace.say(
            self.now,
            format_args!(
                "{} {:?} #{} room={} leaving={} running={} finished={finished:?} -> jobs={jobs:?} \
                 cancel={} drain={} left={} stale={}",
                sender.id,
                request.boot,
                request.seq,
                request.room,
                request.leaving,
                request.running.len(),
                done.answer.cancel.len(),
                done.answer.drain,
                done.answer.left,
                done.stale,
            ),
        );
        if done.stale {
            self.trace.count("stale requests");
        }
        if done.answer.left {
            self.trace.count("hosts that left");
        }
        if done.answer.drain {
            self.trace.count("hosts told to drain");
        }
    }

    /// Does what the API does for people: in one transaction. Returns nothing where the server or the store is away.
    pub(super) fn ask<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut dyn Rows) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<Option<T>, Broken> {
        Ok(self.ask_for(|rows| Ok(work(rows)?))?.and_then(Result::ok))
    }

    /// Does what the API does for people, as [`World::ask`], where the API may refuse it.
    pub(super) fn ask_for<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut dyn Rows) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<Option<Result<T, ServiceError>>, Broken> {
        if self.server.is_none() {
            return Ok(None);
        }
        let store: &dyn Store = &*self.store;
        let done = at_once(midge_store::write(store, work));
        self.check()?;
        if done.is_ok() {
            self.hint();
        }
        Ok(Some(done).filter(|done| !matches!(done, Err(ServiceError::Store(_)))))
    }
}

fn gone() -> StoreError {
    StoreError::Failed("the server is gone".to_owned())
}
