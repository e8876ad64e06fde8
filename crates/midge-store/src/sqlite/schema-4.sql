-- From schema 3 to 4: schedules. `next` is the time at which there is something to do about one.
CREATE TABLE schedules (
    name TEXT PRIMARY KEY,
    next INTEGER,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX schedules_next ON schedules (next) WHERE next IS NOT NULL;
