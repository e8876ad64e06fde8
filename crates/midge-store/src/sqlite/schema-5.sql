-- From schema 4 to 5: jobs that wait for others, and batches.

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
