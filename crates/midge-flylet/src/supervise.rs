//! The life of one Machine: carries out its orders and watches its program.

use std::sync::Arc;
use std::time::Duration;

use midge_machines::SeenState;
use midge_machines::wire::ExitEvent;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::halt::halt_of;
use crate::machine::Machine;
use crate::order::Order;
use crate::process::{Process, Program, exit_event, not_run};

/// What a Machine's life is made of, besides the Machine.
pub(crate) struct Life<'a> {
    pub(crate) program: Program<'a>,
    /// Whether it is started without an order, once it is made.
    pub(crate) launch: bool,
    /// See [`crate::FlyletSettings`].
    pub(crate) create_delay: Duration,
    /// See [`crate::FlyletSettings`].
    pub(crate) start_delay: Duration,
}

/// How a Machine goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// It rests until it is ordered to start.
    Rest,
    /// It goes away.
    End,
}

/// Lives a Machine's life until it is destroyed, or flylet halts. Dropping the future kills its program.
pub(crate) async fn supervise(machine: &Arc<Machine>, life: Life<'_>, halted: watch::Receiver<bool>) {
    let mut process = None;
    tokio::select! {
        () = live(machine, &life, &mut process) => {}
        () = halt_of(halted) => {
            if let Some(process) = &mut process {
                end(process).await;
            }
        }
    }
}

async fn live(machine: &Arc<Machine>, life: &Life<'_>, process: &mut Option<Process>) {
    if prepare(machine, life).await == After::End {
        return;
    }
    loop {
        match machine.next_order().await {
            Order::Destroy => return,
            Order::Stop(_) => machine.called_off(),
            Order::Start => {
                if run(machine, life, process).await == After::End {
                    return;
                }
            }
        }
    }
}

/// Lets the time pass that Fly needs for the image.
async fn prepare(machine: &Machine, life: &Life<'_>) -> After {
    if later(life.create_delay, machine).await == After::End {
        return After::End;
    }
    if life.launch {
        machine.launching();
    } else {
        machine.prepared();
    }
    After::Rest
}

/// Waits, unless an order ends the waiting. In `created` there is none but to destroy.
async fn later(delay: Duration, machine: &Machine) -> After {
    if delay.is_zero() {
        return After::Rest;
    }
    tokio::select! {
        () = sleep(delay) => After::Rest,
        Order::Destroy = machine.next_order() => After::End,
    }
}

/// Starts the program and watches it until it ends.
async fn run(machine: &Arc<Machine>, life: &Life<'_>, slot: &mut Option<Process>) -> After {
    if !life.start_delay.is_zero() {
        tokio::select! {
            () = sleep(life.start_delay) => {}
            order = machine.next_order() => match order {
                Order::Destroy => return After::End,
                Order::Stop(_) | Order::Start => {
                    machine.called_off();
                    return After::Rest;
                }
            },
        }
    }
    let process = match Process::start(&life.program, machine) {
        Ok(process) => slot.insert(process),
        Err(error) => {
            let exit = not_run(&life.program, &error);
            tracing::warn!(machine.id = %machine.id, error = exit.error, "Machine failed");
            machine.exited(exit);
            return after(machine);
        }
    };
    tracing::debug!(machine.id = %machine.id, pid = process.pid(), "Machine started");
    machine.started();
    watch(machine, process).await;
    *slot = None;
    after(machine)
}

/// Watches a program, and carries out orders, until it has ended.
async fn watch(machine: &Machine, process: &mut Process) {
    let mut kill_at: Option<Instant> = None;
    let mut order: Option<Order> = None;
    let status = loop {
        match order.take() {
            Some(Order::Destroy) => process.kill(),
            Some(Order::Stop(stop)) => {
                process.signal(stop.signal);
                // A timeout beyond all clocks is none.
                let at = Instant::now().checked_add(stop.timeout);
                kill_at = [kill_at, at].into_iter().flatten().min();
            }
            // It runs already.
            Some(Order::Start) | None => {}
        }
        tokio::select! {
            status = process.ended() => break status,
            next = machine.next_order() => order = Some(next),
            () = at(kill_at) => {
                tracing::warn!(machine.id = %machine.id, "Machine did not stop in time and is killed");
                process.kill();
                kill_at = None;
            }
        }
    };
    match status {
        Ok(status) => {
            let asked = machine.exited(exit_event(status));
            if !asked && !status.success() {
                let last_line = machine.log.last();
                tracing::warn!(machine.id = %machine.id, %status, last_line, "Machine ended by itself");
            }
        }
        Err(error) => {
            tracing::error!(machine.id = %machine.id, error = &error as &dyn std::error::Error, "cannot wait for a Machine");
            machine.exited(ExitEvent {
                error: Some(format!("cannot wait for the program: {error}")),
                ..ExitEvent::default()
            });
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn after(machine: &Machine) -> After {
    if machine.config.auto_destroy || machine.state() == SeenState::Destroying {
        After::End
    } else {
        After::Rest
    }
}

/// Kills a program and waits until it is dead.
async fn end(process: &mut Process) {
    process.kill();
    if let Err(error) = process.ended().await {
        tracing::error!(error = &error as &dyn std::error::Error, "cannot wait for a Machine");
    }
}
