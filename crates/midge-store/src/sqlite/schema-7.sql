-- From schema 6 to 7: jobs know which other job enqueued them. No job of before was enqueued by one.

ALTER TABLE jobs ADD COLUMN parent BLOB;
-- Lists the jobs that another enqueued.
CREATE TABLE children (
    parent BLOB NOT NULL,
    id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (parent, id)
) STRICT, WITHOUT ROWID;
