//! The bounds and defaults that more than one part of midge must agree on, each with its reason.

use std::time::Duration;

use crate::Dollars;

/// Args are carried in every listing and log line about a job, so they stay small; bulk goes into the input.
pub const ARGS_BYTES_MAX: usize = 64 * 1024;
/// An input is held in memory by server and host while it is handed over.
pub const INPUT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A result is held in memory by host and server while it is reported.
pub const RESULT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What an attempt may save for those after it: it travels with each save, and with each attempt that begins.
pub const SAVED_BYTES_MAX: usize = 64 * 1024;
/// What is kept of an attempt's stderr. More is cut and marked, never a failure.
pub const LOG_BYTES_MAX: usize = 256 * 1024;
/// What is recorded of an attempt, all together, as the JSON that is kept of it: as much as its log, and it travels with the
/// report of a failure as that does. More is left out and marked, never a failure.
pub const RECORDING_BYTES_MAX: usize = 256 * 1024;
/// What is recorded of one body: a few large ones must not be all that is.
pub const RECORDED_BODY_BYTES_MAX: usize = 64 * 1024;
/// Readings of its clock that are recorded of an attempt: who looks more often waits for something.
pub const RECORDED_READINGS_MAX: usize = 4_096;
/// What is kept of an error message or a progress message.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// Tags of one job: each is a row of an index.
pub const TAGS_MAX: usize = 16;
/// A tag, and a name in a job's meta: shown in a line with others.
pub const TAG_BYTES_MAX: usize = 64;
/// The meta of a job, names and texts together: it is in the job's row, which is read and written with it.
pub const META_BYTES_MAX: usize = 4 * 1024;
/// A text that jobs are searched for: what nobody would type is none.
pub const SEARCH_TEXT_BYTES_MAX: usize = 256;
/// How deep args may be nested. Most readers of JSON end somewhere: serde_json, which many guests read with, after 127.
pub const ARGS_DEPTH_MAX: usize = 100;
/// A job's first attempts, which are kept with their logs whatever follows.
pub const ATTEMPTS_KEPT_FIRST: u32 = 10;
/// A job's last attempts that ended, which are kept with their logs. Nothing bounds how often a job is snoozed or given
/// back.
pub const ATTEMPTS_KEPT_LAST: u32 = 90;
/// The shortest that a guest can put its job off for. A job that asks whether something has come does so once a second.
pub const SNOOZE_MIN: Duration = Duration::from_secs(1);
/// The longest that a guest can put its job off for, by itself.
pub const PUT_OFF_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Attempts that run, that ended, or pieces of logs in one exchange: several times what all places of a host come to
/// while its server does not answer.
pub const EXCHANGE_REPORTS_MAX: usize = 8 * PLACES_MAX as usize;
/// Jobs in one bulk enqueue: one transaction, which others wait for.
pub const BULK_JOBS_MAX: usize = 10_000;
/// Jobs that one attempt enqueues, and all whose ends are in one exchange: one transaction, which other hosts wait for.
pub const FOLLOW_UPS_MAX: usize = BULK_JOBS_MAX;
/// Jobs of which each was enqueued by the one before it, without a rest of [`FOLLOW_UP_REST`]: one that enqueues itself for ever,
/// by mistake, ends within seconds, and who goes through pages one by one comes a long way.
pub const FOLLOW_UP_DEPTH_MAX: u32 = 1_000;
/// A follow-up job that is delayed by so much begins to count anew: one a second for ever is a way to work, and no flood.
pub const FOLLOW_UP_REST: Duration = Duration::from_secs(1);
/// The requests and inputs of jobs that one attempt enqueues: its host holds them in memory until the attempt ends, and they
/// travel with a result, in one body.
pub const FOLLOW_UP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Jobs that one job waits for: each is a row. More are a batch.
pub const AFTER_MAX: usize = 1_000;
/// Jobs that all jobs of one bulk enqueue wait for together: rows of one transaction.
pub const BULK_AFTER_MAX: usize = 50_000;
/// What a batch is, for people: shown in a line.
pub const BATCH_NAME_BYTES_MAX: usize = 256;
/// Batches that have not ended: each is a row that only whoever made it can end.
pub const BATCHES_MAX: u64 = 10_000;
/// The body of a bulk enqueue, and of one enqueue: an input in base64, args, and room to spare.
pub const ENQUEUE_BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The body of an exchange, both ways. At least one largest input or result always fits.
pub const EXCHANGE_BODY_BYTES_MAX: usize = 40 * 1024 * 1024;
/// Once an answer carries so many bytes of args and inputs, no other job goes into it.
pub const EXCHANGE_INPUT_BYTES_GOAL: usize = 16 * 1024 * 1024;
/// Destinations of one module, with those of its secrets: each is compared with each request.
pub const DESTINATIONS_MAX: usize = 100;
/// Secrets of one image: each is looked for in what comes back.
pub const SECRETS_MAX: usize = 100;
/// The value of a secret: it goes into a header, with others.
pub const SECRET_BYTES_MAX: usize = 8 * 1024;
/// The value of a secret: it is looked for in all that comes back, and one of a letter or two is everywhere.
pub const SECRET_BYTES_MIN: usize = 4;
/// Requests of one attempt that are open at once: each is a connection, and a buffer.
pub const OPEN_REQUESTS_MAX: usize = 16;
/// Requests of one attempt: one that makes more is a loop, or work for several jobs.
pub const REQUESTS_MAX: u32 = 10_000;
/// Bytes of bodies that the requests of one attempt send, all together.
pub const SENT_BYTES_MAX: u64 = 1 << 30;
/// Bytes of bodies that the requests of one attempt receive, all together.
pub const RECEIVED_BYTES_MAX: u64 = 4 << 30;
/// The head of a request or of an answer: the URL and all headers, names and values.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 * 1024;
/// The headers of a request or of an answer.
pub const HTTP_HEADERS_MAX: usize = 100;
/// Redirects that a request may follow.
pub const REDIRECTS_MAX: u32 = 20;
/// Places of one host. A place is a thread and up to a memory limit of memory.
pub const PLACES_MAX: u32 = 1_024;
/// Machines of one queue.
pub const MACHINES_MAX: u32 = 1_000;
/// Machines of all queues together: each is a connection that waits, and a row that every round of the dispatcher reads.
pub const SERVER_MACHINES_MAX: u32 = 5_000;
/// Queues that are named by jobs and not by the manifest: each is a line in every listing, and a search in every round
/// of the dispatcher.
pub const UNDECLARED_QUEUES_MAX: usize = 1_000;

