//! Writes what happens to a Machine, and what that means for its jobs.

use midge_core::{CostBook, Job, JobEvent, Machine, MachineEnd, MachineEvent, MachineState, ModuleRow};
use midge_protocol::job::AttemptView;
use midge_protocol::{JobId, MachineId, MachineName, Timestamp};
use midge_store::{Rows, StoreError};

use crate::clock::Clock;

/// What became of the jobs of a Machine that may hold no lease any more.
#[derive(Debug, Default)]
pub struct Released {
    /// The jobs that ended with it.
    pub ended: Vec<Job>,
    /// The jobs that came back to its queue.
    pub returned: Vec<JobId>,
}

/// Applies an event to a Machine and to the jobs that it means something for. One that does not apply changes nothing.
pub(super) fn change(
    rows: &mut dyn Rows,
    machine: &mut Machine,
    event: MachineEvent,
    now: Timestamp,
) -> Result<Released, StoreError> {
    let mut released = Released::default();
    let Ok(change) = machine.apply(event, now) else { return Ok(released) };
    let lost = change.job_event();
    let after = change.machine;
    if after.state != machine.state {
        let (from, to) = (machine.state.as_str(), after.state.as_str());
        tracing::info!(machine.name = %machine.name, machine.id = after.id.as_ref().map(MachineId::as_str), note = after.note, "Machine {from} -> {to}");
    }
    let mut costs = CostBook::default();
    costs.add_change(machine, &after, now);
    if let Some(lost) = lost {
        let each = |job: &Job, attempt: &AttemptView| costs.add_attempt(machine, job, attempt);
        released = release(rows, &machine.name, &machine.generation, &lost, each, now)?;
    }
    if !costs.is_empty() {
        rows.add_costs(&costs)?;
    }
    // Most of what a round sees is as it was: then it writes nothing, and there is nothing to make durable.
    if after != *machine {
        rows.put_machine(&after)?;
        *machine = after;
    }
    Ok(released)
}

/// What became of a Machine that somebody drains.
#[derive(Debug)]
pub enum Drained {
    /// It takes no more jobs, finishes what it runs and goes.
    Drains {
        /// The Machine as it is now.
        machine: Box<Machine>,
        /// How many attempts are leased to it.
        running: u32,
    },
    /// It goes already, or is gone: it is in this state.
    Goes(MachineState),
    /// There is none of that name.
    Unknown,
}

/// Has a Machine take no more jobs, finish what it runs and go, whatever it was made for.
pub fn drain(rows: &mut dyn Rows, name: &MachineName, now: Timestamp) -> Result<Drained, StoreError> {
    let Some(mut machine) = rows.machine(name)? else { return Ok(Drained::Unknown) };
    if machine.apply(MachineEvent::DrainAsked, now).is_err() {
        return Ok(Drained::Goes(machine.state));
    }
    change(rows, &mut machine, MachineEvent::DrainAsked, now)?;
    let running = rows.jobs_leased(name)?.len() as u32;
    Ok(Drained::Drains { machine: Box::new(machine), running })
}

/// Deletes the rows of Machines that cannot be read, and gives back their jobs. Such a Machine is then one that has no
/// row: its host is turned away, and it is destroyed where it is seen.
pub(super) fn forget_unreadable(rows: &mut dyn Rows, now: Timestamp) -> Result<Released, StoreError> {
    let mut all = Released::default();
    for machine in rows.delete_unreadable_machines()? {
        let note = "the row of its Machine could not be read".to_owned();
        let lost = JobEvent::MachineLost { machine: machine.clone(), end: MachineEnd::Own, note };
        // Nobody knows any more what it was made from, nor how large it is: its time is not summed.
        let released = release(rows, &machine, "", &lost, |_, _| {}, now)?;
        all.ended.extend(released.ended);
        all.returned.extend(released.returned);
    }
    Ok(all)
}

/// Applies an event to all jobs that are leased to a Machine, and tells `each` of the attempts that end with it.
fn release(
    rows: &mut dyn Rows,
    machine: &MachineName,
    generation: &str,
    lost: &JobEvent,
    mut each: impl FnMut(&Job, &AttemptView),
    now: Timestamp,
) -> Result<Released, StoreError> {
    let mut released = Released::default();
    for job in rows.jobs_leased(machine)? {
        let Ok(change) = job.apply(lost.clone(), now) else { continue };
        rows.put_change(&change, generation)?;
        change.attempt.iter().for_each(|attempt| each(&change.job, attempt));
        match change.job.ended_at() {
            Some(_) => released.ended.push(change.job),
            None => released.returned.push(change.job.id),
        }
    }
    Ok(released)
}

/// Notes where the clock was set since it was last even: what is stored may be of a time that is to come. `even_since` is
/// what was known of that.
pub async fn follow_clock(
    store: &dyn midge_store::Store,
    clock: &dyn Clock,
    even_since: &mut Timestamp,
) -> Result<(), StoreError> {
    let now = clock.now();
    let since = clock.even_since().unwrap_or(*even_since);
    if since != *even_since {
        midge_store::write(store, move |rows| super::settle::unsettle(rows, now)).await?;
        *even_since = since;
    }
    Ok(())
}

/// Takes over what an earlier server left: its calls to the Machines API are nobody's any more. Returns the store's id,
/// which is `new_id` where it has none.
pub async fn take_over(
    store: &dyn midge_store::Store,
    now: Timestamp,
    new_id: String,
) -> Result<String, StoreError> {
    midge_store::write(store, move |rows| {
        // The clock may have been put back meanwhile: nobody can tell.
        super::settle::unsettle(rows, now)?;
        for (mut machine, _) in rows.machines()? {
            change(rows, &mut machine, MachineEvent::TakenOver, now)?;
        }
        for (module, row) in rows.modules()?.into_iter().filter(|(_, row)| row.lack.is_some()) {
            // Who set what was missing has started the server again.
            rows.put_module(&module, &ModuleRow { lack: None, ..row })?;
        }
        if let Some(id) = rows.setting("store_id")? {
            return Ok(id);
        }
        rows.put_setting("store_id", &new_id)?;
        Ok(new_id)
    })
    .await
}
