-- From schema 2 to 3: jobs that are discarded if they were not started by a time.
-- `expires_at` is midge_core::Job::expiry: of a job that waits and was never started. Rows of before have none.
ALTER TABLE jobs ADD COLUMN expires_at INTEGER;
CREATE INDEX jobs_expiring ON jobs (expires_at, id) WHERE expires_at IS NOT NULL;
