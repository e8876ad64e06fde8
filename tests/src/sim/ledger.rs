//! What must always be true, checked after every transaction against what was true before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use midge_core::{Ending, Job, JobState, Lane, Machine, MachineState, ModuleRow, Phase, QueueRow};
use midge_protocol::exchange::{Grant, Outcome};
use midge_protocol::job::{AttemptView, Backoff, Cause, Failure};
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{AttemptNumber, JobId, JobKey, MachineName, QueueName, Timestamp, limits};
use midge_store::{Content, JobSearch, Rows, StoreError};

use super::after::{After, Asked};
use super::batches::Batches;
use super::checkpoints::Checkpoints;
use super::deletes::Deletions;
use super::follow_ups::{self, FollowUps, NewChildren};
use super::host::{Key, log_text, words};
use super::people::POISON;
use super::room::Arrivals;
use super::schedules::Ticked;
use super::sleep::Starts;
use super::turns::Turns;
use super::unique::Singles;
use super::world::World;

/// Jobs whose rows did not change are looked at again after so many transactions: what belongs to them may have.
const ALL_EVERY: u64 = 20;

/// So many Machines a job may take down: one with others aboard, and what is counted against it alone.
const CRASHES_MAX: u32 = 1 + limits::MACHINE_LOSSES_MAX + limits::UNEXPLAINED_LOSSES_MAX;

/// By so much a clock may be set in all that no lease is fresh for it, and a Machine that was heard of is not written down.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(20);

/// A rule that is broken, in words.
#[derive(Debug)]
pub(super) struct Broken(pub(super) String);

/// What a checker remembers.
#[derive(Default)]
pub(super) struct Ledger {
    enqueued: BTreeSet<JobId>,
    /// The last state of every job, and its attempts that ended.
    known: BTreeMap<JobId, (Job, Vec<AttemptView>)>,
    /// What hosts said of attempts. A Machine that was started again may run one again.
    said: BTreeMap<Key, Vec<Outcome>>,
    begun: BTreeSet<Key>,
    pub(super) singles: Singles,
    /// The jobs that somebody is about to retry.
    pub(super) retried: BTreeSet<JobId>,
    /// How often each job took its Machine down since it has a new allowance.
    crashes: BTreeMap<JobId, u32>,
    /// How often somebody retried each job by hand.
    allowances: BTreeMap<JobId, u32>,
    /// How often a suspect was cleared.
    cleared: u64,
    /// When attempts began, by queue and by key.
    starts: BTreeMap<(QueueName, Option<JobKey>), Vec<Timestamp>>,
    changes: u64,
    /// How many Machines there were, or may have been.
    present: u32,
    pub(super) ticked: Ticked,
    pub(super) after: After,
    pub(super) batches: Batches,
    pub(super) deletions: Deletions,
    pub(super) checkpoints: Checkpoints,
    pub(super) follow_ups: FollowUps,
    pub(super) turns: Turns,
    /// Those that made room for another queue's.
    pub(super) gave_way: BTreeSet<MachineName>,
    /// How often Machines were started since faults stopped, and attempts begun.
    pub(super) quiet_starts: Starts,
    /// How many live Machines each queue had last.
    live: BTreeMap<QueueName, u32>,
    /// A Machine that the server had suspended while it could be given jobs, or ran some.
    pub(super) suspended_in_use: Option<MachineName>,
    /// When each was last heard of, whatever clock the server has; and when the server began.
    heard: BTreeMap<MachineName, Timestamp>,
    server_since: Timestamp,
    /// Those that somebody drained, each with how many attempts it had been given.
    drained: BTreeMap<MachineName, u64>,
}

/// A job, with what belongs to it.
struct Row {
    job: Job,
    attempts: Vec<AttemptView>,
    result: Option<Bytes>,
    /// The log of its last attempt that ended.
    log: Bytes,
}

impl Ledger {
    /// An enqueue was answered: the job must be there from now on.
    pub(super) fn enqueued(&mut self, id: JobId) {
        self.enqueued.insert(id);
    }

