//! What a store is: transactions, and the rows that can be found and written in one.

mod failures;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, sync_channel};

use async_trait::async_trait;
use bytes::Bytes;
pub use midge_core::JobSearch;
use midge_core::{
    Change, FAILURE_OPEN_MAX, Job, JobCounts, Lane, Machine, ModuleRow, Phase, QueueRow, Schedule, Turn,
    UnreadableJob, failure_counted,
};
use midge_protocol::api::{Cursor, JobCount};
use midge_protocol::job::AttemptView;
use midge_protocol::{
    AttemptNumber, AttemptRange, JobId, JobKey, MachineName, ModuleName, QueueName, ScheduleName, Timestamp,
};

pub use self::failures::{FailureRows, SweepRows};
use crate::{BatchRows, CostRows, DependencyRows};

/// Work that is done in one transaction.
pub type WriteWork = Box<dyn FnOnce(&mut dyn Rows) -> Result<(), StoreError> + Send>;
/// Work that only reads, and sees one state of all rows.
pub type ReadWork = Box<dyn FnOnce(&mut dyn Rows) -> Result<(), StoreError> + Send>;

/// Durable rows. Use [`write()`] and [`read`], which give back what the work returns.
#[async_trait]
pub trait Store: Send + Sync {
    /// Does the work in one transaction: all that it writes is durable when this returns `Ok`, and nothing of it
    /// is there where this or the work fails. Transactions follow one another: no work sees half of another.
    async fn write_boxed(&self, work: WriteWork) -> Result<(), StoreError>;

    /// Does work that only reads. It sees everything whose `write` returned before. Writing in it is an error.
    async fn read_boxed(&self, work: ReadWork) -> Result<(), StoreError>;

    /// Fails where the store is known to take no work, without a transaction: cheap enough for whoever asks.
    fn check(&self) -> Result<(), StoreError>;
}

/// Does `work` in one durable transaction and returns what it returned.
///
/// # Errors
/// Returns the error that `work` returned, whose transaction is then undone. Where the store itself fails, its
/// [`StoreError`] comes as the same type.
///
/// # Examples
/// A refusal undoes what was written before it, and comes back as the caller's own type:
///
/// ```
/// use midge_store::{MemoryStore, StoreError, read, write};
///
/// #[derive(Debug)]
/// enum EnqueueError {
///     QueueFull { jobs: u64 },
///     Store(StoreError),
/// }
///
/// impl From<StoreError> for EnqueueError {
///     fn from(error: StoreError) -> EnqueueError {
///         EnqueueError::Store(error)
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = MemoryStore::new();
/// let refused = write(&store, |rows| -> Result<(), EnqueueError> {
///     rows.put_setting("last-enqueue", "2030-01-31T08:00:00Z")?;
///     Err(EnqueueError::QueueFull { jobs: 1_000_000 })
/// })
/// .await;
/// assert!(matches!(refused, Err(EnqueueError::QueueFull { jobs: 1_000_000 })));
///
/// let setting = read(&store, |rows| rows.setting("last-enqueue")).await?;
/// assert_eq!(setting, None);
/// # Ok::<(), StoreError>(())
/// # }).unwrap();
/// ```
pub async fn write<T, E>(
    store: &dyn Store,
    work: impl FnOnce(&mut dyn Rows) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    let (work, returned) = sending(work);
    received(store.write_boxed(work).await, &returned)
}

/// Does `work`, which only reads, and returns what it returned.
///
/// # Errors
/// Returns the error that `work` returned, or the store's as the same type. A `work` that writes is refused with
/// [`StoreError::Failed`].
pub async fn read<T, E>(
    store: &dyn Store,
    work: impl FnOnce(&mut dyn Rows) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    let (work, returned) = sending(work);
    received(store.read_boxed(work).await, &returned)
}

