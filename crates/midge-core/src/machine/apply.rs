//! What an event makes of a Machine.

use std::time::Duration;

use midge_protocol::{BootId, MachineId, Timestamp, limits};

use super::MachineState::{
    Creating, Destroying, Draining, Gone, Left, Preparing, Ready, Resting, Starting, Up,
};
use super::{
    Call, CallFailure, Loss, Machine, MachineChange, MachineEnd, MachineEvent, MachineRefused, MachineState,
    Sight, Sleep,
};

/// A call to the Machines API counts as lost after this. The longest, a create with its tries, has ended before.
const CALL_TIMEOUT: Duration = Duration::from_secs(4 * 60);
/// The shortest wait after a call that was one too many, where the Machines API does not say.
const RATE_LIMITED_WAIT: Duration = Duration::from_secs(1);
/// The longest such wait that the Machines API is believed: else one odd answer would keep a Machine for ever.
const RATE_LIMITED_WAIT_MAX: Duration = Duration::from_secs(10 * 60);
/// The shortest wait after a call that fails until a person has done something.
const NEEDS_PERSON_WAIT: Duration = Duration::from_secs(30);
/// The longest wait between two calls that fail.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(60);
/// So often a call that needs a person is made at the shortest wait. From then on the wait doubles.
const NEEDS_PERSON_SOON: u32 = 3;
/// A Machine that is to be destroyed, and of whose app it was said so often in a row that it is not there, is taken for gone:
/// a minute, in which an odd answer or a token that is being replaced is over.
const NO_APP_TIMES: u32 = 3;
/// The longest wait after a call that fails until a person has done something: who has done it waits no longer.
const NEEDS_PERSON_WAIT_MAX: Duration = Duration::from_secs(5 * 60);

/// Returns the latest time at which a Machine may be called about again, as of a time.
pub(super) fn latest_act(now: Timestamp) -> Timestamp {
    now.after(CALL_TIMEOUT.max(RATE_LIMITED_WAIT_MAX))
}

impl Machine {
    /// Applies an event, or says that it does not apply. The Machine itself is left as it is.
    pub fn apply(&self, event: MachineEvent, now: Timestamp) -> Result<MachineChange, MachineRefused> {
        let loss = self.loss(&event);
        let stopped = matches!(
            event,
            MachineEvent::Seen { sight: Sight::Stopped(_), looked_at, .. } if looked_at > self.since
        );
        let mut machine = match event {
            MachineEvent::CallBegun(call) => self.call_begun(call, now),
            MachineEvent::Created { id } => self.created(id, now),
            MachineEvent::Started => self.answered(self.state, now),
            MachineEvent::SuspendAccepted if self.state == Resting => {
                Machine { sleep: Sleep::FallsAsleep, ..self.answered(Resting, now) }
            }
            MachineEvent::SuspendAccepted => self.clone(),
            MachineEvent::Destroyed => self.now_is(Gone, now),
            MachineEvent::CallFailed { call, failure, note } => self.call_failed(call, failure, note, now),
            MachineEvent::TakenOver => {
                let machine = self.without_times_ahead(now).unwrap_or_else(|| self.clone());
                Machine { act_at: self.act_at.min(now), calling: false, ..machine }
            }

            MachineEvent::Heard { boot, seq, generation } => self.heard(boot, seq, &generation, now)?,
            MachineEvent::Granted { attempts, apart } if self.state == Up => {
                Machine { attempts: self.attempts.saturating_add(attempts), apart, ..self.clone() }
            }
            MachineEvent::Left if matches!(self.state, Up | Draining) => self.now_is(Left, now),
            MachineEvent::Rests if self.state == Up => {
                // Called about at once, whatever call about it failed before.
                Machine { act_at: now, act_failures: 0, calling: false, ..self.now_is(Resting, now) }
            }
            MachineEvent::StaysAwake { note } if self.state == Resting => self.stays_awake(note, now),
            MachineEvent::Granted { .. }
            | MachineEvent::Left
            | MachineEvent::Rests
            | MachineEvent::StaysAwake { .. } => return Err(MachineRefused(self.state)),

            MachineEvent::Outdated => self.outdated(now)?,
            MachineEvent::GaveWay if self.state == Up => {
                let draining = self.now_is(Draining, now).noted("it gives way to jobs of another queue");
                Machine { gives_way: true, ..draining }
            }
            MachineEvent::NotNeeded { note } if self.state == Up => self.now_is(Draining, now).noted(note),
            MachineEvent::Retired { note } if self.state == Up => {
                Machine { retired: true, ..self.now_is(Draining, now).noted(note) }
            }
            MachineEvent::Lacks { what } if self.state == Up => {
                let note = format!("its host lacks {what}");
                Machine { lacks: true, ..self.now_is(Draining, now).noted(note) }
            }
            MachineEvent::Lacks { .. } | MachineEvent::NotNeeded { .. } | MachineEvent::Retired { .. } => {
                return Err(MachineRefused(self.state));
            }
            MachineEvent::GaveWay => return Err(MachineRefused(self.state)),
            MachineEvent::DrainAsked => self.drain_asked(now)?,
            MachineEvent::GivenUp { note } => self.given_up(note, now),

            MachineEvent::Seen { id, region, sight, looked_at } => {
                let seen = self.seen(id, sight, looked_at, now);
                // It stays where it is, however old the answer.
                Machine { region: region.or_else(|| self.region.clone()), ..seen }
            }
        };
        machine.meter = self.meter_of(&machine, stopped, now);
        let loses = self.state.may_exchange() && !machine.state.may_exchange();
        Ok(MachineChange { machine, loss: loses.then_some(loss) })
    }

