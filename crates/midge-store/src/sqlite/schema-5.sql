-- From schema 4 to 5.

-- How long ended jobs are kept is said by queue: finds the first that is to be deleted.
DROP INDEX jobs_ended;
CREATE INDEX jobs_ended ON jobs (queue, phase, ended_at) WHERE ended_at IS NOT NULL;