/// Makes work that sends what it returns.
fn sending<T, E>(
    work: impl FnOnce(&mut dyn Rows) -> Result<T, E> + Send + 'static,
) -> (WriteWork, Receiver<Result<T, E>>)
where
    T: Send + 'static,
    E: Send + 'static,
{
    let (send, receive) = sync_channel(1);
    let work = move |rows: &mut dyn Rows| {
        let returned = work(rows);
        let ended = returned.as_ref().map(|_| ()).map_err(|_| StoreError::Undone);
        // There is room for one; and who does not wait any more does not need it.
        let _ = send.send(returned);
        ended
    };
    (Box::new(work), receive)
}

/// Takes what the work returned, unless the store failed it.
fn received<T, E: From<StoreError>>(
    ended: Result<(), StoreError>,
    returned: &Receiver<Result<T, E>>,
) -> Result<T, E> {
    match ended {
        Ok(()) | Err(StoreError::Undone) => {
            returned.try_recv().expect("work that was done has sent what it returned")
        }
        Err(failed) => Err(failed.into()),
    }
}

/// Everything that can be done in a transaction.
pub trait Rows:
    JobRows
    + LaneRows
    + DependencyRows
    + BatchRows
    + ContentRows
    + MachineRows
    + ScheduleRows
    + FailureRows
    + SweepRows
    + CostRows
{
    /// Writes what an event changed: the job, the attempt that ended, and that one more failed so. What the job does not
    /// keep any more is deleted. `generation` is what the attempt's Machine was made from.
    fn put_change(&mut self, change: &Change, generation: &str) -> Result<(), StoreError> {
        self.put_jobs(std::slice::from_ref(&change.job))?;
        if let Some((_, fingerprint)) = change.new_failure() {
            let before = self.failure_group(fingerprint)?;
            if let Some(group) = failure_counted(before, change, generation) {
                self.put_failure_group(&group)?;
            }
        }
        let Some(attempt) = &change.attempt else { return Ok(()) };
        self.put_attempt(change.job.id, attempt)?;
        match change.job.forgotten_attempts() {
            Some(range) => self.delete_attempts(change.job.id, range),
            None => Ok(()),
        }
    }
}
impl<T> Rows for T where
    T: JobRows
        + LaneRows
        + DependencyRows
        + BatchRows
        + ContentRows
        + MachineRows
        + ScheduleRows
        + FailureRows
        + SweepRows
        + CostRows
{
}

/// A job as it was written, or what is known of one whose row cannot be read.
pub type ReadJob = Result<Job, UnreadableJob>;

/// Rows of jobs.
///
/// A row that cannot be read hides no other: it is left out where jobs are found to be run, and shown for what it is
/// where people look.
pub trait JobRows {
    /// Finds jobs by id, in the order of `ids`: nothing for an id that no job has. Fails with
    /// [`StoreError::Unreadable`] where the row of one cannot be read.
    fn jobs(&mut self, ids: &[JobId]) -> Result<Vec<Option<Job>>, StoreError>;

