//! What a history writes.

use std::collections::BTreeSet;

use midge_core::{
    Batch, CancelJobs, CostBook, CostKey, CostSums, Job, Lane, Machine, MachineState, Met, ModuleRow, Phase,
    QueueRow, Schedule, Sweep, Turn,
};
use midge_protocol::api::{Action, BatchEvent, FailureGroup, JobCount, JobFilter};
use midge_protocol::job::AttemptView;
use midge_protocol::manifest::MachineSize;
use midge_protocol::{AttemptNumber, AttemptRange, BatchId, Day, JobId, RegionName, ScheduleName, Timestamp};
use midge_store::conformance::fixtures::{at, machine, machine_name, module};
use midge_store::{Rows, StoreError};

use super::asks::ENDS;
use super::author::{Author, CAUSES, CONTENTS, MACHINES, MODULES, SCHEDULES, Step, step};

impl Author {
    /// Draws something to write.
    pub fn writes(&mut self) -> Step {
        match self.below(20) {
            0..9 => self.writes_jobs(),
            9..12 => self.writes_dependencies(),
            12..15 => self.writes_what_belongs_to_jobs(),
            _ => self.writes_others(),
        }
    }

    fn writes_jobs(&mut self) -> Step {
        let id = self.job();
        match self.below(12) {
            0..6 => {
                let (becomes, generation) = (self.becomes(id), self.pick(&["g1", "g2"]));
                step("put_change", move |rows| {
                    let change = becomes(rows)?;
                    rows.put_change(&change, generation)
                })
            }
            6 => {
                let drawn: Vec<_> = self.some_jobs(5).into_iter().map(|id| self.becomes(id)).collect();
                step("put_jobs", move |rows| {
                    let changed: Result<Vec<Job>, StoreError> =
                        drawn.iter().map(|becomes| Ok(becomes(rows)?.job)).collect();
                    rows.put_jobs(&changed?)
                })
            }
            7 | 8 => {
                let ((job, on_conflict), now) = (self.unique_job(id), at(self.now));
                step("put_unique", move |rows| {
                    if rows.jobs(&[id])?.pop().flatten().is_some() {
                        return Ok(None);
                    }
                    let there = rows.put_unique(&job)?;
                    match there.as_ref().map(|there| there.met_by(&job, on_conflict, now)) {
                        Some(Met::Over(there) | Met::Stays(there, _)) => rows.put_jobs(&[*there])?,
                        None => {}
                    }
                    Ok(there)
                })
            }
            9 => step("delete_job", move |rows| rows.delete_job(id)),
            10 => {
                let (of, phase, before) = (self.queue(), self.pick(&ENDS), self.time());
                let limit = self.below(4) as usize;
                step("delete_ended", move |rows| rows.delete_ended(&of, phase, before, limit))
            }
            _ => self.writes_batches(),
        }
    }

    fn writes_batches(&mut self) -> Step {
        let (id, what, now) = (self.batch(), self.below(5), self.tick());
        let (callback, far) = (self.job(), self.job());
        match self.below(6) {
            0 => {
                let (before, limit) = (self.time(), self.below(3) as usize);
                step("delete_batches", move |rows| rows.delete_batches(before, limit))
            }
            1 => step("batch_to_act", move |rows| {
                let Some(batch) = rows.batch_to_act()? else { return Ok(None) };
                let (acted, events) = batch.act(now);
                let cancel = acted.cancel.map(|_| CancelJobs::Done);
                rows.put_batch(&Batch { cancel, ..acted })?;
                Ok(Some(events.len()))
            }),
            _ => step("put_batch", move |rows| {
                let batch = match rows.batch(id)? {
                    None => new_batch(rows, id, callback, now)?,
                    Some(batch) if what == 0 => batch.closed(now),
                    Some(batch) if what == 1 => batch.cancelled(now).unwrap_or(batch),
                    Some(batch) if what == 2 => {
                        let cancel = batch.cancel.map(|_| CancelJobs::After(Some(far)));
                        Batch { cancel, ..batch }
                    }
                    Some(batch) => batch.act(now).0,
                };
                rows.put_batch(&batch)
            }),
        }
    }

