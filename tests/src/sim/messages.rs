//! What passes between hosts and the server: late, twice, in another order, or not at all.

use std::time::Duration;

use midge_protocol::exchange::{Answer, Grant, Outcome, Request};
use midge_protocol::job::{Cause, Failure};
use midge_protocol::{BootId, MachineId, MachineName};
use midge_server::exchange::Denied;

use super::fleet::exit;
use super::host::{Key, Taken, key, words};
use super::ledger::Broken;
use super::people::POISON;
use super::world::{Event, World};

/// A host sends again what was not answered so long after it should have been.
const PATIENCE: Duration = Duration::from_secs(5);
/// A host that has not heard of a server for so long gives up.
const SERVER_LOST: Duration = Duration::from_secs(150);
/// A draining host that has nothing to say is quiet for so long, as each of its requests is answered at once.
const DRAINING_PAUSE: Duration = Duration::from_secs(3);

/// Who sent a request.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) id: MachineId,
    pub(super) boot: BootId,
    pub(super) name: MachineName,
    pub(super) secret_hash: String,
}

impl World {
    /// A host sends a request.
    pub(super) fn host_says(&mut self, id: &MachineId) -> Result<(), Broken> {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id) else { return Ok(()) };
        if now.since(host.heard_at) > SERVER_LOST {
            let run = host.run;
            self.trace.count("hosts that lost the server");
            return self.machine_ends(id, run, exit(1, false));
        }
        let request = host.request(now);
        let (name, secret_hash) = (host.name.clone(), host.secret_hash.clone());
        let sender = Sender { id: id.clone(), boot: host.boot, name, secret_hash };
        let cut_off = now < host.cut_off_until;
        let again = Duration::from_millis(request.wait_ms.into()) + PATIENCE;
        self.after(again, Event::HostTimer { id: id.clone(), boot: request.boot, seq: request.seq });
        let copies = 1 + usize::from(self.chance.permille(self.faults.message_doubled));
        for _ in 0..copies {
            if cut_off || self.chance.permille(self.faults.message_lost) {
                self.trace.count("messages lost");
                continue;
            }
            let delay = self.message_delay();
            self.after(delay, Event::Request { sender: sender.clone(), request: request.clone() });
        }
        Ok(())
    }

    fn message_delay(&mut self) -> Duration {
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

    /// A host sends again, unless it has sent something since.
    pub(super) fn host_timer(&mut self, id: &MachineId, boot: BootId, seq: u64) -> Result<(), Broken> {
        match self.hosts.get(id) {
            Some(host) if host.boot == boot && host.seq == seq => self.host_says(id),
            _ => Ok(()),
        }
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
        let Some(host) = self.hosts.get_mut(id).filter(|h| h.boot == boot && now >= h.cut_off_until) else {
            return Ok(());
        };
        let (run, stopping) = (host.run, host.stopping);
        let drain = answer.as_ref().is_ok_and(|answer| answer.drain);
        let Some(leaving) = host.acknowledged(seq, drain, now) else { return Ok(()) };
        let answer = match answer {
            Ok(answer) if answer.left => return self.host_leaves(id, run, stopping),
            Ok(answer) => answer,
            Err(_) => return self.machine_ends(id, run, exit(i32::from(!leaving), stopping)),
        };
        for attempt in answer.cancel {
            if host.ends(key(attempt), Outcome::Cancelled, now) {
                self.ledger.host_said(key(attempt), &Outcome::Cancelled);
            }
        }
        for grant in &answer.jobs {
            self.granted(id, grant)?;
        }
        let Some(host) = self.hosts.get(id).filter(|host| host.seq == seq || host.has_ended()) else {
            return Ok(());
        };
        if host.is_draining() && !host.has_ended() && !host.is_idle() {
            self.after(DRAINING_PAUSE, Event::HostTimer { id: id.clone(), boot, seq: host.seq });
            return Ok(());
        }
        self.host_says(id)
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
        let (now, key) = (self.now, key(grant.attempt));
        let Some(host) = self.hosts.get_mut(id) else { return Ok(()) };
        match host.take(grant) {
            Taken::Begun => {}
            Taken::Known => {
                self.trace.count("attempts given twice");
                return Ok(());
            }
            Taken::Declined => return Ok(()),
            Taken::TooMany => return Err(Broken(format!("{id} has no place for {}", words(key)))),
        }
        let (boot, run) = (host.boot, host.run);
        self.ledger.begun(key, grant)?;
        let (outcome, lasts) = self.draw_guest(key);
        self.trace.say(now, format_args!("{id} begins {} for {} ms", words(key), lasts.as_millis()));
        if grant.module.as_str() == POISON {
            self.after(lasts, Event::MachineEnds { id: id.clone(), run, exit: exit(139, false) });
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

    /// A guest ends by itself.
    pub(super) fn guest_ends(
        &mut self,
        id: &MachineId,
        boot: BootId,
        key: Key,
        outcome: Outcome,
    ) -> Result<(), Broken> {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id).filter(|host| host.boot == boot) else { return Ok(()) };
        if !host.ends(key, outcome.clone(), now) {
            return Ok(());
        }
        self.ledger.host_said(key, &outcome);
        self.host_says(id)
    }
}

/// Returns whether an answer to the request is not held back.
pub(super) fn reports(request: &Request) -> bool {
    !(request.finished.is_empty() && request.handed_back.is_empty() && request.log.is_empty())
}