    /// Finds at most `limit` waiting jobs of a queue and key, or of those without one, that are due at `now`, in
    /// [`midge_core::claim_order`]. Those that cannot be read are left out, and, in a transaction that writes,
    /// [discarded](UnreadableJob::discarded).
    fn jobs_due(
        &mut self,
        queue: &QueueName,
        key: Option<&JobKey>,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError>;

    /// Returns the soonest due time of a queue's jobs in line that have a key, or that have none: of those that are due
    /// after a time, or of all.
    fn first_due(
        &mut self,
        queue: &QueueName,
        key: Option<&JobKey>,
        after: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, StoreError>;

    /// Finds the jobs that are leased to a Machine, by id. Those that cannot be read are left out, and, in a
    /// transaction that writes, [discarded](UnreadableJob::discarded).
    fn jobs_leased(&mut self, machine: &MachineName) -> Result<Vec<Job>, StoreError>;

    /// Finds at most `limit` jobs for people, in the order of the search, those that cannot be read among them. It may stop
    /// early where it has looked at many that do not fit, and then says where to go on.
    fn jobs_found(&mut self, search: &JobSearch, limit: usize) -> Result<FoundJobs, StoreError>;

    /// Finds at most `limit` jobs by a [plain](JobSearch::is_plain) search, which never stops early.
    fn jobs_listed(&mut self, search: &JobSearch, limit: usize) -> Result<Vec<ReadJob>, StoreError> {
        Ok(self.jobs_found(search, limit)?.jobs)
    }

    /// Counts the jobs that fit a search as they are at `now`, as far as that is fast. The search's order and its point in
    /// it are of no matter.
    fn jobs_counted(&mut self, search: &JobSearch, now: Timestamp) -> Result<JobCount, StoreError>;

    /// Writes jobs: new ones, or over those with the same ids.
    fn put_jobs(&mut self, jobs: &[Job]) -> Result<(), StoreError>;

    /// Writes a new job that is to be the only one of its key, which it has. Where another holds the key, nothing is written
    /// and that one is returned. One that cannot be read holds nothing: it is [discarded](UnreadableJob::discarded) at the
    /// time when the new job is enqueued.
    fn put_unique(&mut self, job: &Job) -> Result<Option<Job>, StoreError>;

    /// Counts every queue's jobs as they are at `now`. Fast however many jobs there are.
    fn job_counts(&mut self, now: Timestamp) -> Result<BTreeMap<QueueName, JobCounts>, StoreError>;

    /// Returns how many jobs of a queue wait, due or not: fast enough to be asked at each enqueue.
    fn jobs_waiting(&mut self, queue: &QueueName) -> Result<u64, StoreError>;

    /// Returns how many jobs of a queue run: fast enough to be asked at each claim.
    fn jobs_running(&mut self, queue: &QueueName) -> Result<u64, StoreError>;

    /// Returns how many jobs of each module are held: fast enough to be asked in each round.
    fn modules_held(&mut self) -> Result<BTreeMap<ModuleName, u64>, StoreError>;

    /// Finds at most `limit` jobs of a module that are held, of one queue after the other.
    fn jobs_held(&mut self, module: &ModuleName, limit: usize) -> Result<Vec<Job>, StoreError>;

    /// Returns when the next waiting job of any queue becomes due after `now`.
    fn next_due(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StoreError>;

    /// Finds at most `limit` jobs that have [expired](Job::has_expired) at `now`, soonest first. Those that cannot be read
    /// are left out, and, in a transaction that writes, [discarded](UnreadableJob::discarded).
    fn jobs_expired(&mut self, now: Timestamp, limit: usize) -> Result<Vec<Job>, StoreError>;

    /// Returns the soonest [expiry](Job::expiry) of any job, past or not.
    fn next_expiry(&mut self) -> Result<Option<Timestamp>, StoreError>;

    /// Deletes a job, whether it can be read or not, with all that belongs to it. Returns whether there was one.
    fn delete_job(&mut self, id: JobId) -> Result<bool, StoreError>;

    /// Returns when the first of a queue's jobs ended that ended in a phase. Fast however many there are.
    fn first_ended(&mut self, queue: &QueueName, phase: Phase) -> Result<Option<Timestamp>, StoreError>;

    /// Deletes jobs of a queue that ended in a phase and before a time, those that ended first first, with all that belongs to
    /// them: at most `limit`, and no more once the bytes of those come to some megabytes, so that no other work waits for
    /// long. Returns how many, which is 0 where there are none.
    fn delete_ended(
        &mut self,
        queue: &QueueName,
        phase: Phase,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError>;
}

/// Rows of queues and lanes: what finds the next jobs, however many wait in however many lanes.
///
/// A key with jobs that wait or run has a lane, whose numbers [`JobRows::put_jobs`] keeps by [`Lane::count`].
pub trait LaneRows {
    /// Finds the lane of a key.
    fn lane(&mut self, queue: &QueueName, key: &JobKey) -> Result<Option<Lane>, StoreError>;

    /// Finds the lanes of a queue whose turn has come at `now` and that are not full. One look suffices where there are not
    /// more than `limit`: most queues have none, and every claim asks.
    fn lanes_come(
        &mut self,
        queue: &QueueName,
        now: Timestamp,
        limit: usize,
    ) -> Result<LanesCome, StoreError>;

    /// Finds at most `limit` lanes of a queue, whatever their turns, in the order of their keys: those whose keys come after
    /// one.
    fn lanes_after(
        &mut self,
        queue: &QueueName,
        after: Option<&JobKey>,
        limit: usize,
    ) -> Result<Vec<Lane>, StoreError>;

    /// Writes when lanes are looked at next, and what is left of their rates; not the numbers of their jobs. A lane that
    /// is not there is left out, and one that is [idle](Lane::is_idle) at `now` is forgotten.
    fn put_lanes(&mut self, lanes: &[Lane], now: Timestamp) -> Result<(), StoreError>;

    /// Reads what is kept of a queue.
    fn queue(&mut self, name: &QueueName) -> Result<QueueRow, StoreError>;

    /// Reads all queues of which something is kept.
    fn queues(&mut self) -> Result<BTreeMap<QueueName, QueueRow>, StoreError>;

    /// Writes what is kept of a queue.
    fn put_queue(&mut self, name: &QueueName, row: &QueueRow) -> Result<(), StoreError>;

    /// Reads all modules of which something is kept.
    fn modules(&mut self) -> Result<BTreeMap<ModuleName, ModuleRow>, StoreError>;

    /// Writes what is kept of a module.
    fn put_module(&mut self, name: &ModuleName, row: &ModuleRow) -> Result<(), StoreError>;
}

/// The lanes of a queue whose turn has come at a time, and the turns about that time; lanes that are full left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LanesCome {
    /// The first of them, in the order of their turns.
    pub lanes: Vec<Lane>,
    /// The last turn that has come, of whichever lane.
    pub last: Option<Turn>,
    /// The first turn that has not.
    pub next: Option<Turn>,
}

/// Bytes that belong to jobs, and the attempts that ended.
pub trait ContentRows {
    /// Reads bytes of a job; nothing where none were written.
    fn content(&mut self, job: JobId, content: Content) -> Result<Option<Bytes>, StoreError>;

    /// Writes bytes of a job, over those of the same kind that were there. No bytes at all can be written, too.
    fn put_content(&mut self, job: JobId, content: Content, bytes: &[u8]) -> Result<(), StoreError>;

    /// Deletes bytes of a job, if there are any.
    fn delete_content(&mut self, job: JobId, content: Content) -> Result<(), StoreError>;

    /// Adds a piece to an attempt's log. `offset` says where in the log it begins, in bytes: what the log has
    /// already is not added again, and a piece that begins after the log's end is left out.
    fn append_log(
        &mut self,
        job: JobId,
        attempt: AttemptNumber,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), StoreError>;

    /// Reads an attempt's log; empty where there is none.
    fn log(&mut self, job: JobId, attempt: AttemptNumber) -> Result<Bytes, StoreError>;

    /// Reads an attempt's log from the byte `offset` on, at most `bytes_max` bytes of it; empty where it ends before.
    fn log_from(
        &mut self,
        job: JobId,
        attempt: AttemptNumber,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StoreError>;

    /// Writes an attempt that ended, over one with the same number.
    fn put_attempt(&mut self, job: JobId, attempt: &AttemptView) -> Result<(), StoreError>;

    /// Deletes those of a job's attempts that are in the range, with their logs.
    fn delete_attempts(&mut self, job: JobId, range: AttemptRange) -> Result<(), StoreError>;

    /// Reads a job's attempts that ended, oldest first: of one that cannot be read its number.
    fn attempts(&mut self, job: JobId) -> Result<Vec<Result<AttemptView, AttemptNumber>>, StoreError>;
}

/// Rows of Machines, and what the store remembers of itself. A Machine whose row cannot be read is not found.
pub trait MachineRows {
    /// Finds a Machine by name.
    fn machine(&mut self, name: &MachineName) -> Result<Option<Machine>, StoreError>;

    /// Finds all Machines, by name (names rise with the time they were made), each with how many jobs are leased
    /// to it.
    fn machines(&mut self) -> Result<Vec<(Machine, u32)>, StoreError>;

    /// Writes a Machine: a new one, or over the one of the same name.
    fn put_machine(&mut self, machine: &Machine) -> Result<(), StoreError>;

    /// Deletes the row of a Machine, if there is one.
    fn delete_machine(&mut self, name: &MachineName) -> Result<(), StoreError>;

    /// Deletes the rows of Machines that cannot be read. Returns the names of those Machines.
    fn delete_unreadable_machines(&mut self) -> Result<Vec<MachineName>, StoreError>;

    /// Reads a value that the store remembers, such as its own id.
    fn setting(&mut self, key: &str) -> Result<Option<String>, StoreError>;

    /// Writes a value to remember.
    fn put_setting(&mut self, key: &str, value: &str) -> Result<(), StoreError>;
}

/// Rows of schedules. One whose row cannot be read is not found.
pub trait ScheduleRows {
    /// Finds a schedule by name.
    fn schedule(&mut self, name: &ScheduleName) -> Result<Option<Schedule>, StoreError>;

    /// Finds all schedules, by name. Those that cannot be read are left out, and, in a transaction that writes, deleted:
    /// a schedule is then as one that is new.
    fn schedules(&mut self) -> Result<Vec<Schedule>, StoreError>;

    /// Returns the soonest time at which there is something to do about a schedule. Fast enough for every round.
    fn next_schedule(&mut self) -> Result<Option<Timestamp>, StoreError>;

    /// Writes a schedule: a new one, or over the one of the same name.
    fn put_schedule(&mut self, schedule: &Schedule) -> Result<(), StoreError>;

    /// Deletes the row of a schedule, if there is one.
    fn delete_schedule(&mut self, name: &ScheduleName) -> Result<(), StoreError>;
}

/// A kind of bytes that belong to a job, which has at most one of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Content {
    /// What the job was enqueued with: JSON text.
    Args = 0,
    /// What the guest reads from stdin, where that is not the args.
    Input = 1,
    /// What the guest wrote to stdout.
    Result = 2,
    /// The jobs that the job was enqueued to run after: 16 bytes of each id, one after the other.
    After = 3,
    /// What its attempts saved last, for the next one.
    Saved = 4,
    /// What the world told the last attempt that was recorded and failed: JSON text.
    Recording = 5,
}

impl Content {
    /// All kinds of bytes.
    pub const ALL: [Content; 6] =
        [Content::Args, Content::Input, Content::Result, Content::After, Content::Saved, Content::Recording];
}

/// Jobs that fit a search.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FoundJobs {
    /// The jobs, in the order of the search.
    pub jobs: Vec<ReadJob>,
    /// Where to go on, where so many jobs were looked at that it stopped before it had as many as were asked for.
    pub stopped_at: Option<Cursor>,
}

/// Returns how many open jobs a group of failures has, of which at most one more was counted than may be.
pub(crate) fn counted(jobs: u64) -> JobCount {
    JobCount { jobs: jobs.min(FAILURE_OPEN_MAX), exact: jobs <= FAILURE_OPEN_MAX }
}

/// How many jobs are looked at for one page at most, where no index has just those that fit: it takes some 30 ms.
pub(crate) const JOBS_LOOKED_AT_MAX: usize = 5_000;
/// How much of the args of jobs is searched for one page: about as long.
pub(crate) const ARGS_LOOKED_AT_MAX: usize = 16 * 1024 * 1024;
/// How far jobs are counted that no number is kept of.
pub(crate) const JOBS_COUNTED_MAX: u64 = 100_000;

/// Why a store could not do a work. Variants are named after what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another server has the database: end that one, or use another file.
    #[error("the database {path} is in use by another server: stop that one, or name another file")]
    InUse {
        /// The path of the file.
        path: String,
    },
    /// There can be no database in the file, or it cannot be written: do what `why` says, or name another file.
    #[error("cannot open the database {path}: {why}")]
    CannotOpen {
        /// The path of the file.
        path: String,
        /// What is in the way, and what to do.
        why: String,
    },
    /// The file is no database of midge's: name another file.
    #[error("{path} is not a midge database: {why}")]
    NotOurs {
        /// The path of the file.
        path: String,
        /// What the file is, and what to do.
        why: String,
    },
    /// The row of this job cannot be read: delete it, if it is not wanted any more. All others can.
    #[error("the row of job {} cannot be read ({}): delete the job, and enqueue it again under a new id", .0.id, .0.why)]
    Unreadable(Box<UnreadableJob>),
    /// A newer midge wrote the database: use that one, or another file.
    #[error(
        "a newer midge wrote the database {path}: it has schema {schema}, and this midge knows none after {known}: use \
         that midge, or name another file"
    )]
    Newer {
        /// The path of the file.
        path: String,
        /// The schema that the file has.
        schema: i64,
        /// The newest schema that this midge knows.
        known: usize,
    },
    /// The pages of the database are not what they must be: restore a backup, or save what can be read. Nothing is
    /// written until the store is opened again.
    #[error(
        "the database is damaged ({why}): stop the server, restore a backup or save what can be read with `sqlite3 \
         FILE .recover | sqlite3 NEW-FILE`, and start again"
    )]
    Damaged {
        /// What is wrong, and in which file.
        why: String,
    },
    /// The file of the database is not where it was: put it back, or stop the server. Nothing is read and nothing is
    /// written until it is back.
    #[error(
        "{path} {what} while the server had it open: nothing is read or written until it is back; if it is gone, stop \
         the server, put a copy in its place and start again"
    )]
    Lost {
        /// The path of the file: the database, or one of those beside it.
        path: String,
        /// What became of the file.
        what: String,
    },
    /// There is no room to write: make some. What was written before is kept.
    #[error(
        "the disk that holds the database is full, or a limit of files (`ulimit -f`) or a quota is reached: make room and \
         try again"
    )]
    Full,
    /// The work returned an error of its own, which [`write()`] and [`read`] give back. Its transaction is undone.
    #[error("the transaction was undone")]
    Undone,
    /// Anything else, such as a disk that fails: try again, or look at the machine.
    #[error("the store failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// Returns the same error for one more of those whose work shared a transaction. Says no more of an error that
    /// cannot be shared than its text.
    pub(crate) fn for_another(&self) -> StoreError {
        match self {
            StoreError::Full => StoreError::Full,
            StoreError::Failed(why) => StoreError::Failed(why.clone()),
            StoreError::Damaged { why } => StoreError::Damaged { why: why.clone() },
            StoreError::Lost { path, what } => StoreError::Lost { path: path.clone(), what: what.clone() },
            other => StoreError::Failed(other.to_string()),
        }
    }
}

/// Jobs whose bytes come to so many are enough for one [`JobRows::delete_ended`]. SQLite gives back each page of them.
pub(crate) const DELETED_BYTES_GOAL: u64 = 8 * 1024 * 1024;

/// Returns what of a piece of a log, which begins at `offset`, is beyond its end; nothing where all of it is there
/// already, or where there is a gap.
pub(crate) fn beyond(end: u64, offset: u64, bytes: &[u8]) -> Option<&[u8]> {
    let known = end.checked_sub(offset)?;
    bytes.get(usize::try_from(known).ok()?..).filter(|new| !new.is_empty())
}

/// Returns the time of the last thing that happened to a job, as far as its row says: not the latest of all, since a clock that was
/// ahead when the job was enqueued may have been put back.
pub(crate) fn changed_at(job: &Job) -> Timestamp {
    job.ended_at().or(job.started_at).unwrap_or(job.enqueued_at)
}