    fn writes_dependencies(&mut self) -> Step {
        let which = self.below(3) as usize;
        match self.below(6) {
            0..3 => {
                let (new, on) = (self.job(), self.some_jobs(4));
                let new = self.new_job(new).pending();
                step("put_dependencies", move |rows| {
                    let there = rows.jobs(&[new.id])?.pop().flatten();
                    let waits = there.as_ref().is_some_and(|job| job.phase() == Phase::Pending);
                    if there.is_some() && !waits || rows.dependencies(new.id, 1)?.0 > 0 {
                        return Ok(false);
                    }
                    let waited_for = rows.jobs(&on)?.into_iter().flatten().map(Job::with_dependents);
                    rows.put_jobs(&waited_for.collect::<Vec<_>>())?;
                    rows.put_jobs(there.is_none().then_some(&new).map_or(&[], std::slice::from_ref))?;
                    rows.put_dependencies(new.id, &on)?;
                    Ok(true)
                })
            }
            3 => step("delete_dependency", move |rows| {
                let Some(end) = rows.next_untold_end()? else { return Ok(0) };
                let found = rows.dependents(&end, 3)?;
                found.iter().skip(which).try_for_each(|dependent| rows.delete_dependency(&end, dependent))?;
                Ok(found.len())
            }),
            4 => step("put_told", move |rows| {
                let Some(end) = rows.next_untold_end()? else { return Ok(0) };
                let found = rows.dependents(&end, 3)?;
                let last = found.get(which).map_or(end.told, |dependent| dependent.row);
                rows.put_told(&end, last)?;
                Ok(found.len())
            }),
            _ => step("delete_untold_end", move |rows| match rows.next_untold_end()? {
                Some(end) => rows.delete_untold_end(&end),
                None => Ok(()),
            }),
        }
    }

    fn writes_what_belongs_to_jobs(&mut self) -> Step {
        let (of, attempt, bytes) = (self.job(), self.attempt(), self.bytes());
        let content = self.pick(&CONTENTS);
        match self.below(7) {
            0 | 1 => step("put_content", move |rows| rows.put_content(of, content, &bytes)),
            2 => step("delete_content", move |rows| rows.delete_content(of, content)),
            3 | 4 => {
                let offset = if self.one_of(2) { 0 } else { self.below(400) };
                step("append_log", move |rows| rows.append_log(of, attempt, offset, &bytes))
            }
            5 => {
                let view = self.view(attempt);
                step("put_attempt", move |rows| rows.put_attempt(of, &view))
            }
            _ => {
                let range =
                    AttemptRange { first: attempt, last: AttemptNumber(attempt.0 + self.below(2) as u32) };
                step("delete_attempts", move |rows| rows.delete_attempts(of, range))
            }
        }
    }

    fn writes_others(&mut self) -> Step {
        match self.below(14) {
            12 => {
                let (before, limit) = (self.day(), self.below(3) as usize);
                step("delete_costs", move |rows| rows.delete_costs(before, limit))
            }
            13 => {
                let book = self.costs();
                step("add_costs", move |rows| rows.add_costs(&book))
            }
            0 | 1 => {
                let (lanes, now) = (self.lanes(), at(self.now));
                step("put_lanes", move |rows| rows.put_lanes(&lanes, now))
            }
            2 => {
                let (of, turn) = (self.queue(), Turn::at(self.time()));
                let row =
                    QueueRow { pause: self.pause(), bucket: self.bucket(), turn, ..QueueRow::default() };
                let row = if self.one_of(3) { QueueRow::default() } else { row };
                step("put_queue", move |rows| rows.put_queue(&of, &row))
            }
            3 => {
                let (of, row) = (module(self.pick(&MODULES)), ModuleRow { pause: self.pause(), lack: None });
                step("put_module", move |rows| rows.put_module(&of, &row))
            }
            4..6 => self.writes_machines(),
            6 => {
                let (key, value) = (self.pick(&["id", "é"]), format!("{:?}", self.bytes()));
                step("put_setting", move |rows| rows.put_setting(key, &value))
            }
            7 => {
                let row = self.schedule();
                match self.one_of(4) {
                    true => step("delete_schedule", move |rows| rows.delete_schedule(&row.name)),
                    false => step("put_schedule", move |rows| rows.put_schedule(&row)),
                }
            }
            8 | 9 => {
                let (group, before, limit) = (self.group(), self.time(), self.below(3) as usize);
                match self.one_of(3) {
                    true => {
                        step("delete_failure_groups", move |rows| rows.delete_failure_groups(before, limit))
                    }
                    false => step("put_failure_group", move |rows| rows.put_failure_group(&group)),
                }
            }
            _ => {
                let (number, now) = (self.below(3), self.time());
                let mut sweep =
                    Sweep::new(number, Action::Retry, JobFilter::default(), JobCount::default(), now);
                sweep.steps = self.below(9);
                match self.one_of(3) {
                    true => step("delete_sweep", move |rows| rows.delete_sweep(number)),
                    false => step("put_sweep", move |rows| rows.put_sweep(&sweep)),
                }
            }
        }
    }

