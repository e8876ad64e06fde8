//! What a history asks.

use midge_core::{Phase, StateFilter, Stretch};
use midge_protocol::api::{Cursor, FailuresCursor};
use midge_protocol::job::State;
use midge_protocol::{JobId, ScheduleName, Timestamp};
use midge_store::conformance::fixtures::{at, id, machine_name, module};
use midge_store::{JobSearch, Rows, StoreError};

use super::author::{Author, CAUSES, CONTENTS, JOBS, MACHINES, MODULES, SCHEDULES, Step, step};
use super::{counts, next_end};

pub const ENDS: [Phase; 3] = [Phase::Completed, Phase::Cancelled, Phase::Discarded];

impl Author {
    /// Draws something to ask.
    pub fn asks(&mut self) -> Step {
        match self.below(4) {
            0 => self.asks_for_lists(),
            1 => self.asks_of_groups(),
            _ => self.asks_of_jobs(),
        }
    }

    /// What is asked to find the next jobs, and of what belongs to them.
    fn asks_of_jobs(&mut self) -> Step {
        let (of, key, now) = (self.queue(), self.key(), self.time());
        let (job, attempt, limit) = (self.job(), self.attempt(), self.limit());
        let (of_machine, of_module) = (machine_name(self.pick(&MACHINES)), module(self.pick(&MODULES)));
        match self.below(19) {
            0 => {
                let ids = [job, id(1_000), self.job(), job];
                step("jobs", move |rows| rows.jobs(&ids))
            }
            1 => step("jobs_due", move |rows| rows.jobs_due(&of, key.as_ref(), now, limit)),
            2 => {
                let after = Some(now).filter(|_| limit % 2 == 0);
                step("first_due", move |rows| rows.first_due(&of, key.as_ref(), after))
            }
            3 => step("jobs_leased", move |rows| rows.jobs_leased(&of_machine)),
            4 => step("job_counts", move |rows| counts(rows, now)),
            5 => step("jobs_waiting", move |rows| rows.jobs_waiting(&of)),
            6 => step("jobs_running", move |rows| rows.jobs_running(&of)),
            7 => step("modules_held", |rows| rows.modules_held()),
            8 => step("jobs_held", move |rows| rows.jobs_held(&of_module, limit)),
            9 => step("next_due", move |rows| rows.next_due(now)),
            10 => step("jobs_expired", move |rows| rows.jobs_expired(now, limit)),
            11 => step("next_expiry", |rows| rows.next_expiry()),
            12 => {
                let phase = self.pick(&ENDS);
                step("first_ended", move |rows| rows.first_ended(&of, phase))
            }
            13 => {
                let content = self.pick(&CONTENTS);
                step("content", move |rows| rows.content(job, content))
            }
            14 => step("log", move |rows| rows.log(job, attempt)),
            15 => {
                let offset = self.below(400);
                step("log_from", move |rows| rows.log_from(job, attempt, offset, limit))
            }
            16 => step("attempts", move |rows| rows.attempts(job)),
            17 => step("dependencies", move |rows| rows.dependencies(job, limit)),
            _ => step("next_untold_end dependents", move |rows| next_end(rows, limit)),
        }
    }

    /// What is asked for people.
    fn asks_for_lists(&mut self) -> Step {
        let (search, limit, now) = (self.search(), self.limit(), self.time());
        let alike = self.maybe(Author::job);
        match self.below(4) {
            0 => step("jobs_counted", move |rows| {
                let search = alike_too(&search, alike, rows)?;
                rows.jobs_counted(&search, now)
            }),
            1 => {
                let search = JobSearch { state: search.state, queue: search.queue, ..JobSearch::default() };
                step("jobs_listed", move |rows| rows.jobs_listed(&search, limit))
            }
            _ => step("jobs_found", move |rows| {
                let search = alike_too(&search, alike, rows)?;
                rows.jobs_found(&search, limit)
            }),
        }
    }