    /// A job is deleted: if it comes again, it is a new one.
    pub(super) fn forget(&mut self, id: JobId) {
        self.known.remove(&id);
        self.enqueued.remove(&id);
        self.crashes.remove(&id);
        self.allowances.remove(&id);
    }

    /// The server begins to listen.
    pub(super) fn server_began(&mut self, now: Timestamp) {
        self.server_since = now;
    }

    /// The server has heard of a Machine.
    pub(super) fn heard(&mut self, machine: &MachineName, now: Timestamp) {
        self.heard.insert(machine.clone(), now);
    }

    /// No attempt is lost for silence that was none, however the clock was set.
    fn check_silence(&self, job: &Job, attempts: &[AttemptView], now: Timestamp) -> Result<(), Broken> {
        let known = self.known.get(&job.id).map_or(0, |(_, attempts)| attempts.len());
        for view in attempts.iter().skip(known) {
            let unheard = |failure: &Failure| failure.message.contains("was not heard of for a lease");
            if !view.failure.as_ref().is_some_and(unheard) {
                continue;
            }
            let heard = self.heard.get(&view.machine).copied().unwrap_or_default().max(self.server_since);
            let silent = now.since(heard);
            ensure(silent + CLOCK_TOLERANCE >= limits::LEASE, || {
                format!("{} lost an attempt, and its host was silent for {silent:?}: {view:?}", job.id)
            })?;
        }
        Ok(())
    }

    /// The server's clock was put back: what began before is of another time.
    pub(super) fn clock_was_put_back(&mut self) {
        self.starts.clear();
        self.turns.clock_was_put_back();
    }

    /// Somebody asks for a job, perhaps again: what that is to run after is as it was when it came.
    pub(super) fn asks_after(&mut self, new: &mut Asked) {
        if !self.known.contains_key(&new.job.id) {
            self.after.asked(new);
        }
    }

    /// A host begins an attempt.
    pub(super) fn begun(&mut self, key: Key, grant: &Grant) -> Result<(), Broken> {
        self.begun.insert(key);
        self.checkpoints.given(grant)?;
        let is_right = match self.ticked.has(key.job) {
            true => grant.args == "null",
            false => self.singles.may_have(key.job, &grant.args),
        };
        ensure(is_right, || format!("{} was given args {}", words(key), grant.args))
    }

    /// An attempt ended in a host.
    pub(super) fn host_said(&mut self, key: Key, outcome: &Outcome) {
        let said = self.said.entry(key).or_default();
        if !said.contains(outcome) {
            said.push(outcome.clone());
        }
    }

    /// A guest took its Machine down.
    pub(super) fn crashed(&mut self, id: JobId) {
        *self.crashes.entry(id).or_default() += 1;
    }

    /// Somebody retried a job by hand.
    pub(super) fn has_new_allowance(&mut self, id: JobId) {
        self.crashes.remove(&id);
        *self.allowances.entry(id).or_default() += 1;
    }

    /// Returns how often a suspect was cleared.
    pub(super) fn cleared(&self) -> u64 {
        self.cleared
    }

    /// Returns how many jobs lost Machines.
    pub(super) fn lost_machines(&self) -> usize {
        let lost = |view: &AttemptView| view.failure.as_ref().is_some_and(|f| f.cause == Cause::MachineLost);
        self.known.values().filter(|(_, attempts)| attempts.iter().any(lost)).count()
    }