/// How long a Machine's leases last after it was heard of. Long enough for a throttled shared vCPU that stands still.
pub const LEASE: Duration = Duration::from_secs(30);
/// A host is heard of at least this often, since no exchange is parked for longer: a third of a lease, so that one that
/// gets lost ends no lease.
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// Attempts before a job is discarded, as Sidekiq has it.
pub const ATTEMPTS_DEFAULT: u32 = 25;
/// The most attempts that may be set: more is "for ever", which no job should be tried.
pub const ATTEMPTS_MAX: u32 = 1_000;
/// The longest wait of a doubling curve between attempts, where none is named.
pub const BACKOFF_CAP_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// The longest wait between attempts that may be set, as long as what a guest may ask for.
pub const BACKOFF_WAIT_MAX: Duration = PUT_OFF_MAX;
/// Waits in a list of them: they are in the row of each job.
pub const BACKOFF_WAITS_MAX: usize = 100;
/// Causes that have a backoff of their own: several times as many as there are.
pub const BACKOFF_CAUSES_MAX: usize = 64;
/// The longest time that a module's jobs may be tried again for: more is "for ever", which is said by nothing.
pub const RETRY_FOR_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The time limit of an attempt.
pub const TIME_LIMIT_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// The longest time limit that may be set.
pub const TIME_LIMIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The memory limit of an attempt.
pub const MEMORY_LIMIT_DEFAULT: u64 = 256 * 1024 * 1024;
/// The largest memory limit: what 32-bit WebAssembly can address.
pub const MEMORY_LIMIT_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// The smallest memory limit: a page of WebAssembly is the least that a guest can have.
pub const MEMORY_LIMIT_MIN: u64 = 64 * 1024;
/// Elements of all of a guest's tables together: 8 bytes each in the host.
pub const TABLE_ELEMENTS_MAX: usize = 1_000_000;
/// Files and folders that a guest may have open at once, listings of folders included. Each is a descriptor of its host,
/// which all places share: 1,024 in all where the system says nothing else.
pub const OPEN_FILES_MAX: usize = 256;
/// A path of a folder, a guest's or a Machine's: the longest that Linux takes.
pub const PATH_BYTES_MAX: usize = 4096;
/// The env that a manifest gives to its Machines, in all: as much as Linux takes of one variable when a program is started.
pub const ENV_BYTES_MAX: usize = 128 * 1024;
/// Random bytes that a guest may ask for in one call.
pub const RANDOM_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The native stack of a guest, in bytes.
pub const STACK_BYTES_MAX: usize = 1024 * 1024;
/// Waiting jobs in a queue before an enqueue is refused (429).
pub const QUEUE_JOBS_MAX_DEFAULT: u64 = 1_000_000;
/// The most waiting jobs that may be set: no disk reaches it, so that a slip in zeros is seen.
pub const QUEUE_JOBS_MAX: u64 = 1_000_000_000;
/// The most that anything in a list of prices may cost for 30 days, a million dollars: a slip in zeros is seen, and no cost
/// of an hour comes near to what a number can hold.
pub const PRICE_MAX: Dollars = Dollars::from_cents(100_000_000);
/// The shortest time for which ended jobs may be kept: who waits for one reads its result meanwhile.
pub const KEEP_MIN: Duration = Duration::from_secs(60);
/// The longest time: ten years. More is "for ever", and a slip in zeros is seen.
pub const KEEP_MAX: Duration = Duration::from_secs(3_650 * 24 * 60 * 60);
/// The smallest and the largest priority of a job. Smaller runs first.
pub const PRIORITIES: std::ops::RangeInclusive<i8> = -100..=100;
/// How long a job waits to be worth one step of priority: one that waited an hour longer goes first.
pub const PRIORITY_STEP: Duration = Duration::from_secs(60 * 60);
/// How much chance adds to a wait at most, in percent: as much again.
pub const JITTER_PERCENT_MAX: u32 = 100;
/// A text that makes jobs the same: it is hashed, and kept nowhere.
pub const UNIQUE_TEXT_BYTES_MAX: usize = 1024;
/// The header `Idempotency-Key`: printable ASCII.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Why a queue or a schedule is paused, and who paused it: shown in a line each.
pub const PAUSE_BYTES_MAX: usize = 256;
/// The longest period of a rate: as long as a guest may put its job off.
pub const RATE_PERIOD_MAX: Duration = PUT_OFF_MAX;
/// The largest burst of a rate.
pub const RATE_BURST_MAX: u32 = 1_000_000;
/// Machines that a queue may have where nothing else is declared.
pub const MACHINES_DEFAULT: u32 = 4;
/// Machines of all queues together, where the declared queues may not have more: five queues' full number, and less than
/// half of the 50 or so that Fly gives to a new organization.
pub const SERVER_MACHINES_DEFAULT: u32 = 20;
/// Regions that a queue's Machines may be made in: Fly has about as many that are sold, and each that has no room costs a call.
pub const REGIONS_MAX: usize = 16;
/// The memory of Machines is sold in steps of so much.
pub const MACHINE_MEMORY_STEP_MIB: u32 = 256;
/// Ways that a host is told to its server: an address, and names. Each that leads nowhere costs its time before the next is tried.
pub const SERVER_URLS_MAX: usize = 4;
/// Jobs that one Machine runs at once.
pub const JOBS_PER_MACHINE_DEFAULT: u32 = 2;
/// How long a host waits for another job before it leaves.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(10);
/// The longest such wait that may be set, beside "for ever".
pub const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a host may take to phone home, from when its Machine is made or started: pulling an image takes up to tens of
/// seconds.
pub const BOOT_DEADLINE_DEFAULT: Duration = Duration::from_secs(2 * 60);
/// The least that may be set: a start takes a second or two, and a host that was not heard tries again after two.
pub const BOOT_DEADLINE_MIN: Duration = Duration::from_secs(5);
/// The most that may be set: what does not boot in an hour never will.
pub const BOOT_DEADLINE_MAX: Duration = Duration::from_secs(60 * 60);
/// The least greatest age of a Machine: less would make Machines only to replace them.
pub const MAX_AGE_MIN: Duration = Duration::from_secs(60);
/// The greatest age of a Machine that may be set. Who wants more wants none.
pub const MAX_AGE_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The most memory, in MiB, of a Machine that Fly can suspend.
pub const SUSPEND_MEMORY_MIB_MAX: u32 = 2_048;
/// How many Machines may crash while a suspect runs there alone before it is discarded as poison.
pub const MACHINE_LOSSES_MAX: u32 = 3;
/// The same for Machines that were lost and nobody can say why: killed from outside, or not heard of. Several in a row may
/// be bad luck, and a guest that starves its host is to end all the same.
pub const UNEXPLAINED_LOSSES_MAX: u32 = 10;
/// Schedules of a manifest: each is a row, and a line in every listing.
pub const SCHEDULES_MAX: usize = 1_000;
/// The most missed ticks of a schedule that may be made up for: one transaction, which others wait for, has as many jobs.
pub const MISSED_MAX: u32 = 1_000;
/// How many are where nothing else is said: an hour of a schedule that ticks every minute.
pub const MISSED_DEFAULT: u32 = 60;
/// The longest time that jobs of a schedule may have to be started: more is "for ever", which is said by nothing.
pub const SCHEDULE_EXPIRES_IN_MAX: Duration = RETRY_FOR_MAX;
/// The longest window within which jobs of a schedule may be spread: most schedules tick daily.
pub const JITTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Callers that follow jobs at once. Each is a connection, and holds a few pieces of a log that its receiver has not taken.
pub const FOLLOWERS_MAX: usize = 512;
/// How often a follower that is told nothing else hears that the server is there. Proxies cut what is silent for a minute.
pub const FOLLOWER_HEARD_EVERY: Duration = Duration::from_secs(15);
/// The most of a log in one event: as text of control characters it is six times as long.
pub const LOG_PIECE_BYTES_MAX: usize = 32 * 1024;
