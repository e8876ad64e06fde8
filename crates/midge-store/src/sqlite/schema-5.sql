-- From schema 4 to 5: unique jobs.

-- midge_core::UniqueKey, of a job that is the only one of it.
ALTER TABLE jobs ADD COLUMN unique_key BLOB;
CREATE UNIQUE INDEX jobs_unique ON jobs (unique_key) WHERE unique_key IS NOT NULL;