    pub(super) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.known.values().map(|(job, _)| job)
    }

    pub(super) fn job(&self, id: JobId) -> Option<&Job> {
        self.known.get(&id).map(|(job, _)| job)
    }

    /// Returns a job that has not ended.
    pub(super) fn an_open_job(&self) -> Option<JobId> {
        self.jobs().find(|job| job.ended_at().is_none()).map(|job| job.id)
    }

    /// Returns a job that was to be started so long ago, and is neither started nor discarded.
    pub(super) fn a_job_overdue(&self, since: Timestamp) -> Option<&Job> {
        self.jobs().find(|job| job.has_expired(since))
    }

    /// Returns how many children a job has that has just completed, and how many of its attempts failed since they could not
    /// enqueue any.
    fn check_follow_ups(&self, row: &Row, new: &mut NewChildren) -> (Result<usize, Broken>, usize) {
        let (before, ended) =
            self.known.get(&row.job.id).map_or((None, 0), |(job, ended)| (Some(job), ended.len()));
        let in_vain = row.attempts.iter().skip(ended).filter(|attempt| follow_ups::enqueued_in_vain(attempt));
        (self.follow_ups.check(before, &row.job, new), in_vain.count())
    }

    fn check_job(&mut self, row: Row) -> Result<(), Broken> {
        let Row { job, attempts, result, log } = row;
        self.singles.saw(&job);
        let known = self.known.get(&job.id).map(|(before, _)| before);
        if known.is_none() {
            self.ticked.new_job(&job)?;
        }
        self.after.check(known, &job, self.retried.contains(&job.id))?;
        if let Some((before, ended_before)) = self.known.get(&job.id) {
            ensure(job.attempt >= before.attempt, || {
                format!("{} went from attempt {} to {}", job.id, before.attempt, job.attempt)
            })?;
            ensure(attempts.starts_with(ended_before), || {
                format!("{}: an attempt that had ended changed: {ended_before:?} -> {attempts:?}", job.id)
            })?;
            // All that happens to it is that others are to run after it, or that another takes its key, once its time to be the
            // only one is over.
            let stays = Job { unique: job.unique.clone(), links: job.links.clone(), ..before.clone() } == job;
            ensure(before.ended_at().is_none() || stays || self.retried.contains(&job.id), || {
                format!("{} had ended, and nobody retried it: {before:?} -> {job:?}", job.id)
            })?;
            let stops = job.attempt == before.attempt && (job.is_cancelling() || job.ended_at().is_some());
            ensure(!before.is_cancelling() || stops, || {
                format!("{} was cancelled, and goes on: {before:?} -> {job:?}", job.id)
            })?;
            check_tried_again(before, &job, &attempts)?;
            let more = attempts[ended_before.len()..].iter().filter(|view| view.spent).count();
            let counted = i64::from(job.spent) - i64::from(before.spent);
            ensure(counted == more as i64 || self.retried.contains(&job.id), || {
                format!("{more} more attempts at {} are spent, and {counted} more are counted", job.id)
            })?;
            self.cleared += u64::from(before.is_suspect() && !job.is_suspect());
            ensure(job.content_hash == before.content_hash, || format!("{} is another job now", job.id))?;
        }
        let last = if job.lease().is_some() { job.attempt.0 - 1 } else { job.attempt.0 };
        ensure(attempts.iter().map(|view| view.attempt.0).eq(1..=last), || {
            format!("{} is at attempt {}, and those that ended are {attempts:?}", job.id, job.attempt)
        })?;
        ensure(job.spent <= job.retry.max_attempts, || format!("{} spent {}", job.id, job.spent))?;
        let allowances = 1 + self.allowances.get(&job.id).copied().unwrap_or(0);
        let spent = attempts.iter().filter(|view| view.spent).count();
        ensure(spent <= allowances as usize * job.retry.max_attempts as usize, || {
            format!("{} spent {spent} attempts in {allowances} allowances: {job:?}", job.id)
        })?;
        check_expiry(&job, &attempts)?;
        self.check_blame(&job)?;
        self.check_state(&job, attempts.last(), result, &log)?;
        self.known.insert(job.id, (job, attempts));
        Ok(())
    }

    /// Who takes no Machine down is never discarded for one; who does is, soon enough.
    fn check_blame(&self, job: &Job) -> Result<(), Broken> {
        let discarded = matches!(job.state, JobState::Ended { how: Ending::Discarded, .. });
        let lost = job.failure.as_ref().is_some_and(|failure| failure.cause == Cause::MachineLost);
        ensure(job.module.as_str() == POISON || !(discarded && lost), || {
            format!("{} is innocent, and is discarded: {job:?}", job.id)
        })?;
        // One that was to be cancelled is, whatever else it is.
        ensure(
            job.ended_at().is_some() || !job.suspicion().is_some_and(|suspicion| suspicion.is_poison()),
            || format!("{} is poison, and goes on: {job:?}", job.id),
        )?;
        let crashes = self.crashes.get(&job.id).copied().unwrap_or(0);
        // What was not seen to crash, because it was given up or destroyed before, counts as unexplained or for nobody.
        ensure(crashes <= CRASHES_MAX, || format!("{} took {crashes} Machines down: {job:?}", job.id))
    }

    fn check_state(
        &self,
        job: &Job,
        last: Option<&AttemptView>,
        result: Option<Bytes>,
        log: &Bytes,
    ) -> Result<(), Broken> {
        let completed = matches!(job.state, JobState::Ended { how: Ending::Completed { .. }, .. });
        if completed {
            let expected = words(job.attempt_ref());
            ensure(result.as_deref() == Some(expected.as_bytes()), || {
                format!("{} completed at attempt {} with the result {result:?}", job.id, job.attempt)
            })?;
        }
        if let JobState::Running { lease, .. } = &job.state {
            ensure(lease.attempt == job.attempt, || format!("{} is leased as {lease:?}", job.id))?;
        }
        let Some(last) = last else { return Ok(()) };
        let key = Key { attempt: last.attempt, ..job.attempt_ref() };
        let text = log_text(key);
        ensure(text.starts_with(log), || format!("{} logged {log:?}", words(key)))?;
        if last.usage.is_none() {
            return Ok(());
        }
        // A host reported it.
        let said = self.said.get(&key).map(Vec::as_slice).unwrap_or_default();
        let in_vain = follow_ups::enqueued_in_vain(last) && self.follow_ups.may_fail(key);
        ensure(in_vain || said.iter().any(|outcome| is_kept_as(outcome, last)), || {
            format!("{} is kept as {last:?}, and what its host said is {said:?}", words(key))
        })?;
        // A log of what was not finished is told as far as it was: whoever runs it again begins a log of its own.
        let unfinished = said.iter().any(is_given_back);
        ensure(unfinished || text == *log, || format!("{} ended with only {log:?} of its log", words(key)))
    }

    /// No limit is exceeded, no paused queue starts anything, and each lane has the numbers that its jobs come to.
    fn check_queue(
        &self,
        queue: &QueueName,
        policy: &QueuePolicy,
        lanes: &BTreeMap<JobKey, Lane>,
    ) -> Result<(), Broken> {
        let jobs = || self.jobs().filter(|job| job.queue == *queue);
        let running =
            |of: &dyn Fn(&Job) -> bool| jobs().filter(|job| job.lease().is_some() && of(job)).count() as u64;
        let all = running(&|_| true);
        ensure(policy.max_running.is_none_or(|max| all <= max.into()), || {
            format!("{queue} runs {all} jobs: {policy:?}")
        })?;
        let keys: BTreeSet<&JobKey> = jobs().filter_map(|job| job.key.as_ref()).collect();
        for key in keys {
            let of_key = |job: &Job| job.key.as_ref() == Some(key);
            let ours = running(&of_key);
            ensure(policy.max_running_per_key.is_none_or(|max| ours <= max.into()), || {
                format!("{queue} runs {ours} jobs of {key}: {policy:?}")
            })?;
            let waiting = jobs().filter(|job| of_key(job) && job.phase().is_in_line()).count() as u64;
            let counted = lanes.get(key).map_or((0, 0), |lane| (lane.waiting, lane.running));
            ensure(counted == (waiting, ours), || {
                format!("the lane {key} of {queue} counts {counted:?}, and there are {waiting} and {ours}")
            })?;
        }
        Ok(())
    }

    /// An attempt began: neither the queue nor the key begins more in any stretch of time than its rate allows.
    fn check_start(
        &mut self,
        job: &Job,
        policy: &QueuePolicy,
        row: &QueueRow,
        now: Timestamp,
    ) -> Result<(), Broken> {
        ensure(row.paused(now).is_none(), || format!("{} began, and its queue is paused: {row:?}", job.id))?;
        let of_key = job.key.as_ref().and(policy.rate_per_key).map(|rate| (job.key.clone(), rate));
        for (key, rate) in policy.rate.map(|rate| (None, rate)).into_iter().chain(of_key) {
            let starts = self.starts.entry((job.queue.clone(), key)).or_default();
            starts.push(now);
            for (first, at) in starts.iter().enumerate() {
                let begun = (starts.len() - first) as u64;
                let brought = now.since(*at).as_millis() as u64 * u64::from(rate.jobs) / rate.per_ms;
                ensure(begun <= u64::from(rate.burst) + brought, || {
                    format!("{begun} attempts in {} began since {at}: {rate:?}", job.queue)
                })?;
            }
        }
        Ok(())
    }

    fn check_machines(
        &mut self,
        machines: &[(Machine, u32)],
        policies: &BTreeMap<QueueName, QueuePolicy>,
        max_machines: u32,
    ) -> Result<(), Broken> {
        let present = machines.iter().filter(|(machine, _)| is_present(machine)).count() as u32;
        // A server that may have fewer than the one before makes none until they are gone.
        ensure(present <= max_machines.max(self.present), || {
            format!("there are {present} Machines after {}, and {max_machines} are allowed", self.present)
        })?;
        self.present = present;
        ensure(self.suspended_in_use.is_none(), || {
            format!("{:?} is suspended while it is in use", self.suspended_in_use)
        })?;
        let mut live: BTreeMap<&QueueName, u32> = BTreeMap::new();
        let suspects = self.jobs().filter(|job| job.is_suspect());
        let suspects: BTreeSet<MachineName> =
            suspects.filter_map(|job| Some(job.lease()?.machine.clone())).collect();
        for (machine, leases) in machines {
            ensure(*leases <= 1 || !suspects.contains(&machine.name), || {
                format!("Machine {machine:?} runs a suspect beside others")
            })?;
            let shown = || format!("Machine {machine:?} holds {leases} leases");
            ensure(machine.state.may_exchange() || *leases == 0, shown)?;
            ensure(*leases <= machine.places, shown)?;
            ensure(!machine.single_use || machine.attempts <= 1, shown)?;
            if machine.drained {
                let given = *self.drained.entry(machine.name.clone()).or_insert(machine.attempts);
                ensure(machine.attempts == given, || {
                    format!("{shown} after {given}, and is drained", shown = shown())
                })?;
            }
            if machine.gives_way {
                self.gave_way.insert(machine.name.clone());
            }
            *live.entry(&machine.queue).or_default() += u32::from(machine.state.is_live());
        }
        for (queue, live) in live {
            let pooled = || policies.values().find(|policy| policy.pool.as_ref() == Some(queue));
            let max = policies.get(queue).or_else(pooled).map_or(0, |policy| policy.max_machines);
            // One that may have fewer since somebody said so begins none until they are gone.
            let before = self.live.insert(queue.clone(), live).unwrap_or(0);
            ensure(live <= max.max(before), || {
                format!("queue {queue} has {live} live Machines after {before}, and {max} are allowed")
            })?;
        }
        let names: BTreeSet<&MachineName> = machines.iter().map(|(machine, _)| &machine.name).collect();
        for lease in self.jobs().filter_map(Job::lease) {
            ensure(names.contains(&lease.machine), || format!("{lease:?} is held by no Machine"))?;
        }
        Ok(())
    }
}

