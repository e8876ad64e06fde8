//! What passes between hosts and the server: late, twice, in another order, or not at all.

use std::time::Duration;

use midge_core::exchange::{ANSWER_TIMEOUT, Departure, Next, NotBegun, Todo};
use midge_protocol::exchange::{Answer, AttemptRef, FollowUp, Grant, Outcome, Request};
use midge_protocol::job::{Cause, Failure, Progress};
use midge_protocol::{BootId, MachineId, MachineName};
use midge_server::exchange::Denied;

use super::fleet::exit;
use super::host::{Host, Key, words};
use super::ledger::{Broken, is_given_back};
use super::people::POISON;
use super::world::{Event, World};

/// Who sent a request.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) id: MachineId,
    pub(super) boot: BootId,
    pub(super) name: MachineName,
    pub(super) secret_hash: String,
}

impl World {
    /// Lets a host do what it has to, until it waits for something.
    pub(super) fn host_acts(&mut self, id: &MachineId) -> Result<(), Broken> {
        loop {
            let now = self.now;
            let Some(host) = self.hosts.get_mut(id).filter(|host| !host.asleep) else { return Ok(()) };
            match host.next(now) {
                Next::Send(request) => self.host_sends(id, *request),
                Next::HandBack(attempts) => {
                    for attempt in attempts {
                        self.guest_stops(id, attempt, Outcome::HANDED_BACK, Vec::new());
                    }
                }
                Next::Reconnect => {
                    self.trace.count("hosts that stood still");
                    host.reconnects();
                }
                Next::Wait(at) => {
                    host.timer += 1;
                    let (boot, timer) = (host.boot, host.timer);
                    if let Some(at) = at {
                        self.after(at.since(now), Event::HostTimer { id: id.clone(), boot, timer });
                    }
                    return Ok(());
                }
                Next::Exit(Departure::Left) => {
                    let (run, stopping) = (host.run, host.stopping);
                    return self.host_leaves(id, run, stopping);
                }
                Next::Exit(Departure::Lost) => {
                    let (run, stopping) = (host.run, host.stopping);
                    self.trace.count("hosts that lost the server");
                    return self.machine_ends(id, run, exit(5, stopping));
                }
            }
        }
    }

    fn host_sends(&mut self, id: &MachineId, request: Request) {
        let now = self.now;
        let Some(host) = self.hosts.get(id) else { return };
        let (name, secret_hash) = (host.name.clone(), host.secret_hash.clone());
        let sender = Sender { id: id.clone(), boot: host.boot, name, secret_hash };
        let cut_off = now < host.cut_off_until;
        for finished in &request.finished {
            if is_given_back(&finished.outcome) {
                // Some were never begun here: the host gave them back by itself.
                self.ledger.host_said(finished.attempt, &finished.outcome);
            }
        }
        let timeout = Duration::from_millis(request.wait_ms.into()) + ANSWER_TIMEOUT;
        self.fails_after(timeout, &sender, request.seq, false);
        let copies = 1 + usize::from(self.chance.permille(self.faults.message_doubled));
        for _ in 0..copies {
            if cut_off || self.chance.permille(self.faults.message_lost) {
                self.trace.count("messages lost");
                if self.chance.below(2) == 0 {
                    // The connection breaks, and the host knows it: at once, where it was a kept one.
                    let (soon, at_once) = (self.message_delay(), self.chance.below(2) == 0);
                    self.fails_after(soon, &sender, request.seq, at_once);
                }
                continue;
            }
            let delay = self.message_delay();
            self.after(delay, Event::Request { sender: sender.clone(), request: request.clone() });
        }
    }

    /// A host learns after a while that a request has no answer, unless one came.
    pub(super) fn fails_after(&mut self, wait: Duration, sender: &Sender, seq: u64, at_once: bool) {
        let (id, boot) = (sender.id.clone(), sender.boot);
        self.after(wait, Event::RequestFails { id, boot, seq, at_once });
    }

    pub(super) fn message_delay(&mut self) -> Duration {
        if self.chance.permille(self.faults.message_late) {
            self.chance.millis(100, 60_000)
        } else {
            self.chance.millis(1, 20)
        }
    }