    /// The Machine in another state, or in the same one since the same time.
    fn now_is(&self, state: MachineState, now: Timestamp) -> Machine {
        let mut machine = self.clone();
        if state != self.state {
            (machine.state, machine.since) = (state, now);
            // What comes next for it is a call of its own.
            if matches!(state, Ready | Destroying) {
                (machine.act_at, machine.calling) = (now, false);
            }
        }
        machine
    }

    fn noted(self, note: impl Into<String>) -> Machine {
        let mut note = note.into();
        // It may be a host's words, or the Machines API's.
        note.truncate(note.floor_char_boundary(limits::MESSAGE_BYTES_MAX));
        Machine { note: Some(note), ..self }
    }

    fn call_begun(&self, call: Call, now: Timestamp) -> Machine {
        let state = match call {
            Call::Create | Call::Suspend => self.state,
            Call::Start => Starting,
            Call::Destroy => Destroying,
        };
        Machine { act_at: now.after(CALL_TIMEOUT), calling: true, ..self.now_is(state, now) }
    }

    /// The call that was under way succeeded: what was seen before now is old.
    fn answered(&self, state: MachineState, now: Timestamp) -> Machine {
        let after = self.now_is(state, now);
        Machine { act_failures: 0, act_at: now, since: now, calling: false, refused: false, ..after }
    }

    fn created(&self, id: MachineId, now: Timestamp) -> Machine {
        // Its host may have been faster than the answer to the call that made it.
        let state = if self.state == Creating { Starting } else { self.state };
        Machine { id: Some(id), ..self.answered(state, now) }
    }