/// Who failed is tried again only where its policy has another attempt, and not after its time.
fn check_tried_again(before: &Job, job: &Job, attempts: &[AttemptView]) -> Result<(), Broken> {
    let Some(last) = attempts.last().filter(|last| last.spent && before.lease().is_some()) else {
        return Ok(());
    };
    let (JobState::Waiting { due }, Some(failure)) = (&job.state, &last.failure) else { return Ok(()) };
    ensure(job.retry_until.is_none_or(|until| *due <= until), || {
        format!("{} is tried again after its time: {job:?}", job.id)
    })?;
    let backoff = job.retry.backoff_by_cause.get(&failure.cause).unwrap_or(&job.retry.backoff);
    ensure(*backoff != Backoff::None, || format!("{} is tried again after {failure:?}: {job:?}", job.id))
}

/// No job is started for the first time after its time, and none is discarded for that before.
fn check_expiry(job: &Job, attempts: &[AttemptView]) -> Result<(), Broken> {
    let first = attempts.first().map(|view| view.started_at).or(job.started_at);
    if let (Some(at), Some(first)) = (job.expires_at, first) {
        ensure(first < at, || format!("{} was started at {first}: {job:?}", job.id))?;
    }
    let JobState::Ended { how: Ending::Discarded, at: ended, .. } = &job.state else { return Ok(()) };
    let expired = job.failure.as_ref().is_some_and(|failure| failure.cause == Cause::Expired);
    let in_time = first.is_none() && job.expires_at.is_some_and(|at| at <= *ended);
    ensure(!expired || in_time, || format!("{} expired, and should not have: {job:?}", job.id))
}

