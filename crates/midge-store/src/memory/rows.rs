//! A transaction on the in-memory store: it writes at once, and remembers how to undo what it wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use midge_core::{
    InLane, Job, JobCounts, Lane, Machine, ModuleRow, Phase, QueueRow, Schedule, Turn, claim_order,
};
use midge_protocol::api::JobCount;
use midge_protocol::job::AttemptView;
use midge_protocol::{
    AttemptNumber, AttemptRange, JobId, JobKey, MachineName, ModuleName, QueueName, ScheduleName, Timestamp,
};

use super::tables::{Tables, Waiting};
use crate::rows::{DELETED_BYTES_GOAL, changed_at};
use crate::work::Access;
use crate::{
    Content, ContentRows, FoundJobs, JobRows, JobSearch, LaneRows, LanesCome, MachineRows, ScheduleRows,
    StoreError,
};

type Undo = Box<dyn FnOnce(&mut Tables)>;

pub(super) struct MemoryRows<'a> {
    pub(super) tables: &'a mut Tables,
    pub(super) access: Access,
    undo: Vec<Undo>,
}

impl<'a> MemoryRows<'a> {
    pub(super) fn new(tables: &'a mut Tables, access: Access) -> MemoryRows<'a> {
        MemoryRows { tables, access, undo: Vec::new() }
    }

    /// Returns whether anything was written.
    pub(super) fn has_written(&self) -> bool {
        !self.undo.is_empty()
    }

    /// Undoes everything, last first.
    pub(super) fn undo(self) {
        for undo in self.undo.into_iter().rev() {
            undo(self.tables);
        }
    }

    pub(super) fn tables(&self) -> &Tables {
        self.tables
    }

    pub(super) fn to_write(&self) -> Result<(), StoreError> {
        self.access.to_write()
    }

    /// Writes or deletes one row of the table that `table` chooses.
    pub(super) fn set<K, V>(
        &mut self,
        table: fn(&mut Tables) -> &mut BTreeMap<K, V>,
        key: K,
        value: Option<V>,
    ) where
        K: Ord + Clone + 'static,
        V: 'static,
    {
        let before = put(table(self.tables), key.clone(), value);
        self.undo.push(Box::new(move |tables| {
            put(table(tables), key, before);
        }));
    }

    fn set_job(&mut self, id: JobId, job: Option<Arc<Job>>) {
        let after = job.clone();
        let before = self.tables.set_job(id, job);
        self.count_in_lanes(before.as_deref(), after.as_deref());
        self.count_in_batch(before.as_deref(), after.as_deref());
        self.follow_dependencies(id, before.as_deref(), after.as_deref());
        self.undo.push(Box::new(move |tables| {
            tables.set_job(id, before);
        }));
    }

    /// Counts what became of a job in the lane of its key, if it has one.
    fn count_in_lanes(&mut self, before: Option<&Job>, after: Option<&Job>) {
        let lane_of = |job: &Job| job.key.clone().map(|key| (job.queue.clone(), key));
        let in_lane = |job: &Job| InLane { phase: job.phase(), due: job.due() };
        let now = after.or(before).map(changed_at).unwrap_or_default();
        let (was, is) = (before.and_then(lane_of), after.and_then(lane_of));
        if was == is {
            if let Some(lane) = is.filter(|_| before.map(in_lane) != after.map(in_lane)) {
                self.count_in_lane(lane, before.map(in_lane), after.map(in_lane), now);
            }
            return;
        }
        if let Some(lane) = was {
            self.count_in_lane(lane, before.map(in_lane), None, now);
        }
        if let Some(lane) = is {
            self.count_in_lane(lane, None, after.map(in_lane), now);
        }
    }

    fn count_in_lane(
        &mut self,
        key: (QueueName, JobKey),
        before: Option<InLane>,
        after: Option<InLane>,
        now: Timestamp,
    ) {
        let there = self.tables.lanes.get(&key).cloned();
        let mut lane = there.unwrap_or_else(|| Lane::new(key.0.clone(), key.1.clone()));
        lane.count(before, after);
        self.set_lane(key, Some(lane), now);
    }

    fn set_lane(&mut self, key: (QueueName, JobKey), lane: Option<Lane>, now: Timestamp) {
        let before = self.tables.set_lane(key.clone(), lane.filter(|lane| !lane.is_idle(now)));
        self.undo.push(Box::new(move |tables| {
            tables.set_lane(key, before);
        }));
    }

    /// The lines of a key, or of jobs without one, one for each priority.
    fn lines(&self, queue: &QueueName, key: Option<&JobKey>) -> impl Iterator<Item = &BTreeSet<Waiting>> {
        let of = |priority| (queue.clone(), key.cloned(), priority);
        self.tables.lines.range(of(i8::MIN)..=of(i8::MAX)).map(|(_, line)| line)
    }

    fn remove(&mut self, id: JobId) {
        self.set_job(id, None);
        for content in Content::ALL {
            self.set(|tables| &mut tables.contents, (id, content), None);
        }
        self.remove_attempts(id, AttemptRange { first: AttemptNumber(0), last: AttemptNumber(u32::MAX) });
    }

    /// Returns how many bytes belong to a job, logs included.
    fn bytes_of(&self, id: JobId) -> u64 {
        let contents = [Content::Args, Content::Input, Content::Result, Content::Saved, Content::Recording];
        let contents = contents.iter().filter_map(|content| self.tables.contents.get(&(id, *content)));
        let all = (id, AttemptNumber(0))..=(id, AttemptNumber(u32::MAX));
        let logs = self.tables.logs.range(all).map(|(_, log)| log.len());
        contents.map(Bytes::len).chain(logs).sum::<usize>() as u64
    }

    fn remove_attempts(&mut self, id: JobId, range: AttemptRange) {
        let range = (id, range.first)..=(id, range.last);
        let logs: Vec<_> = self.tables.logs.range(range.clone()).map(|(key, _)| *key).collect();
        let attempts: Vec<_> = self.tables.attempts.range(range).map(|(key, _)| *key).collect();
        for key in logs {
            self.set(|tables| &mut tables.logs, key, None);
        }
        for key in attempts {
            self.set(|tables| &mut tables.attempts, key, None);
        }
    }
}

fn put<K: Ord, V>(table: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => table.insert(key, value),
        None => table.remove(&key),
    }
}