    /// The server answers a host.
    pub(super) fn answers(&mut self, to: &Sender, seq: u64, answer: Result<Answer, Denied>) {
        if self.chance.permille(self.faults.message_lost) {
            self.trace.count("messages lost");
            return;
        }
        let delay = self.message_delay();
        self.after(delay, Event::Answer { id: to.id.clone(), boot: to.boot, seq, answer });
    }

    /// A time has come that a host waited for.
    pub(super) fn host_timer(&mut self, id: &MachineId, boot: BootId, timer: u64) -> Result<(), Broken> {
        match self.hosts.get(id) {
            Some(host) if host.boot == boot && host.timer == timer => self.host_acts(id),
            _ => Ok(()),
        }
    }

    /// A request has no answer.
    pub(super) fn request_fails(
        &mut self,
        id: &MachineId,
        boot: BootId,
        seq: u64,
        at_once: bool,
    ) -> Result<(), Broken> {
        let now = self.now;
        if self.is_put_off(id, boot, || Event::RequestFails { id: id.clone(), boot, seq, at_once }) {
            return Ok(());
        }
        let Some(host) = self.hosts.get_mut(id).filter(|host| host.boot == boot) else { return Ok(()) };
        if !host.landed(seq) {
            return Ok(());
        }
        self.trace.count("requests without an answer");
        host.side.failed(seq, at_once, now);
        self.host_acts(id)
    }

    /// An answer reaches a host.
    pub(super) fn answered(
        &mut self,
        id: &MachineId,
        boot: BootId,
        seq: u64,
        answer: Result<Answer, Denied>,
    ) -> Result<(), Broken> {
        let now = self.now;
        // What comes while it stands still is there when it goes on, or is not.
        if self.chance_of_sleeper(id)
            && self.is_put_off(id, boot, || Event::Answer {
                id: id.clone(),
                boot,
                seq,
                answer: answer.clone(),
            })
        {
            return Ok(());
        }
        let listens = |host: &&mut Host| host.boot == boot && now >= host.cut_off_until && !host.asleep;
        let Some(host) = self.hosts.get_mut(id).filter(listens) else { return Ok(()) };
        if !host.landed(seq) {
            return Ok(());
        }
        let Ok(answer) = answer else {
            let (run, stopping) = (host.run, host.stopping);
            return self.machine_ends(id, run, exit(3, stopping));
        };
        let (given, running) = (answer.jobs.len(), host.side.running());
        let todos = host.side.answered(seq, answer, now);
        // What it had begun, or had given back, already.
        if !host.stopping && host.side.running() < running + given {
            self.trace.count("attempts given twice");
        }
        for todo in todos {
            match todo {
                Todo::Begin(grant) => self.granted(id, &grant)?,
                Todo::Saved(attempt) => {
                    let number = self.hosts.get_mut(id).and_then(|host| host.is_safe(attempt));
                    if let Some(number) = number {
                        self.trace.count("states that are safe");
                        self.ledger.checkpoints.is_safe(attempt, number);
                    }
                }
                Todo::Cancel(attempt) => self.guest_stops(id, attempt, Outcome::Cancelled, Vec::new()),
                Todo::Forget(attempt) => {
                    if let Some(host) = self.hosts.get_mut(id) {
                        host.forget(attempt);
                    }
                }
            }
        }
        self.host_acts(id)
    }

    fn host_leaves(&mut self, id: &MachineId, run: u32, stopping: bool) -> Result<(), Broken> {
        if self.chance.permille(self.faults.exit_hangs) {
            self.trace.say(self.now, format_args!("{id} hangs instead of leaving"));
            self.trace.count("hosts that hung");
            self.hosts.remove(id);
            return Ok(());
        }
        self.machine_ends(id, run, exit(0, stopping))
    }