    /// What is asked of queues, batches, Machines, schedules, failures and sweeps.
    fn asks_of_groups(&mut self) -> Step {
        let (of, key, now, limit) = (self.queue(), self.some_key(), self.time(), self.limit());
        let (after, of_batch) = (self.maybe(Author::job), self.batch());
        match self.below(18) {
            17 => {
                let days = self.day()..=self.day();
                step("costs machine_costs", move |rows| {
                    let mut all = Vec::new();
                    rows.machine_costs(&of, days.clone(), &mut |key, sums| all.push((key, sums)))?;
                    rows.costs(days.clone(), &mut |key, sums| all.push((key, sums)))?;
                    Ok(all)
                })
            }
            0 => step("lane", move |rows| rows.lane(&of, &key)),
            1 => step("lanes_come", move |rows| rows.lanes_come(&of, now, limit)),
            2 => {
                let after = self.key();
                step("lanes_after", move |rows| rows.lanes_after(&of, after.as_ref(), limit))
            }
            3 => step("queue queues", move |rows| Ok((rows.queue(&of)?, rows.queues()?))),
            4 => step("modules", |rows| rows.modules()),
            5 => step("batch", move |rows| rows.batch(of_batch)),
            6 => {
                let before = self.maybe(Author::batch);
                step("batches_listed", move |rows| rows.batches_listed(before, limit))
            }
            7 => step("last_batch_number batches_unended", |rows| {
                Ok((rows.last_batch_number()?, rows.batches_unended()?))
            }),
            8 => step("batch_to_act", |rows| rows.batch_to_act()),
            9 => step("jobs_of_batch", move |rows| rows.jobs_of_batch(of_batch, after, limit)),
            10 => {
                let of = machine_name(self.pick(&MACHINES));
                step("machine", move |rows| rows.machine(&of))
            }
            11 => step("machines", |rows| rows.machines()),
            12 => {
                step("setting", |rows| Ok((rows.setting("id")?, rows.setting("é")?, rows.setting("none")?)))
            }
            13 => {
                let name = ScheduleName::new(self.pick(&SCHEDULES)).unwrap();
                step("schedule schedules next_schedule", move |rows| {
                    Ok((rows.schedule(&name)?, rows.schedules()?, rows.next_schedule()?))
                })
            }
            14 => {
                let (job, other) = (self.job(), self.fingerprint());
                step("failure_group failure_open", move |rows| {
                    let job = rows.jobs(&[job])?.pop().flatten();
                    let of = job.and_then(|job| job.fingerprint()).unwrap_or(other);
                    Ok((rows.failure_group(of)?, rows.failure_open(of)?))
                })
            }
            15 => {
                let of = self.one_of(2).then(|| module(self.pick(&MODULES)));
                let (at, fingerprint) = (self.time(), self.fingerprint());
                let before = self.one_of(2).then_some(FailuresCursor { at, fingerprint });
                step("failure_groups", move |rows| rows.failure_groups(of.as_ref(), before, limit))
            }
            _ => {
                let number = self.below(3);
                step("sweep sweeps", move |rows| Ok((rows.sweep(number)?, rows.sweeps()?)))
            }
        }
    }

    fn limit(&mut self) -> usize {
        self.pick(&[0, 1, 3, 100])
    }

    /// Draws a search with a few fields.
    fn search(&mut self) -> JobSearch {
        let now = self.time();
        let state = self.maybe(|author| StateFilter::of(author.pick(&State::ALL), now));
        let mut search = JobSearch {
            state: state.unwrap_or_default(),
            queue: self.maybe(Author::queue),
            module: self.maybe(|author| module(author.pick(&MODULES))),
            ..JobSearch::default()
        };
        for _ in 0..self.below(3) {
            match self.below(9) {
                0 => search.batch = Some(self.batch()),
                8 => search.parent = Some(self.job()),
                1 => search.key = Some(self.some_key()),
                2 => search.tag = Some(self.tag()),
                3 => search.cause = Some(self.pick(&CAUSES)),
                4 => search.made = self.stretch(|author| at(author.below(JOBS * 10) as i64)),
                5 => search.failed = self.stretch(Author::time),
                6 => search.text = Some(self.pick(&["not found", "\u{e9}", "none"]).to_owned()),
                _ => search.args = Some(self.pick(&["\"n\": 7", "none"]).to_owned()),
            }
        }
        search.by_failure = self.one_of(3);
        if self.one_of(3) {
            let (time, id) = (self.time(), self.job());
            search.before =
                Some(if search.by_failure { Cursor::Failed { at: time, id } } else { Cursor::Id(id) });
        }
        search
    }

    /// A stretch of time with one end, or with both, perhaps in the wrong order.
    fn stretch(&mut self, mut draw: impl FnMut(&mut Author) -> Timestamp) -> Stretch {
        let (since, until) = (draw(self), draw(self));
        Stretch { since: self.one_of(2).then_some(since), until: self.one_of(2).then_some(until) }
    }
}

/// Returns a search for those that failed as a job did, where it has.
fn alike_too(search: &JobSearch, alike: Option<JobId>, rows: &mut dyn Rows) -> Result<JobSearch, StoreError> {
    let job = rows.jobs(alike.as_slice())?.pop().flatten();
    Ok(JobSearch { failure: job.and_then(|job| job.fingerprint()), ..search.clone() })
}