/// Returns whether an attempt was given back, unfinished or not even begun.
pub(super) fn is_given_back(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::HandedBack { .. } | Outcome::ModuleLacks { .. })
}

/// Returns whether what a host said became what is kept.
fn is_kept_as(said: &Outcome, kept: &AttemptView) -> bool {
    match (said, &kept.failure) {
        (Outcome::Completed { .. }, None) => true,
        // Whose time is over is told so behind what its host said.
        (Outcome::Failed(said), Some(kept)) => {
            let out_of_time = format!("{}; not tried again", said.message);
            said == kept
                || kept.message.starts_with(&out_of_time)
                    && *said == Failure { message: said.message.clone(), ..kept.clone() }
        }
        (Outcome::Snoozed { .. }, Some(kept)) => kept.cause == Cause::Snoozed,
        (Outcome::Cancelled | Outcome::HandedBack { .. } | Outcome::ModuleLacks { .. }, Some(kept)) => {
            matches!(kept.cause, Cause::Cancelled | Cause::HandedBack)
        }
        _ => false,
    }
}

impl World {
    /// Checks everything, if anything was written since the last time.
    pub(super) fn check(&mut self) -> Result<(), Broken> {
        if self.ledger.changes == self.store.changes() {
            return Ok(());
        }
        self.ledger.changes = self.store.changes();
        self.check_jobs(self.ledger.changes.is_multiple_of(ALL_EVERY))
    }