impl JobRows for MemoryRows<'_> {
    fn jobs(&mut self, ids: &[JobId]) -> Result<Vec<Option<Job>>, StoreError> {
        Ok(ids.iter().map(|id| self.tables.jobs.get(id).map(|job| Job::clone(job))).collect())
    }

    fn jobs_due(
        &mut self,
        queue: &QueueName,
        key: Option<&JobKey>,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        let due = |line: &BTreeSet<Waiting>| {
            let due = line.iter().map(|Waiting(job)| &**job).take_while(|job| job.due() <= now);
            due.take(limit).cloned().collect::<Vec<_>>()
        };
        let mut jobs: Vec<Job> = self.lines(queue, key).flat_map(due).collect();
        jobs.sort_by_cached_key(claim_order);
        jobs.truncate(limit);
        Ok(jobs)
    }

    fn first_due(
        &mut self,
        queue: &QueueName,
        key: Option<&JobKey>,
        after: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, StoreError> {
        let first = |line: &BTreeSet<Waiting>| match after {
            Some(after) => not_due(line, after).last().map(Job::due),
            None => line.first().map(|Waiting(job)| job.due()),
        };
        Ok(self.lines(queue, key).filter_map(first).min())
    }

    fn jobs_leased(&mut self, machine: &MachineName) -> Result<Vec<Job>, StoreError> {
        let leased = self.tables.leased.get(machine).into_iter().flatten();
        Ok(leased.filter_map(|id| self.tables.jobs.get(id)).map(|job| Job::clone(job)).collect())
    }

    fn jobs_found(&mut self, search: &JobSearch, limit: usize) -> Result<FoundJobs, StoreError> {
        self.find(search, limit)
    }

    fn jobs_counted(&mut self, search: &JobSearch, _: Timestamp) -> Result<JobCount, StoreError> {
        self.count(search)
    }

    fn put_jobs(&mut self, jobs: &[Job]) -> Result<(), StoreError> {
        self.access.to_write()?;
        for job in jobs {
            self.set_job(job.id, Some(Arc::new(job.clone())));
        }
        Ok(())
    }

    fn put_unique(&mut self, job: &Job) -> Result<Option<Job>, StoreError> {
        self.access.to_write()?;
        let holder = job.unique.as_ref().and_then(|hold| self.tables.unique.get(&hold.key));
        if let Some(holder) = holder.and_then(|id| self.tables.jobs.get(id)) {
            return Ok(Some(Job::clone(holder)));
        }
        self.set_job(job.id, Some(Arc::new(job.clone())));
        Ok(None)
    }

    fn job_counts(&mut self, now: Timestamp) -> Result<BTreeMap<QueueName, JobCounts>, StoreError> {
        let mut counts = BTreeMap::new();
        for (queue, phases) in &self.tables.counts {
            let mut count = JobCounts { phases: phases.clone(), ..JobCounts::default() };
            if let Some(waiting) = self.tables.waiting.get(queue) {
                let oldest = waiting.first().map(|Waiting(job)| job.due());
                count.oldest_due = oldest.filter(|due| *due <= now);
                for job in not_due(waiting, now) {
                    match job.phase() {
                        Phase::Retrying => count.retryable += 1,
                        _ => count.scheduled += 1,
                    }
                }
            }
            counts.insert(queue.clone(), count);
        }
        Ok(counts)
    }

    fn jobs_waiting(&mut self, queue: &QueueName) -> Result<u64, StoreError> {
        let phases = self.tables.counts.get(queue).into_iter().flatten();
        Ok(phases.filter(|(phase, _)| phase.is_waiting()).map(|(_, jobs)| jobs).sum())
    }

    fn jobs_running(&mut self, queue: &QueueName) -> Result<u64, StoreError> {
        let phases = self.tables.counts.get(queue);
        Ok(phases.and_then(|phases| phases.get(&Phase::Running)).copied().unwrap_or(0))
    }

    fn modules_held(&mut self) -> Result<BTreeMap<ModuleName, u64>, StoreError> {
        Ok(self.tables.held.iter().map(|(module, held)| (module.clone(), held.len() as u64)).collect())
    }

    fn jobs_held(&mut self, module: &ModuleName, limit: usize) -> Result<Vec<Job>, StoreError> {
        let held = self.tables.held.get(module).into_iter().flatten().take(limit);
        Ok(held.filter_map(|(_, id)| self.tables.jobs.get(id)).map(|job| Job::clone(job)).collect())
    }

    fn next_due(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let queues = self.tables.waiting.values();
        Ok(queues.filter_map(|waiting| not_due(waiting, now).last()).map(Job::due).min())
    }

    fn jobs_expired(&mut self, now: Timestamp, limit: usize) -> Result<Vec<Job>, StoreError> {
        let expired = self.tables.expiring.iter().take_while(|(at, _)| *at <= now).take(limit);
        Ok(expired.filter_map(|(_, id)| self.tables.jobs.get(id)).map(|job| Job::clone(job)).collect())
    }

    fn next_expiry(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.tables.expiring.first().map(|(at, _)| *at))
    }

    fn delete_job(&mut self, id: JobId) -> Result<bool, StoreError> {
        self.access.to_write()?;
        let there = self.tables.jobs.contains_key(&id);
        if there {
            self.remove(id);
        }
        Ok(there)
    }

    fn first_ended(&mut self, queue: &QueueName, phase: Phase) -> Result<Option<Timestamp>, StoreError> {
        let ended = self.tables.ended.get(&(queue.clone(), phase));
        Ok(ended.and_then(BTreeSet::first).map(|(at, _)| *at))
    }

    fn delete_ended(
        &mut self,
        queue: &QueueName,
        phase: Phase,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.access.to_write()?;
        let ended = self.tables.ended.get(&(queue.clone(), phase)).into_iter().flatten();
        let (mut ids, mut bytes) = (Vec::new(), 0);
        for (_, id) in ended.take_while(|(at, _)| *at < before).take(limit) {
            bytes += self.bytes_of(*id);
            ids.push(*id);
            if bytes >= DELETED_BYTES_GOAL {
                break;
            }
        }
        for id in &ids {
            self.remove(*id);
        }
        Ok(ids.len())
    }
}

