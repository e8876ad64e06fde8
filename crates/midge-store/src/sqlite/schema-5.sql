-- From schema 4 to 5: unique jobs, and how long ended jobs of each queue are kept.

-- midge_core::UniqueKey, of a job that is the only one of it.
ALTER TABLE jobs ADD COLUMN unique_key BLOB;
CREATE UNIQUE INDEX jobs_unique ON jobs (unique_key) WHERE unique_key IS NOT NULL;

-- How long ended jobs are kept is said by queue: finds the first that is to be deleted.
DROP INDEX jobs_ended;
CREATE INDEX jobs_ended ON jobs (queue, phase, ended_at) WHERE ended_at IS NOT NULL;