    /// Checks jobs and Machines: of the jobs those that changed, or all.
    pub(super) fn check_jobs(&mut self, all: bool) -> Result<(), Broken> {
        if self.spoils_ticks() {
            let jobs = self.store.look(|rows| rows.jobs_listed(&JobSearch::default(), usize::MAX));
            let new = jobs.into_iter().flatten().filter(|job| !self.ledger.known.contains_key(&job.id));
            let new: Vec<Job> = new.collect();
            self.spoil_ticks(&new);
        }
        let (jobs, machines) = self
            .store
            .look(|rows| Ok((rows.jobs_listed(&JobSearch::default(), usize::MAX)?, rows.machines()?)));
        let jobs: Vec<Job> = jobs.into_iter().map(|job| job.expect("rows in memory can be read")).collect();
        let there: BTreeSet<JobId> = jobs.iter().map(|job| job.id).collect();
        let told = self.told();
        let deleted = self.ledger.check_deleted(&there, &self.policies, told)?;
        self.check_nothing_is_left(deleted)?;
        if let Some(lost) = self.ledger.enqueued.iter().find(|id| !there.contains(id)) {
            return Err(Broken(format!("{lost} is lost")));
        }
        let known = &self.ledger.known;
        let mut children = NewChildren::new();
        for job in jobs.iter().filter(|job| !known.contains_key(&job.id)) {
            if let Some(parent) = job.links.parent {
                children.entry(parent).or_default().insert(job.id);
            }
        }
        let changed = |job: &Job| known.get(&job.id).is_none_or(|(before, _)| before != job);
        let to_check: Vec<Job> = jobs.into_iter().filter(|job| all || changed(job)).collect();
        let rows = self.store.look(move |rows| to_check.into_iter().map(|job| row(rows, job)).collect());
        let rows: Vec<Row> = rows;
        let names: Vec<QueueName> = self.policies.keys().cloned().collect();
        let keys = ["large", "small", "tiny"].map(|key| JobKey::new(key).expect("a plain key"));
        let queues = self.store.look(move |rows| {
            let mut queues = BTreeMap::new();
            for name in names {
                let mut lanes = BTreeMap::new();
                for key in &keys {
                    lanes.extend(rows.lane(&name, key)?.map(|lane| (key.clone(), lane)));
                }
                queues.insert(name.clone(), (rows.queue(&name)?, lanes));
            }
            Ok(queues)
        });
        let (modules, served) = (self.store.look(|rows| rows.modules()), self.served());
        rows.iter().for_each(|row| self.ledger.after.note(&row.job));
        let batches = self.batches();
        let generation = format!("g{}", self.generation);
        let held = |job: &Job| {
            let served = served.contains(&job.module).then_some(generation.as_str());
            let hold = ModuleRow::hold(modules.get(&job.module), served, told);
            hold.is_some_and(|hold| !hold.lets(job.id))
        };
        self.check_turns(rows.iter().map(|row| &row.job), &queues, &held)?;
        let mut arrivals = Arrivals::default();
        let mut of_parents = Ok(());
        for row in rows {
            let known = self.ledger.known.get(&row.job.id).map(|(before, _)| before);
            let by_hand = self.ledger.retried.contains(&row.job.id);
            self.ledger.batches.check_callback(known, &row.job, by_hand, &batches)?;
            let before = self.ledger.known.get(&row.job.id).map_or(AttemptNumber(0), |(job, _)| job.attempt);
            if row.job.attempt > before {
                ensure(!held(&row.job), || format!("{} began, and its module does not", row.job.id))?;
            }
            arrivals.note(known, &row.job);
            if row.job.phase() == Phase::Held {
                self.trace.count("jobs that were held");
            }
            if let (true, Some((queue, _))) = (row.job.attempt > before, queues.get(&row.job.queue)) {
                let policy = self.policies.get(&row.job.queue).cloned().unwrap_or_default();
                self.ledger.check_start(&row.job, &policy, queue, told)?;
            }
            let (new, in_vain) = self.ledger.check_follow_ups(&row, &mut children);
            // What a fence is for is found by what else it breaks.
            of_parents = of_parents.and(new.map(|new| self.trace.count_many("jobs that jobs enqueued", new)));
            self.trace.count_many("attempts that enqueued in vain", in_vain);
            self.ledger.check_silence(&row.job, &row.attempts, self.now)?;
            self.ledger.check_job(row)?;
        }
        of_parents?;
        FollowUps::check_rest(&children)?;
        self.ledger.check_arrivals(&arrivals, &self.policies)?;
        for (name, (_, lanes)) in &queues {
            let policy = self.policies.get(name).cloned().unwrap_or_default();
            self.ledger.check_queue(name, &policy, lanes)?;
        }
        self.ledger.singles.check(told)?;
        self.check_batches(batches)?;
        self.check_schedules()?;
        self.ledger.check_machines(&machines, &self.policies, self.max_machines)
    }
}

fn row(rows: &mut dyn Rows, job: Job) -> Result<Row, StoreError> {
    let attempts: Result<Vec<AttemptView>, AttemptNumber> = rows.attempts(job.id)?.into_iter().collect();
    let attempts = attempts.expect("rows in memory can be read");
    let last = attempts.last().map_or(AttemptNumber(0), |view| view.attempt);
    Ok(Row { result: rows.content(job.id, Content::Result)?, log: rows.log(job.id, last)?, attempts, job })
}

/// Returns an error with the words of `broken` where a rule does not hold.
pub(super) fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken(broken())) }
}

/// Returns whether a row of a Machine keeps a place in the plan.
pub(super) fn is_present(machine: &Machine) -> bool {
    machine.state != MachineState::Gone
}