    fn call_failed(&self, call: Call, failure: CallFailure, note: String, now: Timestamp) -> Machine {
        match (call, failure) {
            (Call::Create, CallFailure::Ambiguous) if matches!(self.state, Creating | Preparing) => {
                let lost = self.now_is(Destroying, now).noted("it is not known whether it was made");
                Machine { boot_failed: true, ..lost }
            }
            // It was made: its host phoned home, or it was seen.
            (Call::Create, CallFailure::Ambiguous) => self.answered(self.state, now),
            (Call::Start | Call::Suspend | Call::Destroy, CallFailure::Gone) => self.now_is(Gone, now),
            // It is suspended, or was started again: what became of the call is old.
            (Call::Suspend, _) if self.state != Resting => self.clone(),
            (Call::Suspend, CallFailure::NeedsPerson | CallFailure::NoApp) => self.stays_awake(note, now),
            // Its host has no right to anything any more, and who could say whether it is there says that its app is not.
            // Where it was the token, and it is there, it is a stray as soon as one is good.
            (Call::Destroy, CallFailure::NoApp) if self.act_failures + 1 >= NO_APP_TIMES => {
                self.now_is(Gone, now).noted(note)
            }
            // Another Machine can do its work; this one cannot be had for now.
            (Call::Start, CallFailure::NoCapacity) => self.given_up(note, now),
            _ => {
                let act_failures = self.act_failures.saturating_add(1);
                let wait = least_wait(failure, act_failures).max(retry_wait(act_failures));
                let refused = match failure {
                    CallFailure::NeedsPerson | CallFailure::NoApp | CallFailure::NoCapacity => {
                        call == Call::Create
                    }
                    // What was said before may still hold.
                    _ => self.refused,
                };
                let mut failed = Machine { act_failures, refused, calling: false, ..self.clone() };
                if (call, failure) == (Call::Create, CallFailure::NoCapacity) {
                    failed.no_room = self.no_room.wrapping_add(1);
                    failed.no_room_at = Some(now);
                }
                Machine { act_at: now.after(wait), ..failed }.noted(note)
            }
        }
    }

    fn heard(
        &self,
        boot: BootId,
        seq: u64,
        generation: &str,
        now: Timestamp,
    ) -> Result<Machine, MachineRefused> {
        if !self.state.may_exchange() {
            return Err(MachineRefused(self.state));
        }
        let newest = if self.boot == Some(boot) { self.seq.max(seq) } else { seq };
        // A host does not forget that it was told to drain, so neither does its row, whatever is deployed next.
        let machine = match self.state {
            Draining => self.clone(),
            // It says that it is still there. It is started before it takes jobs again.
            Resting => self.clone(),
            _ if self.is_outdated(generation) => self.outdated(now)?,
            Up => self.clone(),
            _ => Machine { sleep: self.sleep.awake(), ..self.now_is(Up, now) },
        };
        Ok(Machine { boot: Some(boot), seq: newest, heard_at: Some(now), unreachable: false, ..machine })
    }

    fn outdated(&self, now: Timestamp) -> Result<Machine, MachineRefused> {
        Ok(self.takes_no_more(now)?.noted("a new generation takes its place"))
    }

    fn stays_awake(&self, note: String, now: Timestamp) -> Machine {
        let note = format!("it is not suspended, and stops instead: {note}");
        let draining = self.now_is(Draining, now).noted(note);
        Machine { sleep: Sleep::StaysAwake, act_failures: 0, act_at: now, calling: false, ..draining }
    }

    fn drain_asked(&self, now: Timestamp) -> Result<Machine, MachineRefused> {
        // One that has left would rest, and be started again.
        let machine = if self.state == Left { self.clone() } else { self.takes_no_more(now)? };
        Ok(Machine { drained: true, ..machine }.noted("somebody drains it"))
    }

    /// The Machine on its way out: it finishes what it runs, or goes at once.
    fn takes_no_more(&self, now: Timestamp) -> Result<Machine, MachineRefused> {
        let state = match self.state {
            Creating | Starting | Up | Draining => Draining,
            Preparing | Ready | Resting => Destroying,
            Left | Destroying | Gone => return Err(MachineRefused(self.state)),
        };
        // Of one that is being started, only the host of the start before was heard.
        let heard_at = self.heard_at.filter(|_| self.state != Starting);
        Ok(Machine { heard_at, ..self.now_is(state, now) })
    }

    fn given_up(&self, note: String, now: Timestamp) -> Machine {
        if self.state == Gone {
            return self.clone();
        }
        // One that was refused was never made, and so did not fail to boot.
        let boot_failed = matches!(self.state, Creating | Preparing | Starting) && !self.is_refused();
        Machine { boot_failed, ..self.now_is(Destroying, now).noted(note) }
    }

    /// Whether it is destroyed once its host has stopped, and not kept to be started again.
    pub(super) fn never_rests(&self) -> bool {
        let is_to_go = self.gives_way || self.lacks || self.drained || self.retired;
        self.single_use || is_to_go || self.state == Draining
    }

