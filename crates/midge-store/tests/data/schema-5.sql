-- A database of schema 5, as `sqlite3 FILE .dump` tells it, with the two numbers of its header that a dump leaves out.
-- The last midge of schema 5 made it with `write_what_is_rare` of tests/migration.rs. It is never made again.
PRAGMA application_id = 1835623527;
PRAGMA user_version = 5;
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
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
, expires_at INTEGER, key TEXT NOT NULL DEFAULT '', priority INTEGER NOT NULL DEFAULT 0, ranked INTEGER NOT NULL DEFAULT 0, unique_key BLOB, tags TEXT, cause TEXT, fingerprint INTEGER, failed_at INTEGER, batch BLOB) STRICT;
INSERT INTO jobs VALUES(1,X'00000000000000000000000000000001','other','hello',0,1900000000001,NULL,NULL,'{"id":"00000000-0000-0000-0000-000000000001","module":"hello","queue":"other","content_hash":1,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"expires_at":"2030-03-17T17:46:40.100Z","limits":{"time_ms":300000,"memory_bytes":268435456},"state":{"Waiting":{"due":"2030-03-17T17:46:40.001Z"}}}',1900000000100,'',0,0,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO jobs VALUES(2,X'00000000000000000000000000000002','default','hello',2,1900000000002,'m1',NULL,'{"id":"00000000-0000-0000-0000-000000000002","module":"hello","queue":"default","content_hash":2,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"expires_at":"2030-03-17T17:46:40.200Z","limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":1,"started_at":"2030-03-17T17:46:40.002Z","state":{"Running":{"lease":{"machine":"m1","attempt":1},"due":"2030-03-17T17:46:40.002Z","cancel":false}}}',NULL,'',0,0,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO jobs VALUES(3,X'00000000000000000000000000000003','other','hello',0,1900000000003,NULL,NULL,'{"id":"00000000-0000-0000-0000-000000000003","module":"hello","queue":"other","priority":3,"key":"acme","content_hash":3,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"state":{"Waiting":{"due":"2030-03-17T17:46:40.003Z"}}}',NULL,'acme',3,1,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO jobs VALUES(4,X'00000000000000000000000000000004','default','hello',2,1900000000004,'m1',NULL,'{"id":"00000000-0000-0000-0000-000000000004","module":"hello","queue":"default","priority":3,"key":"acme","content_hash":4,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":1,"started_at":"2030-03-17T17:46:40.004Z","state":{"Running":{"lease":{"machine":"m1","attempt":1},"due":"2030-03-17T17:46:40.004Z","cancel":false}}}',NULL,'acme',3,1,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO jobs VALUES(5,X'00000000000000000000000000000005','other','hello',1,1900000020050,NULL,NULL,'{"id":"00000000-0000-0000-0000-000000000005","module":"hello","queue":"other","key":"other","labels":{"tags":["blue","red"]},"content_hash":5,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":1,"spent":1,"started_at":"2030-03-17T17:46:40.005Z","failure":{"cause":"exit","message":"it said \"no\"\nand 🦟 left","exit_code":3},"failed":{"at":"2030-03-17T17:46:40.050Z","fingerprint":"64e0dcfc1a979edc"},"state":{"Waiting":{"due":"2030-03-17T17:47:00.050Z"}}}',NULL,'other',0,1,NULL,replace('blue\nred','\n',char(10)),'exit',7269052773911994076,1900000000050,NULL);
INSERT INTO jobs VALUES(6,X'00000000000000000000000000000006','default','hello',5,1900000000006,NULL,1900000000060,'{"id":"00000000-0000-0000-0000-000000000006","module":"hello","queue":"default","key":"other","labels":{"tags":["blue","red"]},"content_hash":6,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":1,"spent":1,"started_at":"2030-03-17T17:46:40.006Z","failure":{"cause":"refused","message":"never again"},"failed":{"at":"2030-03-17T17:46:40.060Z","fingerprint":"62cdeb0a63c232db"},"state":{"Ended":{"how":"Discarded","due":"2030-03-17T17:46:40.006Z","at":"2030-03-17T17:46:40.060Z"}}}',NULL,'other',0,1,NULL,replace('blue\nred','\n',char(10)),'refused',7119605015798493915,1900000000060,NULL);
INSERT INTO jobs VALUES(7,X'00000000000000000000000000000007','other','hello',0,1900000000007,NULL,NULL,'{"id":"00000000-0000-0000-0000-000000000007","module":"hello","queue":"other","priority":-5,"content_hash":7,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"unique":{"key":"07070707070707070707070707070707","states":["waiting","running"]},"limits":{"time_ms":300000,"memory_bytes":268435456},"state":{"Waiting":{"due":"2030-03-17T17:46:40.007Z"}}}',NULL,'',-5,1,X'07070707070707070707070707070707',NULL,NULL,NULL,NULL,NULL);
INSERT INTO jobs VALUES(8,X'00000000000000000000000000000008','default','hello',3,1900000000008,NULL,1900000000070,'{"id":"00000000-0000-0000-0000-000000000008","module":"hello","queue":"default","priority":-5,"content_hash":8,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":1,"spent":1,"started_at":"2030-03-17T17:46:40.008Z","state":{"Ended":{"how":{"Completed":{"result_bytes":3}},"due":"2030-03-17T17:46:40.008Z","at":"2030-03-17T17:46:40.070Z"}}}',NULL,'',-5,1,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO jobs VALUES(9,X'00000000000000000000000000000009','other','hello',1,1900000020080,NULL,NULL,'{"id":"00000000-0000-0000-0000-000000000009","module":"hello","queue":"other","labels":{"tags":["blue"]},"content_hash":9,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"expires_at":"2030-03-17T17:46:40.300Z","limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":1,"spent":1,"started_at":"2030-03-17T17:46:40.009Z","failure":{"cause":"exit","message":"it said \"no\"\nand 🦟 left","exit_code":3},"failed":{"at":"2030-03-17T17:46:40.080Z","fingerprint":"64e0dcfc1a979edc"},"state":{"Waiting":{"due":"2030-03-17T17:47:00.080Z"}}}',NULL,'',0,0,NULL,'blue','exit',7269052773911994076,1900000000080,NULL);
INSERT INTO jobs VALUES(10,X'0000000000000000000000000000000a','default','hello',6,1899999999990,NULL,NULL,'{"id":"00000000-0000-0000-0000-00000000000a","module":"hello","queue":"default","labels":{"tags":["blue"]},"content_hash":10,"enqueued_at":"2030-03-17T17:46:39.990Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"expires_at":"2030-03-17T17:46:40.300Z","limits":{"time_ms":300000,"memory_bytes":268435456},"state":{"Held":{"due":"2030-03-17T17:46:39.990Z"}}}',1900000000300,'',0,0,NULL,'blue',NULL,NULL,NULL,NULL);
INSERT INTO jobs VALUES(11,X'0000000000000000000000000000000b','other','hello',1,1900000020090,NULL,NULL,'{"id":"00000000-0000-0000-0000-00000000000b","module":"hello","queue":"other","key":"acme","content_hash":11,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":1,"spent":1,"started_at":"2030-03-17T17:46:40.011Z","failure":{"cause":"exit","message":"it said \"no\"\nand 🦟 left","exit_code":3},"failed":{"at":"2030-03-17T17:46:40.090Z","fingerprint":"64e0dcfc1a979edc"},"links":{"batch":"07070707-0707-0707-0707-070707070707"},"state":{"Waiting":{"due":"2030-03-17T17:47:00.090Z"}}}',NULL,'acme',0,1,NULL,NULL,'exit',7269052773911994076,1900000000090,X'07070707070707070707070707070707');
INSERT INTO jobs VALUES(12,X'0000000000000000000000000000000c','default','hello',4,1900000000012,NULL,1900000000095,'{"id":"00000000-0000-0000-0000-00000000000c","module":"hello","queue":"default","key":"acme","content_hash":12,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"links":{"batch":"07070707-0707-0707-0707-070707070707"},"state":{"Ended":{"how":"Cancelled","due":"2030-03-17T17:46:40.012Z","at":"2030-03-17T17:46:40.095Z"}}}',NULL,'acme',0,1,NULL,NULL,NULL,NULL,NULL,X'07070707070707070707070707070707');
INSERT INTO jobs VALUES(13,X'0000000000000000000000000000000d','other','hello',3,1900000000013,NULL,1900000000099,'{"id":"00000000-0000-0000-0000-00000000000d","module":"hello","queue":"other","content_hash":13,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":1,"spent":1,"started_at":"2030-03-17T17:46:40.013Z","links":{"has_dependents":true},"state":{"Ended":{"how":{"Completed":{"result_bytes":3}},"due":"2030-03-17T17:46:40.013Z","at":"2030-03-17T17:46:40.099Z"}}}',NULL,'',0,0,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO jobs VALUES(14,X'0000000000000000000000000000000e','default','hello',7,1900000000014,NULL,NULL,'{"id":"00000000-0000-0000-0000-00000000000e","module":"hello","queue":"default","content_hash":14,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"state":{"Pending":{"due":"2030-03-17T17:46:40.014Z"}}}',NULL,'',0,0,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO jobs VALUES(15,X'0000000000000000000000000000000f','other','hello',1,1900000026100,NULL,NULL,'{"id":"00000000-0000-0000-0000-00000000000f","module":"hello","queue":"other","labels":{"tags":["red"]},"content_hash":15,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"unique":{"key":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f","states":["waiting","running"]},"limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":2,"spent":2,"started_at":"2030-03-17T17:47:00.060Z","failure":{"cause":"exit","message":"it said \"no\"\nand 🦟 left","exit_code":3},"failed":{"at":"2030-03-17T17:46:40.100Z","fingerprint":"64e0dcfc1a979edc"},"links":{"batch":"07070707-0707-0707-0707-070707070707"},"state":{"Waiting":{"due":"2030-03-17T17:47:06.100Z"}}}',NULL,'',0,0,X'0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f','red','exit',7269052773911994076,1900000000100,X'07070707070707070707070707070707');
INSERT INTO jobs VALUES(16,X'00000000000000000000000000000010','default','hello',0,1900000000016,NULL,NULL,'{"id":"00000000-0000-0000-0000-000000000010","module":"hello","queue":"default","labels":{"tags":["red"]},"content_hash":16,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"unique":{"key":"10101010101010101010101010101010","states":["waiting","running"]},"limits":{"time_ms":300000,"memory_bytes":268435456},"links":{"batch":"07070707-0707-0707-0707-070707070707"},"state":{"Waiting":{"due":"2030-03-17T17:46:40.016Z"}}}',NULL,'',0,0,X'10101010101010101010101010101010','red',NULL,NULL,NULL,X'07070707070707070707070707070707');
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
    retrying_later INTEGER NOT NULL, held INTEGER NOT NULL DEFAULT 0, pending INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (queue, module)
) STRICT, WITHOUT ROWID;
INSERT INTO counts VALUES('default','hello',1,0,2,1,1,1,0,0,1,1);
INSERT INTO counts VALUES('other','hello',3,4,0,1,0,0,0,3,0,0);
CREATE TABLE horizon (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at INTEGER NOT NULL
) STRICT;
INSERT INTO horizon VALUES(1,1900000020060);
CREATE TABLE contents (
    job BLOB NOT NULL,
    content INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (job, content)
) STRICT, WITHOUT ROWID;
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
INSERT INTO lanes VALUES('default','acme',0,1,NULL,0,0);
INSERT INTO lanes VALUES('other','acme',2,0,1900000000003000,0,0);
INSERT INTO lanes VALUES('other','other',1,0,1900000000005000,0,0);
CREATE TABLE queues (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE modules (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE schedules (
    name TEXT PRIMARY KEY,
    next INTEGER,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE tags (
    tag TEXT NOT NULL,
    job BLOB NOT NULL,
    PRIMARY KEY (tag, job)
) STRICT, WITHOUT ROWID;
INSERT INTO tags VALUES('blue',X'00000000000000000000000000000005');
INSERT INTO tags VALUES('blue',X'00000000000000000000000000000006');
INSERT INTO tags VALUES('blue',X'00000000000000000000000000000009');
INSERT INTO tags VALUES('blue',X'0000000000000000000000000000000a');
INSERT INTO tags VALUES('red',X'00000000000000000000000000000005');
INSERT INTO tags VALUES('red',X'00000000000000000000000000000006');
INSERT INTO tags VALUES('red',X'0000000000000000000000000000000f');
INSERT INTO tags VALUES('red',X'00000000000000000000000000000010');
CREATE TABLE failures (
    fingerprint INTEGER PRIMARY KEY,
    last_seen INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE sweeps (
    id INTEGER PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE dependencies (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    job BLOB NOT NULL,
    on_job BLOB NOT NULL
) STRICT;
INSERT INTO dependencies VALUES(1,X'0000000000000000000000000000000e',X'0000000000000000000000000000000d');
CREATE TABLE settling (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    job BLOB NOT NULL,
    how INTEGER NOT NULL,
    told INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT;
INSERT INTO settling VALUES(1,X'0000000000000000000000000000000d',0,0,1);
CREATE TABLE batches (
    id BLOB PRIMARY KEY,
    number INTEGER NOT NULL,
    acts INTEGER NOT NULL,
    ended_at INTEGER,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO batches VALUES(X'07070707070707070707070707070707',1,0,NULL,'{"id":"07070707-0707-0707-0707-070707070707","number":1,"name":"seven","content_hash":7,"created_at":"2030-03-17T17:46:40.000Z","closed_at":null,"cancel":null,"failed_at":null,"ended_at":null,"callbacks":{},"counts":{"pending":0,"waiting":3,"running":0,"completed":0,"cancelled":1,"discarded":0}}');
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('dependencies',1);
INSERT INTO sqlite_sequence VALUES('settling',1);
CREATE UNIQUE INDEX jobs_by_id ON jobs (id);
CREATE INDEX jobs_leased ON jobs (machine, id) WHERE machine IS NOT NULL;
CREATE INDEX jobs_listed ON jobs (queue, module, phase, id) WHERE ended_at IS NOT NULL;
CREATE INDEX jobs_expiring ON jobs (expires_at, id) WHERE expires_at IS NOT NULL;
CREATE INDEX jobs_waiting ON jobs (queue, ranked, due, id, phase, module) WHERE phase <= 1;
CREATE INDEX jobs_ranked ON jobs (queue, key, priority, due, id) WHERE phase <= 1 AND ranked = 1;
CREATE INDEX lanes_by_turn ON lanes (queue, turn) WHERE is_full = 0 AND turn IS NOT NULL;
CREATE INDEX schedules_next ON schedules (next) WHERE next IS NOT NULL;
CREATE UNIQUE INDEX jobs_unique ON jobs (unique_key) WHERE unique_key IS NOT NULL;
CREATE INDEX jobs_ended ON jobs (queue, phase, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX jobs_keyed ON jobs (key, id) WHERE key <> '';
CREATE INDEX jobs_failed ON jobs (phase, failed_at, id) WHERE failed_at IS NOT NULL;
CREATE INDEX jobs_failed_for ON jobs (cause, failed_at, id) WHERE failed_at IS NOT NULL;
CREATE INDEX jobs_failed_alike ON jobs (fingerprint, failed_at, id) WHERE fingerprint IS NOT NULL;
CREATE INDEX failures_by_time ON failures (last_seen);
CREATE INDEX jobs_out_of_line ON jobs (phase, module, queue, id) WHERE phase >= 6;
CREATE INDEX dependencies_of ON dependencies (job);
CREATE INDEX dependencies_on ON dependencies (on_job);
CREATE INDEX jobs_of_batch ON jobs (batch, id) WHERE batch IS NOT NULL;
CREATE UNIQUE INDEX batches_by_number ON batches (number);
CREATE INDEX batches_to_act ON batches (id) WHERE acts = 1;
CREATE INDEX batches_unended ON batches (id) WHERE ended_at IS NULL;
CREATE INDEX batches_ended ON batches (ended_at) WHERE ended_at IS NOT NULL;
COMMIT;
