-- From schema 5 to 6: what most jobs lack is found by tables of its own, which have a row where there is something to be
-- found. As indexes of `jobs`, each was opened and looked at whenever a job was written, and most held nothing of it. The
-- columns stay. As in an index, `row` stands last. Each is filled from the index that it stands in for: without that, all rows
-- would be read for each.

-- Finds jobs that expire.
CREATE TABLE expiring (
    expires_at INTEGER NOT NULL,
    id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (expires_at, id)
) STRICT, WITHOUT ROWID;
INSERT INTO expiring SELECT expires_at, id, row FROM jobs INDEXED BY jobs_expiring
    WHERE expires_at IS NOT NULL;
-- Finds what to claim of a key and a priority.
CREATE TABLE ranked (
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due INTEGER NOT NULL,
    id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (queue, key, priority, due, id)
) STRICT, WITHOUT ROWID;
INSERT INTO ranked SELECT queue, key, priority, due, id, row FROM jobs INDEXED BY jobs_ranked
    WHERE phase <= 1 AND ranked = 1;
-- Which job is the only one of a key (midge_core::UniqueKey).
CREATE TABLE holders (
    unique_key BLOB PRIMARY KEY,
    id BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO holders SELECT unique_key, id FROM jobs INDEXED BY jobs_unique WHERE unique_key IS NOT NULL;
-- Lists the jobs of a key.
CREATE TABLE keyed (
    key TEXT NOT NULL,
    id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (key, id)
) STRICT, WITHOUT ROWID;
INSERT INTO keyed SELECT key, id, row FROM jobs INDEXED BY jobs_keyed WHERE key <> '';
-- Lists the jobs of a batch.
CREATE TABLE members (
    batch BLOB NOT NULL,
    id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (batch, id)
) STRICT, WITHOUT ROWID;
INSERT INTO members SELECT batch, id, row FROM jobs INDEXED BY jobs_of_batch WHERE batch IS NOT NULL;
-- List jobs that failed, the one that failed last first: in a phase, for a cause, and those that failed alike.
CREATE TABLE failed (
    phase INTEGER NOT NULL,
    failed_at INTEGER NOT NULL,
    id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (phase, failed_at, id)
) STRICT, WITHOUT ROWID;
INSERT INTO failed SELECT phase, failed_at, id, row FROM jobs INDEXED BY jobs_failed
    WHERE failed_at IS NOT NULL;
CREATE TABLE failed_for (
    cause TEXT NOT NULL,
    failed_at INTEGER NOT NULL,
    id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (cause, failed_at, id)
) STRICT, WITHOUT ROWID;
INSERT INTO failed_for SELECT cause, failed_at, id, row FROM jobs INDEXED BY jobs_failed_for
    WHERE failed_at IS NOT NULL AND cause IS NOT NULL;
CREATE TABLE failed_alike (
    fingerprint INTEGER NOT NULL,
    failed_at INTEGER NOT NULL,
    id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (fingerprint, failed_at, id)
) STRICT, WITHOUT ROWID;
INSERT INTO failed_alike SELECT fingerprint, failed_at, id, row FROM jobs INDEXED BY jobs_failed_alike
    WHERE failed_at IS NOT NULL AND fingerprint IS NOT NULL;

DROP INDEX jobs_expiring;
DROP INDEX jobs_ranked;
DROP INDEX jobs_unique;
DROP INDEX jobs_keyed;
DROP INDEX jobs_failed;
DROP INDEX jobs_failed_for;
DROP INDEX jobs_failed_alike;
DROP INDEX jobs_of_batch;

-- Lists jobs that neither run nor are in line, newest id first, in any queue and of any module (with the help of `counts`).
DROP INDEX jobs_out_of_line;
DROP INDEX jobs_listed;
CREATE INDEX jobs_listed ON jobs (queue, module, phase, id) WHERE phase >= 3;

-- midge_store's Spans of the fresh and of the retrying jobs: where among all ids they are. Written when this has run.
ALTER TABLE counts ADD COLUMN fresh_ids BLOB;
ALTER TABLE counts ADD COLUMN retrying_ids BLOB;
