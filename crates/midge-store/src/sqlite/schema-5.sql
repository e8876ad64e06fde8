-- From schema 4 to 5: unique jobs; how long ended jobs of each queue are kept; jobs are found by their tags, their keys and how
-- they failed; jobs that wait for others; batches. Jobs that have none of these have no entry in any of the new indexes.

-- midge_core::UniqueKey, of a job that is the only one of it.
ALTER TABLE jobs ADD COLUMN unique_key BLOB;
CREATE UNIQUE INDEX jobs_unique ON jobs (unique_key) WHERE unique_key IS NOT NULL;

-- How long ended jobs are kept is said by queue: finds the first that is to be deleted.
DROP INDEX jobs_ended;
CREATE INDEX jobs_ended ON jobs (queue, phase, ended_at) WHERE ended_at IS NOT NULL;

-- `tags` are a job's tags, one a line. They stand in the table of that name, too, by which the job is found.
ALTER TABLE jobs ADD COLUMN tags TEXT;
-- Of the last attempt, where it failed: midge_core's Job::failure, Job::fingerprint and Job::failed_at.
ALTER TABLE jobs ADD COLUMN cause TEXT;
ALTER TABLE jobs ADD COLUMN fingerprint INTEGER;
ALTER TABLE jobs ADD COLUMN failed_at INTEGER;
-- An earlier release did not write down when an attempt failed: it was at the latest when the job ended, and after it
-- began. What cannot be read stays as it is.
UPDATE jobs SET
    cause = CASE WHEN json_valid(body) THEN body ->> '$.failure.cause' END,
    failed_at = CASE WHEN json_valid(body) THEN coalesce(
        ended_at, CAST(round(unixepoch(body ->> '$.started_at', 'subsec') * 1000) AS INTEGER), due) END
    WHERE CASE WHEN json_valid(body) THEN body ->> '$.failure.cause' END IS NOT NULL;
UPDATE jobs SET failed_at = ended_at WHERE phase = 5 AND failed_at IS NULL;
-- Lists the jobs of a key.
CREATE INDEX jobs_keyed ON jobs (key, id) WHERE key <> '';
-- List jobs that failed, the one that failed last first: in a phase, for a cause, and those that failed alike.
CREATE INDEX jobs_failed ON jobs (phase, failed_at, id) WHERE failed_at IS NOT NULL;
CREATE INDEX jobs_failed_for ON jobs (cause, failed_at, id) WHERE failed_at IS NOT NULL;
CREATE INDEX jobs_failed_alike ON jobs (fingerprint, failed_at, id) WHERE fingerprint IS NOT NULL;
CREATE TABLE tags (
    tag TEXT NOT NULL,
    job BLOB NOT NULL,
    PRIMARY KEY (tag, job)
) STRICT, WITHOUT ROWID;

-- midge_protocol::api::FailureGroup.
CREATE TABLE failures (
    fingerprint INTEGER PRIMARY KEY,
    last_seen INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX failures_by_time ON failures (last_seen);
-- midge_core::Sweep.
CREATE TABLE sweeps (
    id INTEGER PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;

-- Phase 7 is midge_core::Phase::Pending: a job that waits for others, in no line. Finds them and those that are held, to
-- list and to release.
DROP INDEX jobs_held;
CREATE INDEX jobs_out_of_line ON jobs (phase, module, queue, id) WHERE phase >= 6;
ALTER TABLE counts ADD COLUMN pending INTEGER NOT NULL DEFAULT 0;
-- Which pending job waits for which other. Numbers are never used again, so that they tell who began to wait later.
CREATE TABLE dependencies (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    job BLOB NOT NULL,
    on_job BLOB NOT NULL
) STRICT;
CREATE INDEX dependencies_of ON dependencies (job);
CREATE INDEX dependencies_on ON dependencies (on_job);
-- midge_store::Settling: ends of jobs of which those are to be told that waited for them. `how` is
-- midge_core::DependencyEnd.
CREATE TABLE settling (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    job BLOB NOT NULL,
    how INTEGER NOT NULL,
    told INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT;

-- The batch that a job is one of. Most have none.
ALTER TABLE jobs ADD COLUMN batch BLOB;
CREATE INDEX jobs_of_batch ON jobs (batch, id) WHERE batch IS NOT NULL;
-- midge_core::Batch. `acts` says whether there is something to do about it (Batch::has_to_act).
CREATE TABLE batches (
    id BLOB PRIMARY KEY,
    number INTEGER NOT NULL,
    acts INTEGER NOT NULL,
    ended_at INTEGER,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX batches_by_number ON batches (number);
CREATE INDEX batches_to_act ON batches (id) WHERE acts = 1;
CREATE INDEX batches_unended ON batches (id) WHERE ended_at IS NULL;
CREATE INDEX batches_ended ON batches (ended_at) WHERE ended_at IS NOT NULL;
