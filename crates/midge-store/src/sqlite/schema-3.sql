-- From schema 2 to 3: expiry, priorities, keys, held jobs, and what is kept of queues and modules.

-- `expires_at` is midge_core::Job::expiry: of a job that waits and was never started. Rows of before have none.
ALTER TABLE jobs ADD COLUMN expires_at INTEGER;
CREATE INDEX jobs_expiring ON jobs (expires_at, id) WHERE expires_at IS NOT NULL;

-- `ranked` says whether a job has a key or a priority
-- that is not 0. Most have none, and cost no second index.
ALTER TABLE jobs ADD COLUMN key TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN ranked INTEGER NOT NULL DEFAULT 0;
DROP INDEX jobs_waiting;
-- Counts what becomes due, and finds what to claim of jobs that are not ranked. `phase` and `module` spare a look at the
-- job.
CREATE INDEX jobs_waiting ON jobs (queue, ranked, due, id, phase, module) WHERE phase <= 1;
-- Finds what to claim of a key and a priority.
CREATE INDEX jobs_ranked ON jobs (queue, key, priority, due, id) WHERE phase <= 1 AND ranked = 1;

-- midge_core::Lane: a key with jobs that wait or run. `bucket` is midge_core::Bucket.
CREATE TABLE lanes (
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    waiting INTEGER NOT NULL,
    running INTEGER NOT NULL,
    turn INTEGER,
    is_full INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    PRIMARY KEY (queue, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX lanes_by_turn ON lanes (queue, turn) WHERE is_full = 0 AND turn IS NOT NULL;
-- midge_core::QueueRow.
CREATE TABLE queues (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Phase 6 is midge_core::Phase::Held: a job that waits and is in no line. Finds them, to list and to release.
CREATE INDEX jobs_held ON jobs (module, queue, id) WHERE phase = 6;
ALTER TABLE counts ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
-- midge_core::ModuleRow.
CREATE TABLE modules (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
