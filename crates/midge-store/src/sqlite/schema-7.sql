-- From schema 6 to 7: the turn that a lane got when it was served last; and which other job enqueued a job, which none of before has.

ALTER TABLE lanes ADD COLUMN served INTEGER;
ALTER TABLE jobs ADD COLUMN parent BLOB;
-- Lists the jobs that another enqueued.
CREATE TABLE children (
    parent BLOB NOT NULL,
    id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (parent, id)
) STRICT, WITHOUT ROWID;
