//! What a store is: transactions, and the rows that can be found and written in one.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, sync_channel};

use async_trait::async_trait;
use bytes::Bytes;
use midge_core::{
    Change, Job, JobCounts, Lane, Machine, ModuleRow, Phase, QueueRow, Schedule, StateFilter, Turn,
    UnreadableJob,
};
use midge_protocol::job::AttemptView;
use midge_protocol::{
    AttemptNumber, AttemptRange, BatchId, JobId, JobKey, MachineName, ModuleName, QueueName, ScheduleName,
    Timestamp,
};

use crate::{BatchRows, DependencyRows};

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
    JobRows + LaneRows + DependencyRows + BatchRows + ContentRows + MachineRows + ScheduleRows
{
    /// Writes what an event changed: the job, and the attempt that ended. What the job does not keep any more is deleted.
    fn put_change(&mut self, change: &Change) -> Result<(), StoreError> {
        self.put_jobs(std::slice::from_ref(&change.job))?;
        let Some(attempt) = &change.attempt else { return Ok(()) };
        self.put_attempt(change.job.id, attempt)?;
        match change.job.forgotten_attempts() {
            Some(range) => self.delete_attempts(change.job.id, range),
            None => Ok(()),
        }
    }
}
impl<T> Rows for T where
    T: JobRows + LaneRows + DependencyRows + BatchRows + ContentRows + MachineRows + ScheduleRows
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

    /// Returns when the next waiting job of a queue and key becomes due after `now`.
    fn next_due_of_key(
        &mut self,
        queue: &QueueName,
        key: &JobKey,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError>;

    /// Finds the jobs that are leased to a Machine, by id. Those that cannot be read are left out, and, in a
    /// transaction that writes, [discarded](UnreadableJob::discarded).
    fn jobs_leased(&mut self, machine: &MachineName) -> Result<Vec<Job>, StoreError>;

    /// Finds at most `limit` jobs for people, newest id first, those that cannot be read among them.
    fn jobs_listed(&mut self, search: &JobSearch, limit: usize) -> Result<Vec<ReadJob>, StoreError>;

    /// Writes jobs: new ones, or over those with the same ids.
    fn put_jobs(&mut self, jobs: &[Job]) -> Result<(), StoreError>;

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

    /// Deletes at most `limit` jobs in a phase that ended before a time, with all that belongs to them.
    /// Returns how many.
    fn delete_ended(&mut self, phase: Phase, before: Timestamp, limit: usize) -> Result<usize, StoreError>;
}

/// Rows of queues and lanes: what finds the next jobs, however many wait in however many lanes.
///
/// A key with jobs that wait or run has a lane, whose numbers [`JobRows::put_jobs`] keeps by [`Lane::count`].
pub trait LaneRows {
    /// Finds the lane of a key.
    fn lane(&mut self, queue: &QueueName, key: &JobKey) -> Result<Option<Lane>, StoreError>;

    /// Finds at most `limit` lanes of a queue whose turn has come at `now` and that are not full, in the order of their
    /// turns.
    fn lanes_come(
        &mut self,
        queue: &QueueName,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Lane>, StoreError>;

    /// Returns the last turn of a queue's lanes that has come at `now`, and the first that has not; those of lanes that
    /// are full left out.
    fn turns(
        &mut self,
        queue: &QueueName,
        now: Timestamp,
    ) -> Result<(Option<Turn>, Option<Turn>), StoreError>;

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

/// Bytes that belong to jobs, and the attempts that ended.
pub trait ContentRows {
    /// Reads bytes of a job; nothing where none were written.
    fn content(&mut self, job: JobId, content: Content) -> Result<Option<Bytes>, StoreError>;

    /// Writes bytes of a job, over those of the same kind that were there. No bytes at all can be written, too.
    fn put_content(&mut self, job: JobId, content: Content, bytes: &[u8]) -> Result<(), StoreError>;

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
}

/// A search for jobs. A job is found if it fits every field that is set; all jobs fit the default.
#[derive(Debug, Clone, Default)]
pub struct JobSearch {
    /// Only jobs whose phase and due time this matches.
    pub state: StateFilter,
    /// Only jobs of this queue.
    pub queue: Option<QueueName>,
    /// Only jobs of this module.
    pub module: Option<ModuleName>,
    /// Only jobs of this batch.
    pub batch: Option<BatchId>,
    /// Only jobs whose id sorts before this one.
    pub before: Option<JobId>,
}

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

/// Returns what of a piece of a log, which begins at `offset`, is beyond its end; nothing where all of it is there
/// already, or where there is a gap.
pub(crate) fn beyond(end: u64, offset: u64, bytes: &[u8]) -> Option<&[u8]> {
    let known = end.checked_sub(offset)?;
    bytes.get(usize::try_from(known).ok()?..).filter(|new| !new.is_empty())
}

/// Returns the latest time at which something happened to a job.
pub(crate) fn changed_at(job: &Job) -> Timestamp {
    [job.ended_at(), job.started_at].into_iter().flatten().fold(job.enqueued_at, Timestamp::max)
}
