//! The life of one Machine: carries out its orders and watches its program.

use std::sync::Arc;
use std::time::Duration;

use midge_machines::SeenState;
use midge_machines::wire::ExitEvent;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::fleet::Fleet;
use crate::halt::halt_of;
use crate::machine::Machine;
use crate::order::{Death, Fate, Order, StopOrder};
use crate::process::{Process, exit_event, not_run};

/// Between the first two looks whether a program stands still: the kernel needs microseconds, unless it waits for a
/// disk. Each pause is twice the one before.
const STANDSTILL_PAUSE: Duration = Duration::from_millis(1);
/// Between two looks at most, for as long as it does not.
const STANDSTILL_PAUSE_MAX: Duration = Duration::from_millis(256);

/// How a Machine's life begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Childhood {
    /// How long it stays `created`.
    pub(crate) delay: Duration,
    /// What becomes of its start, where it is started without an order.
    pub(crate) launch: Option<Fate>,
}

/// How a Machine goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// It rests until it is ordered to start.
    Rest,
    /// It runs anew.
    Again(Fate),
    /// It goes away.
    End,
}

/// Lives a Machine's life until it is destroyed, or flylet halts. Dropping the future kills its program.
pub(crate) async fn supervise(
    fleet: &Fleet,
    machine: &Arc<Machine>,
    childhood: Childhood,
    halted: watch::Receiver<bool>,
) {
    let mut life = Life { fleet, machine, process: None };
    tokio::select! {
        () = life.live(childhood) => {}
        () = halt_of(halted) => {}
    }
    if let Some(process) = &mut life.process {
        end(process).await;
    }
}

struct Life<'a> {
    fleet: &'a Fleet,
    machine: &'a Arc<Machine>,
    process: Option<Process>,
}

impl Life<'_> {
    async fn live(&mut self, childhood: Childhood) {
        if self.prepare(childhood).await == After::End {
            return;
        }
        loop {
            let mut after = match self.machine.next_order().await {
                Order::Destroy => After::End,
                Order::Stop(_) => {
                    self.machine.called_off();
                    After::Rest
                }
                Order::Start(fate) | Order::Restart(_, fate) => After::Again(fate),
                // There is no program that it could be done to.
                Order::Suspend | Order::Signal(_) | Order::Die(_) => After::Rest,
            };
            while let After::Again(fate) = after {
                self.machine.starting_again();
                after = self.run(fate).await;
            }
            if after == After::End {
                return;
            }
        }
    }

    /// Lets the time pass that Fly needs for the image. In `created` there is no order but to destroy.
    async fn prepare(&self, childhood: Childhood) -> After {
        if !childhood.delay.is_zero() {
            tokio::select! {
                () = sleep(childhood.delay) => {}
                _ = self.machine.next_order() => return After::End,
            }
        }
        match childhood.launch {
            Some(fate) => self.machine.launching(fate),
            None => self.machine.prepared(),
        }
        After::Rest
    }

    /// Lets the time pass that Fly needs for a start. Returns how to go on where an order calls it off.
    async fn boot(&self, mut delay: Duration) -> Option<After> {
        let began = Instant::now();
        while !delay.is_zero() {
            let order = tokio::select! {
                () = sleep_until(began + delay) => return None,
                order = self.machine.next_order() => order,
            };
            match order {
                Order::Destroy => return Some(After::End),
                Order::Stop(_) => {
                    self.machine.called_off();
                    return Some(After::Rest);
                }
                Order::Start(fate) | Order::Restart(_, fate) => {
                    self.machine.starting_again();
                    delay = fate.delay;
                }
                Order::Suspend | Order::Signal(_) | Order::Die(_) => {}
            }
        }
        None
    }

    /// Starts the program and watches it until it ends.
    async fn run(&mut self, fate: Fate) -> After {
        if let Some(after) = self.boot(fate.delay).await {
            return after;
        }
        if fate.launch_fails {
            self.machine.launch_failed();
            return After::End;
        }
        let program = self.fleet.program(self.machine);
        let process = match Process::start(&program, self.machine) {
            Ok(process) => self.process.insert(process),
            Err(error) => {
                let exit = not_run(&program, &error);
                tracing::warn!(machine.id = %self.machine.id, error = exit.error, "Machine failed");
                self.machine.exited(exit);
                return after(self.machine, None);
            }
        };
        tracing::debug!(machine.id = %self.machine.id, pid = process.pid(), "Machine started");
        self.machine.started();
        let again = Watch::new(self.fleet, self.machine, process, fate).watch().await;
        self.process = None;
        after(self.machine, again)
    }
}

/// A program that is watched.
struct Watch<'a> {
    fleet: &'a Fleet,
    machine: &'a Machine,
    process: &'a mut Process,
    /// How many processes the kernel had ended for want of memory before.
    killed_before: u64,
    /// When it is killed that was asked to stop.
    kill_at: Option<Instant>,
    /// When it dies by itself.
    die_at: Option<(Instant, Death)>,
    /// When it goes on that stands still.
    resume_at: Option<Instant>,
    /// Whether it was told to stand still.
    stands_still: bool,
    /// When to look whether it has come to, and how long after that again.
    look_at: Option<(Instant, Duration)>,
    died: Option<Death>,
    /// How it starts anew, once it has ended.
    again: Option<Fate>,
}

