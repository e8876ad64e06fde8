//! Sweeps: what people ask for of many jobs at once, and the server's steps, between any two of which it may crash.

use std::time::Duration;

use midge_core::{JobSearch, SWEEPS_OPEN_MAX, Sweep, next_sweep, sweeps_over};
use midge_protocol::api::{Action, JobCount, JobFilter, Sort};
use midge_protocol::job::{Cause, State};
use midge_protocol::{JobKey, QueueName};
use midge_server::dispatcher;

use super::ledger::{Broken, ensure};
use super::people::tag;
use super::server::at_once;
use super::world::{Event, World};

impl World {
    /// Puts on the agenda what people do to many jobs at once until faults stop.
    pub(super) fn plan_sweeps(&mut self, until: Duration) {
        let most = until.as_millis() as u64;
        for _ in 0..self.chance.below(5) {
            let at = self.chance.millis(0, most);
            self.after(at, Event::Sweep);
        }
    }

    /// Somebody begins a sweep. Without an answer, nobody knows of it.
    pub(super) fn sweep(&mut self) -> Result<(), Broken> {
        let (now, action, filter) = (self.told(), self.draw_action(), self.draw_filter());
        let what = format!("{action} {filter:?}");
        let begun = self.ask(move |rows| {
            let sweeps = rows.sweeps()?;
            if sweeps.iter().filter(|sweep| sweep.is_open()).count() >= SWEEPS_OPEN_MAX {
                return Ok(false);
            }
            for over in sweeps_over(&sweeps) {
                rows.delete_sweep(over)?;
            }
            let id = sweeps.iter().map(|sweep| sweep.view.id).max().unwrap_or(0) + 1;
            rows.put_sweep(&Sweep::new(id, action, filter, JobCount::default(), now))?;
            Ok(true)
        })?;
        if begun == Some(true) {
            self.trace.say(self.now, format_args!("a sweep begins: {what}"));
            self.trace.count("sweeps");
        }
        self.sweep_goes_on();
        Ok(())
    }

    /// The server looks for a sweep to go on with: it was told of one, has made a step, or has begun.
    pub(super) fn sweep_goes_on(&mut self) {
        let soon = self.chance.millis(0, 20);
        self.after(soon, Event::SweepStep { epoch: self.epoch });
    }

    /// The server makes a step.
    pub(super) fn sweep_step(&mut self, epoch: u64) -> Result<(), Broken> {
        if self.server.is_none() || epoch != self.epoch {
            return Ok(());
        }
        let next = self.store.look(|rows| Ok(next_sweep(&rows.sweeps()?).cloned()));
        let Some(next) = next else { return Ok(()) };
        let retries = next.view.action == Action::Retry;
        let now = self.told();
        let ended: Vec<_> =
            self.ledger.jobs().filter(|job| job.ended_at().is_some()).map(|job| job.id).collect();
        // Whom it retries must be of those that it is for.
        let search = JobSearch { before: None, ..JobSearch::of(&next.view.filter, now) };
        let fits = self.ledger.jobs().filter(|job| search.matches(job)).map(|job| job.id);
        self.ledger.retried = fits.filter(|_| retries).collect();
        if next.view.action == Action::Delete {
            self.sweep_may_delete(&next.view.filter, next.view.started_at, now);
        }
        let catalog = self.catalog();
        let store = self.store.clone();
        let swept = at_once(dispatcher::sweep_step(&*store, &catalog, now));
        if let (Ok(Some(swept)), true) = (&swept, retries) {
            for job in swept.changed.iter().filter(|job| ended.contains(&job.id)) {
                self.ledger.has_new_allowance(job.id);
            }
        }
        self.check()?;
        self.ledger.retried.clear();
        self.ledger.deletions.asked.clear();
        self.check_sweep_had_no_room(&next.view)?;
        match swept {
            Ok(Some(swept)) => {
                let ids: Vec<_> = swept.changed.iter().map(|job| job.id).collect();
                let of = format_args!("{} of sweep {}: {ids:?}", next.view.action, next.view.id);
                self.trace.say(self.now, of);
                for _ in &swept.deleted {
                    self.trace.count("jobs deleted by sweeps");
                }
                for _ in &swept.changed {
                    self.trace.count("jobs that were swept");
                }
                if !swept.changed.is_empty() || !swept.deleted.is_empty() {
                    self.hint();
                }
                self.sweep_goes_on();
            }
            Ok(None) => {}
            Err(_) => self.after(Duration::from_secs(1), Event::SweepStep { epoch }),
        }
        self.may_crash();
        Ok(())
    }

    /// At the end, no sweep goes on.
    pub(super) fn check_sweeps_at_the_end(&mut self) -> Result<(), Broken> {
        let sweeps = self.store.look(|rows| rows.sweeps());
        for sweep in &sweeps {
            ensure(!sweep.is_open(), || format!("it never ends: {sweep:?}"))?;
            let view = &sweep.view;
            ensure(view.done + view.could_not <= view.found, || format!("it counts wrong: {sweep:?}"))?;
        }
        let groups = self.store.look(|rows| rows.failure_groups(None, None, usize::MAX));
        for group in &groups {
            self.trace.count("groups of failures");
            ensure(group.first_seen <= group.last_seen && group.count > 0, || {
                format!("it counts wrong: {group:?}")
            })?;
        }
        Ok(())
    }

    fn draw_action(&mut self) -> Action {
        match self.chance.below(7) {
            6 => Action::Delete,
            0 | 1 => Action::Retry,
            2 => Action::Cancel,
            3 => Action::Priority(self.chance.below(7) as i8 - 3),
            _ => {
                let queues: Vec<QueueName> = self.policies.keys().cloned().collect();
                Action::Move(queues[self.chance.below(queues.len() as u64) as usize].clone())
            }
        }
    }

    fn draw_filter(&mut self) -> JobFilter {
        let all = JobFilter::default();
        match self.chance.below(8) {
            0 => JobFilter { tag: Some(tag("common")), ..all },
            1 => JobFilter { tag: Some(tag("rare")), state: Some(State::Discarded), ..all },
            2 => JobFilter { key: JobKey::new("large").ok(), ..all },
            3 => JobFilter { cause: Some(Cause::Exit), ..all },
            4 => JobFilter { state: Some(State::Retryable), sort: Some(Sort::Failed), ..all },
            5 => JobFilter { state: Some(State::Available), ..all },
            6 => JobFilter { text: Some("e".to_owned()), ..all },
            _ => JobFilter { state: Some(State::Cancelled), ..all },
        }
    }
}