    /// What an event means for the jobs of the Machine, if it may hold no lease any more after it.
    fn loss(&self, event: &MachineEvent) -> Loss {
        let (end, note) = match event {
            MachineEvent::Seen { sight: Sight::Stopped(Some(exit)), .. } => (exit.end(), exit.to_string()),
            MachineEvent::GivenUp { note } if self.unreachable => {
                (MachineEnd::Own, format!("{note}, and its server host does not answer"))
            }
            MachineEvent::GivenUp { note } => (MachineEnd::Unexplained, note.clone()),
            _ => (MachineEnd::Own, "its Machine is gone".to_owned()),
        };
        Loss { end, note }
    }

    fn seen(&self, id: Option<MachineId>, sight: Sight, looked_at: Timestamp, now: Timestamp) -> Machine {
        let call_is_under_way = now < self.act_at;
        if let (None, Some(id), false) = (&self.id, id, call_is_under_way) {
            // The call that made it was not answered, and it is there.
            return self.created(id, now);
        }
        if looked_at <= self.since {
            return self.clone();
        }
        let seen = Machine { unreachable: sight == Sight::Unreachable, ..self.clone() };
        match sight {
            Sight::Pending | Sight::Running | Sight::Unreachable => seen,
            Sight::Suspended => self.seen_suspended(now),
            Sight::Gone if self.state == Gone => self.clone(),
            Sight::Gone => {
                let note = self.note.clone();
                let note = note.unwrap_or_else(|| "the Machines API has no such Machine".to_owned());
                let boot_failed = self.boot_failed || matches!(self.state, Creating | Preparing | Starting);
                Machine { boot_failed, ..self.now_is(Gone, now).noted(note) }
            }
            Sight::Stopped(exit) => match self.state {
                Destroying | Gone => self.clone(),
                // It may have been suspended, and woken since.
                Ready => Machine { sleep: self.sleep.awake(), ..self.clone() },
                Preparing => self.now_is(Ready, now),
                // The call that starts it is under way: what was seen is from before.
                Creating | Starting if call_is_under_way => self.clone(),
                Creating | Starting => {
                    let how = exit.map_or("it stopped".to_owned(), |exit| exit.to_string());
                    let failed = self.now_is(Destroying, now);
                    Machine { boot_failed: true, ..failed }
                        .noted(format!("{how} before its host phoned home"))
                }
                Up | Draining | Left | Resting => match exit.filter(|exit| !exit.is_clean()) {
                    Some(exit) => self.now_is(Destroying, now).noted(exit.to_string()),
                    None if self.never_rests() => self.now_is(Destroying, now),
                    None => Machine { sleep: self.sleep.awake(), ..self.now_is(Ready, now) },
                },
            },
        }
    }

    fn seen_suspended(&self, now: Timestamp) -> Machine {
        match self.state {
            Resting | Preparing | Ready => Machine { sleep: Sleep::Asleep, ..self.now_is(Ready, now) },
            // What was seen may be from before the start.
            Creating | Starting | Destroying | Gone => self.clone(),
            // Nobody who decides here had it suspended, or it was a call that came late: what it runs is run elsewhere.
            Up | Draining | Left => {
                self.now_is(Destroying, now).noted("it was suspended while it was in use")
            }
        }
    }
}

/// Returns the shortest wait before a call is made again that failed in such a way, so many times in a row.
fn least_wait(failure: CallFailure, failures: u32) -> Duration {
    match failure {
        CallFailure::RateLimited(wait) => wait.unwrap_or(RATE_LIMITED_WAIT).min(RATE_LIMITED_WAIT_MAX),
        CallFailure::NeedsPerson | CallFailure::NoApp => {
            let doubled = 1u32.checked_shl(failures.saturating_sub(NEEDS_PERSON_SOON)).unwrap_or(u32::MAX);
            NEEDS_PERSON_WAIT.saturating_mul(doubled).min(NEEDS_PERSON_WAIT_MAX)
        }
        _ => Duration::ZERO,
    }
}

/// Waits between calls that fail: 1, 2, 4 seconds and so on, up to [`RETRY_WAIT_MAX`].
fn retry_wait(failures: u32) -> Duration {
    let doubled = 1u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX);
    Duration::from_secs(doubled).min(RETRY_WAIT_MAX)
}
