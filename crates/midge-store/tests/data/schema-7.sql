-- A database of schema 7, as `sqlite3 FILE .dump` tells it, with the two numbers of its header that a dump leaves out.
-- The last midge of schema 7 made it with `write_what_costs` of tests/migration.rs. It is never made again.
PRAGMA application_id = 1835623527;
PRAGMA user_version = 7;
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
, expires_at INTEGER, key TEXT NOT NULL DEFAULT '', priority INTEGER NOT NULL DEFAULT 0, ranked INTEGER NOT NULL DEFAULT 0, unique_key BLOB, tags TEXT, cause TEXT, fingerprint INTEGER, failed_at INTEGER, batch BLOB, parent BLOB) STRICT;
INSERT INTO jobs VALUES(1,X'00000000000000000000000000000001','default','hello',0,1900000000000,NULL,NULL,'{"id":"00000000-0000-0000-0000-000000000001","module":"hello","queue":"default","content_hash":1,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"state":{"Waiting":{"due":"2030-03-17T17:46:40.000Z"}}}',NULL,'',0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO jobs VALUES(2,X'00000000000000000000000000000002','default','hello',1,1900000020000,NULL,NULL,'{"id":"00000000-0000-0000-0000-000000000002","module":"hello","queue":"default","content_hash":2,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":1,"spent":1,"started_at":"2030-03-17T17:46:40.000Z","failure":{"cause":"exit","message":"it said \"no\"\nand 🦟 left","exit_code":3},"state":{"Waiting":{"due":"2030-03-17T17:47:00.000Z"}}}',NULL,'',0,0,NULL,NULL,'exit',NULL,1900000000000,NULL,NULL);
INSERT INTO jobs VALUES(3,X'00000000000000000000000000000003','default','hello',2,1900000000000,'m1',NULL,'{"id":"00000000-0000-0000-0000-000000000003","module":"hello","queue":"default","content_hash":3,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":1,"started_at":"2030-03-17T17:46:40.000Z","state":{"Running":{"lease":{"machine":"m1","attempt":1},"due":"2030-03-17T17:46:40.000Z","cancel":false}}}',NULL,'',0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO jobs VALUES(4,X'00000000000000000000000000000004','default','hello',3,1900000000000,NULL,1900000000010,'{"id":"00000000-0000-0000-0000-000000000004","module":"hello","queue":"default","content_hash":4,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":1,"spent":1,"started_at":"2030-03-17T17:46:40.000Z","state":{"Ended":{"how":{"Completed":{"result_bytes":3}},"due":"2030-03-17T17:46:40.000Z","at":"2030-03-17T17:46:40.010Z"}}}',NULL,'',0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO jobs VALUES(5,X'00000000000000000000000000000005','default','hello',4,1900000000000,NULL,1900000000011,'{"id":"00000000-0000-0000-0000-000000000005","module":"hello","queue":"default","content_hash":5,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"state":{"Ended":{"how":"Cancelled","due":"2030-03-17T17:46:40.000Z","at":"2030-03-17T17:46:40.011Z"}}}',NULL,'',0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO jobs VALUES(6,X'00000000000000000000000000000006','default','hello',5,1900000000000,NULL,1900000000012,'{"id":"00000000-0000-0000-0000-000000000006","module":"hello","queue":"default","content_hash":6,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":1,"spent":1,"started_at":"2030-03-17T17:46:40.000Z","failure":{"cause":"refused","message":"never again"},"state":{"Ended":{"how":"Discarded","due":"2030-03-17T17:46:40.000Z","at":"2030-03-17T17:46:40.012Z"}}}',NULL,'',0,0,NULL,NULL,'refused',NULL,1900000000012,NULL,NULL);
INSERT INTO jobs VALUES(7,X'00000000000000000000000000000007','other','hello',2,1900000000005,'m1',NULL,'{"id":"00000000-0000-0000-0000-000000000007","module":"hello","queue":"other","content_hash":7,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":1,"started_at":"2030-03-17T17:46:40.005Z","progress":{"done":18446744073709551615,"total":18446744073709551615,"message":"{\"attempts_max\":1,\"due_at\":\"\\never\",\"retry\":{\"attempts_max\":2}}\n\u0000🦟/é"},"state":{"Running":{"lease":{"machine":"m1","attempt":1},"due":"2030-03-17T17:46:40.005Z","cancel":true}}}',NULL,'',0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO jobs VALUES(8,X'00000000000000000000000000000008','other','resize',0,253402207200000,NULL,NULL,'{"id":"00000000-0000-0000-0000-000000000008","module":"resize","queue":"other","content_hash":18446744073709551615,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":4294967295,"backoff":{"exponential":{"base_ms":18446744073709551615,"cap_ms":3600000}}},"limits":{"time_ms":18446744073709551615,"memory_bytes":18446744073709551615},"spent":4294967295,"machine_losses":4294967295,"state":{"Waiting":{"due":"9999-12-30T22:00:00.000Z"}}}',NULL,'',0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO jobs VALUES(9,X'00000000000000000000000000000009','default','hello',1,1900000020000,NULL,NULL,'{"id":"00000000-0000-0000-0000-000000000009","module":"hello","queue":"default","content_hash":9007199254740993,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":1,"spent":1,"started_at":"2030-03-17T17:46:40.000Z","failure":{"cause":"exit","message":"{\"attempts_max\":1,\"due_at\":\"\\never\",\"retry\":{\"attempts_max\":2}}\n\u0000🦟/é","exit_code":-2147483648,"retry_after_ms":18446744073709551615},"state":{"Waiting":{"due":"2030-03-17T17:47:00.000Z"}}}',NULL,'',0,0,NULL,NULL,'exit',NULL,1900000000000,NULL,NULL);
INSERT INTO jobs VALUES(10,X'0000000000000000000000000000000a','default','hello',1,1900000000009,NULL,NULL,'{"id":"00000000-0000-0000-0000-00000000000a","module":"hello","queue":"default","content_hash":10,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":1,"started_at":"2030-03-17T17:46:40.000Z","failure":{"cause":"handed_back","message":"its Machine was told to stop"},"state":{"Waiting":{"due":"2030-03-17T17:46:40.009Z"}}}',NULL,'',0,0,NULL,NULL,'handed_back',NULL,1900000000000,NULL,NULL);
INSERT INTO jobs VALUES(11,X'0000000000000000000000000000000b','default','hello',1,1900000000008,NULL,NULL,'{"id":"00000000-0000-0000-0000-00000000000b","module":"hello","queue":"default","content_hash":11,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":1,"machine_losses":1,"started_at":"2030-03-17T17:46:40.000Z","failure":{"cause":"machine_lost","message":"{\"attempts_max\":1,\"due_at\":\"\\never\",\"retry\":{\"attempts_max\":2}}\n\u0000🦟/é"},"state":{"Waiting":{"due":"2030-03-17T17:46:40.008Z"}}}',NULL,'',0,0,NULL,NULL,'machine_lost',NULL,1900000000000,NULL,NULL);
INSERT INTO jobs VALUES(12,X'0000000000000000000000000000000c','default','resize',3,1900000092000,NULL,253402207200000,'{"id":"00000000-0000-0000-0000-00000000000c","module":"resize","queue":"default","content_hash":12,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":4,"spent":4,"started_at":"2030-03-17T17:48:12.000Z","state":{"Ended":{"how":{"Completed":{"result_bytes":3}},"due":"2030-03-17T17:48:12.000Z","at":"9999-12-30T22:00:00.000Z"}}}',NULL,'',0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO jobs VALUES(13,X'0000000000000000000000000000000d','other','resize',0,1900000000020,NULL,NULL,'{"id":"00000000-0000-0000-0000-00000000000d","module":"resize","queue":"other","content_hash":13,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"state":{"Waiting":{"due":"2030-03-17T17:46:40.020Z"}}}',NULL,'',0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO jobs VALUES(14,X'0000000000000000000000000000000e','other','resize',0,1900000000030,NULL,NULL,'{"id":"00000000-0000-0000-0000-00000000000e","module":"resize","queue":"other","content_hash":14,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"state":{"Waiting":{"due":"2030-03-17T17:46:40.030Z"}}}',NULL,'',0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO jobs VALUES(15,X'0000000000000000000000000000000f','other','resize',3,1900000000000,NULL,1900000000040,'{"id":"00000000-0000-0000-0000-00000000000f","module":"resize","queue":"other","content_hash":15,"enqueued_at":"2030-03-17T17:46:40.000Z","retry":{"max_attempts":25,"backoff":"sidekiq"},"limits":{"time_ms":300000,"memory_bytes":268435456},"attempt":1,"spent":1,"started_at":"2030-03-17T17:46:40.000Z","state":{"Ended":{"how":{"Completed":{"result_bytes":3}},"due":"2030-03-17T17:46:40.000Z","at":"2030-03-17T17:46:40.040Z"}}}',NULL,'',0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
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
    retrying_later INTEGER NOT NULL, held INTEGER NOT NULL DEFAULT 0, pending INTEGER NOT NULL DEFAULT 0, fresh_ids BLOB, retrying_ids BLOB,
    PRIMARY KEY (queue, module)
) STRICT, WITHOUT ROWID;
INSERT INTO counts VALUES('default','hello',1,4,1,1,1,1,0,0,0,0,X'00000000000000000000000000000001',X'00000000000000000000000000000004');
INSERT INTO counts VALUES('default','resize',0,0,0,1,0,0,0,0,0,0,X'',X'');
INSERT INTO counts VALUES('other','hello',0,0,1,0,0,0,0,0,0,0,X'',X'');
INSERT INTO counts VALUES('other','resize',3,0,0,1,0,0,0,0,0,0,X'00000000000000000000000000000003',X'');
CREATE TABLE horizon (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at INTEGER NOT NULL
) STRICT;
INSERT INTO horizon VALUES(1,253402207200000);
CREATE TABLE contents (
    job BLOB NOT NULL,
    content INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (job, content)
) STRICT, WITHOUT ROWID;
INSERT INTO contents VALUES(X'00000000000000000000000000000001',0,X'7b22617474656d7074735f6d6178223a312c226475655f6174223a225c6e65766572222c227265747279223a7b22617474656d7074735f6d6178223a327d7d0a00f09fa69f2fc3a9');
INSERT INTO contents VALUES(X'00000000000000000000000000000001',1,X'');
INSERT INTO contents VALUES(X'00000000000000000000000000000004',2,X'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff');
CREATE TABLE logs (
    job BLOB NOT NULL,
    attempt INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (job, attempt, offset)
) STRICT, WITHOUT ROWID;
INSERT INTO logs VALUES(X'0000000000000000000000000000000c',1,0,X'7b22617474656d7074735f6d6178223a377d0a');
INSERT INTO logs VALUES(X'0000000000000000000000000000000c',1,19,X'6475655f61740a');
INSERT INTO logs VALUES(X'0000000000000000000000000000000c',1,26,X'f09fa69f');
INSERT INTO logs VALUES(X'0000000000000000000000000000000c',2,0,X'00ff');
CREATE TABLE attempts (
    job BLOB NOT NULL,
    attempt INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (job, attempt)
) STRICT, WITHOUT ROWID;
INSERT INTO attempts VALUES(X'00000000000000000000000000000002',1,'{"attempt":1,"machine":"m1","scheduled_at":"2030-03-17T17:46:40.000Z","started_at":"2030-03-17T17:46:40.001Z","ended_at":"9999-12-30T22:00:00.000Z","spent":true,"failure":{"cause":"over_time","message":"{\"attempts_max\":1,\"due_at\":\"\\never\",\"retry\":{\"attempts_max\":2}}\n\u0000🦟/é"},"usage":{"ran_us":18446744073709551615,"cpu_us":18446744073709551615,"memory_peak_bytes":18446744073709551615}}');
INSERT INTO attempts VALUES(X'00000000000000000000000000000004',1,'{"attempt":1,"machine":"m1","scheduled_at":"2030-03-17T17:46:40.000Z","started_at":"2030-03-17T17:46:40.001Z","ended_at":"9999-12-30T22:00:00.000Z","spent":true}');
INSERT INTO attempts VALUES(X'0000000000000000000000000000000c',1,'{"attempt":1,"machine":"m1","scheduled_at":"2030-03-17T17:46:40.000Z","started_at":"2030-03-17T17:46:40.001Z","ended_at":"9999-12-30T22:00:00.000Z","spent":true,"failure":{"cause":"trap","message":"one"}}');
INSERT INTO attempts VALUES(X'0000000000000000000000000000000c',2,'{"attempt":2,"machine":"m1","scheduled_at":"2030-03-17T17:46:40.000Z","started_at":"2030-03-17T17:46:40.001Z","ended_at":"9999-12-30T22:00:00.000Z","spent":false,"failure":{"cause":"snoozed","message":"two"},"usage":{"ran_us":0,"cpu_us":0,"memory_peak_bytes":0}}');
INSERT INTO attempts VALUES(X'0000000000000000000000000000000c',4294967295,'{"attempt":4294967295,"machine":"m1","scheduled_at":"2030-03-17T17:46:40.000Z","started_at":"2030-03-17T17:46:40.001Z","ended_at":"9999-12-30T22:00:00.000Z","spent":true,"usage":{"ran_us":18446744073709551615,"cpu_us":18446744073709551615,"memory_peak_bytes":18446744073709551615}}');
CREATE TABLE machines (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO machines VALUES('m1','{"name":"m1","queue":"default","generation":"sha256:0","places":2,"single_use":false,"secret_hash":"","id":"148ed21fe74e89","state":"up","since":"2030-03-17T17:46:40.000Z","act_at":"2030-03-17T17:46:40.000Z","act_failures":0,"boot":18446744073709551615,"seq":18446744073709551615,"heard_at":"2030-03-17T17:46:40.003Z","attempts":18446744073709551615,"apart":false,"lacks":false,"unreachable":false,"boot_failed":false,"calling":false,"refused":false,"gives_way":false,"drained":false,"note":"{\"attempts_max\":1,\"due_at\":\"\\never\",\"retry\":{\"attempts_max\":2}}\n\u0000🦟/é"}');
INSERT INTO machines VALUES('m2','{"name":"m2","queue":"default","generation":"sha256:0","places":2,"single_use":false,"secret_hash":"","id":null,"state":"gone","since":"2030-03-17T17:46:40.000Z","act_at":"2030-03-17T17:46:40.000Z","act_failures":0,"boot":null,"seq":0,"heard_at":null,"attempts":0,"apart":false,"lacks":false,"unreachable":false,"boot_failed":true,"calling":false,"refused":false,"gives_way":false,"drained":false,"note":null}');
INSERT INTO machines VALUES('m3','{"name":"m3","queue":"default","generation":"sha256:0","places":2,"single_use":false,"secret_hash":"","id":null,"state":"creating","since":"2030-03-17T17:46:40.000Z","act_at":"2030-03-17T17:46:40.000Z","act_failures":0,"boot":null,"seq":0,"heard_at":null,"attempts":0,"apart":false,"lacks":false,"unreachable":false,"boot_failed":false,"calling":false,"refused":false,"gives_way":false,"drained":false,"note":null}');
INSERT INTO machines VALUES('m4','{"name":"m4","queue":"default","generation":"sha256:0","places":2,"single_use":false,"secret_hash":"","id":null,"state":"ready","since":"2030-03-17T17:46:40.000Z","act_at":"2030-03-17T17:46:40.000Z","act_failures":0,"boot":null,"seq":0,"heard_at":null,"attempts":0,"apart":false,"lacks":false,"unreachable":false,"boot_failed":false,"calling":false,"refused":false,"gives_way":false,"drained":false,"note":null}');
INSERT INTO machines VALUES('m5','{"name":"m5","queue":"default","generation":"sha256:0","places":2,"single_use":false,"secret_hash":"","id":null,"state":"destroying","since":"2030-03-17T17:46:40.000Z","act_at":"2030-03-17T17:46:40.000Z","act_failures":0,"boot":null,"seq":0,"heard_at":null,"attempts":0,"apart":false,"lacks":false,"unreachable":false,"boot_failed":false,"calling":false,"refused":false,"gives_way":false,"drained":false,"note":null}');
CREATE TABLE settings (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO settings VALUES('id','7d5c0190b3e47c3a');
INSERT INTO settings VALUES('note',replace('{"attempts_max":1,"due_at":"\never","retry":{"attempts_max":2}}\012🦟/é','\012',char(10)));
CREATE TABLE lanes (
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    waiting INTEGER NOT NULL,
    running INTEGER NOT NULL,
    turn INTEGER,
    is_full INTEGER NOT NULL,
    bucket INTEGER NOT NULL, served INTEGER,
    PRIMARY KEY (queue, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE queues (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO queues VALUES('default','{"pause":{"since":"2030-03-17T17:46:40.000Z","until":"2030-03-17T17:46:40.009Z","reason":"{\"attempts_max\":1,\"due_at\":\"\\never\",\"retry\":{\"attempts_max\":2}}\n\u0000🦟/é","by":"ops"},"bucket":0,"turn":0}');
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
CREATE TABLE settling (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    job BLOB NOT NULL,
    how INTEGER NOT NULL,
    told INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT;
CREATE TABLE batches (
    id BLOB PRIMARY KEY,
    number INTEGER NOT NULL,
    acts INTEGER NOT NULL,
    ended_at INTEGER,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE expiring (
    expires_at INTEGER NOT NULL,
    id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (expires_at, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE ranked (
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due INTEGER NOT NULL,
    id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (queue, key, priority, due, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE holders (
    unique_key BLOB PRIMARY KEY,
    id BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE keyed (
    key TEXT NOT NULL,
    id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (key, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE members (
    batch BLOB NOT NULL,
    id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (batch, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE failed (
    phase INTEGER NOT NULL,
    failed_at INTEGER NOT NULL,
    id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (phase, failed_at, id)
) STRICT, WITHOUT ROWID;
INSERT INTO failed VALUES(1,1900000000000,X'00000000000000000000000000000002',2);
INSERT INTO failed VALUES(1,1900000000000,X'00000000000000000000000000000009',9);
INSERT INTO failed VALUES(1,1900000000000,X'0000000000000000000000000000000a',10);
INSERT INTO failed VALUES(1,1900000000000,X'0000000000000000000000000000000b',11);
INSERT INTO failed VALUES(5,1900000000012,X'00000000000000000000000000000006',6);
CREATE TABLE failed_for (
    cause TEXT NOT NULL,
    failed_at INTEGER NOT NULL,
    id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (cause, failed_at, id)
) STRICT, WITHOUT ROWID;
INSERT INTO failed_for VALUES('exit',1900000000000,X'00000000000000000000000000000002',2);
INSERT INTO failed_for VALUES('exit',1900000000000,X'00000000000000000000000000000009',9);
INSERT INTO failed_for VALUES('handed_back',1900000000000,X'0000000000000000000000000000000a',10);
INSERT INTO failed_for VALUES('machine_lost',1900000000000,X'0000000000000000000000000000000b',11);
INSERT INTO failed_for VALUES('refused',1900000000012,X'00000000000000000000000000000006',6);
CREATE TABLE failed_alike (
    fingerprint INTEGER NOT NULL,
    failed_at INTEGER NOT NULL,
    id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (fingerprint, failed_at, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE children (
    parent BLOB NOT NULL,
    id BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (parent, id)
) STRICT, WITHOUT ROWID;
DELETE FROM sqlite_sequence;
CREATE UNIQUE INDEX jobs_by_id ON jobs (id);
CREATE INDEX jobs_leased ON jobs (machine, id) WHERE machine IS NOT NULL;
CREATE INDEX jobs_waiting ON jobs (queue, ranked, due, id, phase, module) WHERE phase <= 1;
CREATE INDEX lanes_by_turn ON lanes (queue, turn) WHERE is_full = 0 AND turn IS NOT NULL;
CREATE INDEX schedules_next ON schedules (next) WHERE next IS NOT NULL;
CREATE INDEX jobs_ended ON jobs (queue, phase, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX failures_by_time ON failures (last_seen);
CREATE INDEX dependencies_of ON dependencies (job);
CREATE INDEX dependencies_on ON dependencies (on_job);
CREATE UNIQUE INDEX batches_by_number ON batches (number);
CREATE INDEX batches_to_act ON batches (id) WHERE acts = 1;
CREATE INDEX batches_unended ON batches (id) WHERE ended_at IS NULL;
CREATE INDEX batches_ended ON batches (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX jobs_listed ON jobs (queue, module, phase, id) WHERE phase >= 3;
COMMIT;