/// Walks the jobs that are not due yet, soonest last: they sort behind all that are due.
fn not_due(waiting: &BTreeSet<Waiting>, now: Timestamp) -> impl Iterator<Item = &Job> {
    waiting.iter().rev().map(|Waiting(job)| &**job).take_while(move |job| job.due() > now)
}

impl LaneRows for MemoryRows<'_> {
    fn lane(&mut self, queue: &QueueName, key: &JobKey) -> Result<Option<Lane>, StoreError> {
        Ok(self.tables.lanes.get(&(queue.clone(), key.clone())).cloned())
    }

    fn lanes_come(
        &mut self,
        queue: &QueueName,
        now: Timestamp,
        limit: usize,
    ) -> Result<LanesCome, StoreError> {
        let turns = || self.tables.turns.get(queue).into_iter().flatten();
        let come = |(turn, _): &&(Turn, JobKey)| *turn <= Turn::until(now);
        let lane = |(_, key): &(Turn, JobKey)| self.tables.lanes.get(&(queue.clone(), key.clone())).cloned();
        Ok(LanesCome {
            lanes: turns().take_while(come).take(limit).filter_map(lane).collect(),
            last: turns().take_while(come).last().map(|(turn, _)| *turn),
            next: turns().find(|turn| !come(turn)).map(|(turn, _)| *turn),
        })
    }

    fn lanes_after(
        &mut self,
        queue: &QueueName,
        after: Option<&JobKey>,
        limit: usize,
    ) -> Result<Vec<Lane>, StoreError> {
        let is_ours = |lane: &&Lane| lane.queue == *queue && after.is_none_or(|after| lane.key > *after);
        Ok(self.tables.lanes.values().filter(is_ours).take(limit).cloned().collect())
    }

    fn put_lanes(&mut self, lanes: &[Lane], now: Timestamp) -> Result<(), StoreError> {
        self.access.to_write()?;
        for planned in lanes {
            let key = (planned.queue.clone(), planned.key.clone());
            let Some(there) = self.tables.lanes.get(&key).cloned() else { continue };
            let Lane { turn, served, full, bucket, .. } = planned.clone();
            self.set_lane(key, Some(Lane { turn, served, full, bucket, ..there }), now);
        }
        Ok(())
    }

    fn queue(&mut self, name: &QueueName) -> Result<QueueRow, StoreError> {
        Ok(self.tables.queues.get(name).cloned().unwrap_or_default())
    }

    fn queues(&mut self) -> Result<BTreeMap<QueueName, QueueRow>, StoreError> {
        Ok(self.tables.queues.clone())
    }

    fn put_queue(&mut self, name: &QueueName, row: &QueueRow) -> Result<(), StoreError> {
        self.access.to_write()?;
        let kept = Some(row.clone()).filter(|row| *row != QueueRow::default());
        self.set(|tables| &mut tables.queues, name.clone(), kept);
        Ok(())
    }

    fn modules(&mut self) -> Result<BTreeMap<ModuleName, ModuleRow>, StoreError> {
        Ok(self.tables.modules.clone())
    }

    fn put_module(&mut self, name: &ModuleName, row: &ModuleRow) -> Result<(), StoreError> {
        self.access.to_write()?;
        let kept = Some(row.clone()).filter(|row| *row != ModuleRow::default());
        self.set(|tables| &mut tables.modules, name.clone(), kept);
        Ok(())
    }
}