    fn writes_machines(&mut self) -> Step {
        let mut row: Machine = machine(self.pick(&MACHINES));
        row.queue = self.queue();
        row.state = self.pick(&[MachineState::Up, MachineState::Draining, MachineState::Gone]);
        row.heard_at = Some(self.time());
        match self.below(4) {
            0 => step("delete_machine", move |rows| rows.delete_machine(&row.name)),
            1 => step("delete_unreadable_machines", |rows| rows.delete_unreadable_machines()),
            _ => step("put_machine", move |rows| rows.put_machine(&row)),
        }
    }

    fn lanes(&mut self) -> Vec<Lane> {
        let keys: BTreeSet<_> = (0..self.below(3)).map(|_| self.some_key()).collect();
        let of = self.queue();
        let lane = |key| {
            let mut turn = || (!self.one_of(4)).then(|| Turn::at(self.time()));
            let (turn, served) = (turn(), turn());
            let (full, bucket) = (self.one_of(4), self.bucket());
            Lane { turn, served, full, bucket, ..Lane::new(of.clone(), key) }
        };
        keys.into_iter().map(lane).collect()
    }

    fn view(&mut self, attempt: AttemptNumber) -> AttemptView {
        AttemptView {
            attempt,
            machine: machine_name(self.pick(&MACHINES)),
            scheduled_at: self.time(),
            started_at: self.time(),
            ended_at: self.time(),
            spent: self.one_of(2),
            failure: None,
            usage: None,
            cost: None,
        }
    }

    pub fn day(&mut self) -> Day {
        Day::from_number(self.below(4) as i64)
    }

    fn costs(&mut self) -> CostBook {
        let mut book = CostBook::default();
        for _ in 0..self.below(4) {
            let key = CostKey {
                day: self.day(),
                queue: self.queue(),
                module: self.maybe(|author| module(author.pick(&MODULES))),
                size: MachineSize { memory_mib: self.pick(&[256, 1_024]), ..MachineSize::default() },
                region: self.maybe(|author| RegionName::new(author.pick(&["ams", "iad"])).unwrap()),
            };
            let mut sum = || if self.one_of(9) { u64::MAX } else { self.below(1_000) };
            let (share_us, running_us) = (sum(), sum());
            book.add(key, CostSums { attempts: 1, share_us, running_us, ..CostSums::default() });
        }
        book
    }

    fn schedule(&mut self) -> Schedule {
        Schedule {
            name: ScheduleName::new(self.pick(&SCHEDULES)).unwrap(),
            clock: self.below(u64::MAX),
            done: self.time(),
            next: (!self.one_of(3)).then(|| self.time()),
            pause: self.pause(),
            last_job: Some(self.job()),
            removed: None,
        }
    }

    fn group(&mut self) -> FailureGroup {
        FailureGroup {
            fingerprint: self.fingerprint(),
            module: module(self.pick(&MODULES)),
            cause: self.pick(&CAUSES),
            message: self.failure().message,
            count: 1 + self.below(9),
            first_seen: self.time(),
            last_seen: self.time(),
            first_generation: "g1".to_owned(),
            last_generation: String::new(),
            job: self.job(),
        }
    }
}

/// Makes a batch, with a number as it gets one.
fn new_batch(rows: &mut dyn Rows, id: BatchId, callback: JobId, now: Timestamp) -> Result<Batch, StoreError> {
    let number = rows.last_batch_number()? + 1;
    let mut batch = Batch::new(id, number, "nightly".to_owned(), number, now);
    batch.callbacks.insert(BatchEvent::Ended, callback);
    Ok(batch)
}