    fn granted(&mut self, id: &MachineId, grant: &Grant) -> Result<(), Broken> {
        let (now, key) = (self.now, grant.attempt);
        let begin_fails = self.chance.permille(self.faults.begin_fails);
        let lacks_for_module = begin_fails && self.chance.below(2) == 0;
        let Some(host) = self.hosts.get_mut(id) else { return Ok(()) };
        if begin_fails {
            self.trace.say(now, format_args!("{id} cannot begin {}", words(key)));
            self.trace.count("attempts that could not begin");
            let why = if lacks_for_module {
                self.trace.count("modules for which a Machine lacked something");
                NotBegun::ModuleLacks("a secret".to_owned())
            } else {
                NotBegun::Lacks("threads".to_owned())
            };
            host.side.could_not_begin(grant.attempt, why, now);
            return Ok(());
        }
        if !host.begin(key) {
            return Err(Broken(format!("{id} has no place for {}", words(key))));
        }
        let boot = host.boot;
        self.attempt_began();
        self.ledger.begun(key, grant)?;
        if grant.saved.is_some() {
            self.trace.count("states that were found");
        }
        let (outcome, lasts) = self.draw_guest(key);
        self.trace.say(now, format_args!("{id} begins {} for {} ms", words(key), lasts.as_millis()));
        if self.chance.below(3) == 0 {
            let soon = self.chance.millis(0, 2_000);
            self.after(soon, Event::GuestSpeaks { id: id.clone(), boot, attempt: grant.attempt });
        }
        if grant.module.as_str() == POISON {
            let out_of_memory = self.chance.below(2) == 0;
            self.after(lasts, Event::GuestCrashes { id: id.clone(), boot, key, out_of_memory });
        } else {
            self.after(lasts, Event::GuestEnds { id: id.clone(), boot, key, outcome });
        }
        Ok(())
    }

    /// What a guest does, and how long it takes.
    fn draw_guest(&mut self, key: Key) -> (Outcome, Duration) {
        let lasts = match self.chance.below(10) {
            0 => self.chance.millis(20_000, 90_000),
            1..4 => self.chance.millis(500, 15_000),
            _ => self.chance.millis(1, 300),
        };
        let failed = |cause| Failure::new(cause, words(key));
        let kind = if self.quiet { 0 } else { self.chance.below(20) };
        let outcome = match kind {
            0..12 => Outcome::Completed { result: words(key).into() },
            12..14 => {
                let retry_after_ms = Some(self.chance.below(5_000));
                Outcome::Failed(Failure { retry_after_ms, ..failed(Cause::Exit) })
            }
            14..16 => Outcome::Failed(Failure { retry_after_ms: Some(0), ..failed(Cause::Exit) }),
            16 => Outcome::Failed(failed(Cause::Trap)),
            17 => Outcome::Failed(failed(Cause::Refused)),
            18 => Outcome::Snoozed { after_ms: 0 },
            _ => Outcome::Snoozed { after_ms: self.chance.below(20_000) },
        };
        (outcome, lasts)
    }

    /// A guest saves something and says how far it is.
    pub(super) fn guest_speaks(
        &mut self,
        id: &MachineId,
        boot: BootId,
        attempt: AttemptRef,
    ) -> Result<(), Broken> {
        let awake = |host: &&mut Host| host.boot == boot && !host.asleep;
        let Some(host) = self.hosts.get_mut(id).filter(awake) else { return Ok(()) };
        if !host.runs(attempt) {
            return Ok(());
        }
        let (number, state) = self.ledger.checkpoints.next(attempt);
        host.guest_saves(attempt, number, state);
        host.side.has_news([(attempt, Progress { done: 1, total: 2, message: words(attempt) })]);
        self.host_acts(id)
    }

    /// A guest ends by itself.
    pub(super) fn guest_ends(
        &mut self,
        id: &MachineId,
        boot: BootId,
        key: Key,
        outcome: Outcome,
    ) -> Result<(), Broken> {
        if self.is_put_off(id, boot, || Event::GuestEnds {
            id: id.clone(),
            boot,
            key,
            outcome: outcome.clone(),
        }) {
            return Ok(());
        }
        if self.hosts.get(id).is_some_and(|host| host.boot == boot && host.runs(key)) {
            let jobs = self.draw_follow_ups(key, &outcome);
            self.guest_stops(id, key, outcome, jobs);
            return self.host_acts(id);
        }
        Ok(())
    }

    /// A guest ends, by itself or because it is stopped.
    fn guest_stops(&mut self, id: &MachineId, key: Key, outcome: Outcome, jobs: Vec<FollowUp>) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id) else { return };
        if host.guest_ends(key, outcome.clone(), jobs, now) {
            self.ledger.host_said(key, &outcome);
        }
    }
}