impl ContentRows for MemoryRows<'_> {
    fn content(&mut self, job: JobId, content: Content) -> Result<Option<Bytes>, StoreError> {
        Ok(self.tables.contents.get(&(job, content)).cloned())
    }

    fn put_content(&mut self, job: JobId, content: Content, bytes: &[u8]) -> Result<(), StoreError> {
        self.access.to_write()?;
        self.set(|tables| &mut tables.contents, (job, content), Some(Bytes::copy_from_slice(bytes)));
        Ok(())
    }

    fn delete_content(&mut self, job: JobId, content: Content) -> Result<(), StoreError> {
        self.access.to_write()?;
        self.set(|tables| &mut tables.contents, (job, content), None);
        Ok(())
    }

    fn append_log(
        &mut self,
        job: JobId,
        attempt: AttemptNumber,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        self.access.to_write()?;
        let key = (job, attempt);
        let end = self.tables.logs.get(&key).map_or(0, Vec::len);
        let Some(new) = crate::rows::beyond(end as u64, offset, bytes) else { return Ok(()) };
        self.tables.logs.entry(key).or_default().extend_from_slice(new);
        self.undo.push(Box::new(move |tables| {
            if end == 0 {
                tables.logs.remove(&key);
            } else if let Some(log) = tables.logs.get_mut(&key) {
                log.truncate(end);
            }
        }));
        Ok(())
    }

    fn log(&mut self, job: JobId, attempt: AttemptNumber) -> Result<Bytes, StoreError> {
        Ok(self.tables.logs.get(&(job, attempt)).map(|log| Bytes::copy_from_slice(log)).unwrap_or_default())
    }

    fn log_from(
        &mut self,
        job: JobId,
        attempt: AttemptNumber,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StoreError> {
        let log = self.tables.logs.get(&(job, attempt)).map_or(&[][..], Vec::as_slice);
        let from = usize::try_from(offset).ok().and_then(|offset| log.get(offset..)).unwrap_or_default();
        Ok(Bytes::copy_from_slice(&from[..from.len().min(bytes_max)]))
    }

    fn put_attempt(&mut self, job: JobId, attempt: &AttemptView) -> Result<(), StoreError> {
        self.access.to_write()?;
        self.set(|tables| &mut tables.attempts, (job, attempt.attempt), Some(attempt.clone()));
        Ok(())
    }

    fn delete_attempts(&mut self, job: JobId, range: AttemptRange) -> Result<(), StoreError> {
        self.access.to_write()?;
        self.remove_attempts(job, range);
        Ok(())
    }

    fn attempts(&mut self, job: JobId) -> Result<Vec<Result<AttemptView, AttemptNumber>>, StoreError> {
        let all = (job, AttemptNumber(0))..=(job, AttemptNumber(u32::MAX));
        Ok(self.tables.attempts.range(all).map(|(_, attempt)| Ok(attempt.clone())).collect())
    }
}