impl<'a> Watch<'a> {
    fn new(fleet: &'a Fleet, machine: &'a Machine, process: &'a mut Process, fate: Fate) -> Watch<'a> {
        let mut watch = Watch {
            fleet,
            machine,
            process,
            killed_before: fleet.kill_count.now(),
            kill_at: None,
            die_at: None,
            resume_at: None,
            stands_still: false,
            look_at: None,
            died: None,
            again: None,
        };
        watch.takes_up(fate);
        watch
    }

    /// Carries out orders until the program has ended. Returns how it is to start anew, where it is.
    async fn watch(mut self) -> Option<Fate> {
        let status = loop {
            let deadline =
                [self.kill_at, self.die_at.map(|(at, _)| at), self.resume_at, self.look_at.map(|(at, _)| at)];
            tokio::select! {
                status = self.process.ended() => break status,
                order = self.machine.next_order() => self.obeys(order),
                () = at(deadline.into_iter().flatten().min()) => self.on_time(Instant::now()),
            }
        };
        match status {
            Ok(status) => {
                let by_kernel = status_is_kill(status) && self.fleet.kill_count.now() > self.killed_before;
                let oom_killed = self.died == Some(Death::OutOfMemory) || self.died.is_none() && by_kernel;
                let asked = self.machine.exited(exit_event(status, oom_killed));
                if !asked && !status.success() {
                    let last_line = self.machine.log.last();
                    tracing::warn!(machine.id = %self.machine.id, %status, oom_killed, last_line, "Machine ended by itself");
                }
            }
            Err(error) => {
                tracing::error!(machine.id = %self.machine.id, error = &error as &dyn std::error::Error, "cannot wait for a Machine");
                let error = Some(format!("cannot wait for the program: {error}"));
                self.machine.exited(ExitEvent { error, ..ExitEvent::default() });
            }
        }
        self.again
    }

    fn obeys(&mut self, order: Order) {
        match order {
            Order::Destroy => self.process.kill(),
            Order::Stop(stop) => {
                self.again = None;
                self.stops(stop);
            }
            Order::Restart(stop, fate) => {
                self.again = Some(fate);
                self.stops(stop);
            }
            Order::Suspend => {
                self.process.stand_still();
                self.stands_still = true;
                self.look_at = Some((Instant::now(), STANDSTILL_PAUSE));
            }
            Order::Start(fate) if self.stands_still => {
                self.look_at = None;
                self.resume_at = Instant::now().checked_add(fate.delay);
                self.takes_up(fate);
            }
            // It had not been suspended yet.
            Order::Start(_) => self.machine.started(),
            Order::Signal(signal) => self.process.signal(signal),
            Order::Die(death) => self.dies(death),
        }
    }

    fn takes_up(&mut self, fate: Fate) {
        let at = |after: Duration| Instant::now().checked_add(after);
        self.die_at = fate.dies.and_then(|(after, death)| Some((at(after)?, death)));
    }

    fn stops(&mut self, stop: StopOrder) {
        self.resume_at = None;
        self.look_at = None;
        if self.stands_still {
            // Its memory is thrown away.
            self.process.kill();
            return;
        }
        self.process.signal(stop.signal);
        // A timeout beyond all clocks is none.
        let at = Instant::now().checked_add(stop.timeout);
        self.kill_at = [self.kill_at, at].into_iter().flatten().min();
    }

    fn dies(&mut self, death: Death) {
        self.die_at = None;
        self.died = Some(death);
        self.process.kill();
    }

    fn on_time(&mut self, now: Instant) {
        let past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if past(self.kill_at) {
            tracing::warn!(machine.id = %self.machine.id, "Machine did not stop in time and is killed");
            self.process.kill();
            self.kill_at = None;
        }
        if let Some((_, death)) = self.die_at.filter(|(at, _)| *at <= now) {
            self.dies(death);
        }
        if let Some((_, pause)) = self.look_at.filter(|(at, _)| *at <= now) {
            let is_so = self.process.stands_still();
            self.look_at = (!is_so).then_some((now + pause, (2 * pause).min(STANDSTILL_PAUSE_MAX)));
            if is_so {
                self.machine.suspended();
            }
        }
        if past(self.resume_at) {
            self.resume_at = None;
            self.stands_still = false;
            self.process.go_on();
            self.machine.started();
        }
    }
}

fn status_is_kill(status: std::process::ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(Signal::KILL.as_raw())
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn after(machine: &Machine, again: Option<Fate>) -> After {
    match (machine.state(), again) {
        (SeenState::Destroying, _) => After::End,
        (SeenState::Restarting | SeenState::Updating, Some(fate)) => After::Again(fate),
        // Its supervisor has the order still.
        (SeenState::Restarting | SeenState::Updating, None) => After::Rest,
        _ if machine.config().auto_destroy => After::End,
        _ => After::Rest,
    }
}

/// Kills a program and waits until it is dead.
async fn end(process: &mut Process) {
    process.kill();
    if let Err(error) = process.ended().await {
        tracing::error!(error = &error as &dyn std::error::Error, "cannot wait for a Machine");
    }
}
