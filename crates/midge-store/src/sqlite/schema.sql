-- The tables of schema 1. A job's columns beside `body` are what SQL may search by; midge-core computes them.
-- `phase` is midge_core::Phase: 0 fresh, 1 retrying, 2 running, 3 completed, 4 cancelled, 5 discarded.
CREATE TABLE jobs (
    row INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    queue TEXT NOT NULL,
    module TEXT NOT NULL,
    phase INTEGER NOT NULL,
    due INTEGER NOT NULL,
    machine TEXT,     -- of a running job
    ended_at INTEGER, -- of an ended job
    body TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX jobs_by_id ON jobs (id);
-- Finds what to claim, and counts what becomes due. `phase` and `module` spare a look at the job.
CREATE INDEX jobs_waiting ON jobs (queue, due, id, phase, module) WHERE phase <= 1;
CREATE INDEX jobs_leased ON jobs (machine, id) WHERE machine IS NOT NULL;
-- Lists jobs that ended, newest id first, in any queue and of any module (with the help of `counts`).
CREATE INDEX jobs_listed ON jobs (queue, module, phase, id) WHERE ended_at IS NOT NULL;
-- Finds what to delete.
CREATE INDEX jobs_ended ON jobs (phase, ended_at) WHERE ended_at IS NOT NULL;

-- How many jobs there are, kept by every transaction that writes jobs. `_later` are those of the waiting that are
-- due after `horizon.at`, a time that follows the clock: what became due since is counted in `jobs_waiting`.
CREATE TABLE counts (
    queue TEXT NOT NULL,
    module TEXT NOT NULL,
    fresh INTEGER NOT NULL,
    retrying INTEGER NOT NULL,
    running INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    discarded INTEGER NOT NULL,
    fresh_later INTEGER NOT NULL,
    retrying_later INTEGER NOT NULL,
    PRIMARY KEY (queue, module)
) STRICT, WITHOUT ROWID;
CREATE TABLE horizon (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at INTEGER NOT NULL
) STRICT;
INSERT INTO horizon VALUES (1, 0);

-- Bytes that belong to jobs. `content` is midge_store::Content: 0 args, 1 input, 2 result.
CREATE TABLE contents (
    job BLOB NOT NULL,
    content INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (job, content)
) STRICT, WITHOUT ROWID;
-- A log is its pieces: adding one does not write the others again.
CREATE TABLE logs (
    job BLOB NOT NULL,
    attempt INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (job, attempt, offset)
) STRICT, WITHOUT ROWID;
CREATE TABLE attempts (
    job BLOB NOT NULL,
    attempt INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (job, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE machines (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE settings (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