impl MachineRows for MemoryRows<'_> {
    fn machine(&mut self, name: &MachineName) -> Result<Option<Machine>, StoreError> {
        Ok(self.tables.machines.get(name).cloned())
    }

    fn machines(&mut self) -> Result<Vec<(Machine, u32)>, StoreError> {
        let leased = |machine: &Machine| self.tables.leased.get(&machine.name).map_or(0, |ids| ids.len());
        let machines = self.tables.machines.values();
        Ok(machines.map(|machine| (machine.clone(), leased(machine) as u32)).collect())
    }

    fn put_machine(&mut self, machine: &Machine) -> Result<(), StoreError> {
        self.access.to_write()?;
        self.set(|tables| &mut tables.machines, machine.name.clone(), Some(machine.clone()));
        Ok(())
    }

    fn delete_machine(&mut self, name: &MachineName) -> Result<(), StoreError> {
        self.access.to_write()?;
        self.set(|tables| &mut tables.machines, name.clone(), None);
        Ok(())
    }

    fn delete_unreadable_machines(&mut self) -> Result<Vec<MachineName>, StoreError> {
        self.access.to_write()?;
        // What is in memory was never written as text.
        Ok(Vec::new())
    }

    fn setting(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        Ok(self.tables.settings.get(key).cloned())
    }

    fn put_setting(&mut self, key: &str, value: &str) -> Result<(), StoreError> {
        self.access.to_write()?;
        self.set(|tables| &mut tables.settings, key.to_owned(), Some(value.to_owned()));
        Ok(())
    }
}

impl ScheduleRows for MemoryRows<'_> {
    fn schedule(&mut self, name: &ScheduleName) -> Result<Option<Schedule>, StoreError> {
        Ok(self.tables.schedules.get(name).cloned())
    }

    fn schedules(&mut self) -> Result<Vec<Schedule>, StoreError> {
        Ok(self.tables.schedules.values().cloned().collect())
    }

    fn next_schedule(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.tables.schedules.values().filter_map(|schedule| schedule.next).min())
    }

    fn put_schedule(&mut self, schedule: &Schedule) -> Result<(), StoreError> {
        self.access.to_write()?;
        self.set(|tables| &mut tables.schedules, schedule.name.clone(), Some(schedule.clone()));
        Ok(())
    }

    fn delete_schedule(&mut self, name: &ScheduleName) -> Result<(), StoreError> {
        self.access.to_write()?;
        self.set(|tables| &mut tables.schedules, name.clone(), None);
        Ok(())
    }
}
