-- From schema 7 to 8: what is summed of Machines and attempts, by day.

-- The empty text stands for no module, and for a region that is not known.
CREATE TABLE costs (
    day INTEGER NOT NULL,
    queue TEXT NOT NULL,
    module TEXT NOT NULL,
    cpu_kind TEXT NOT NULL,
    cpus INTEGER NOT NULL,
    memory_mib INTEGER NOT NULL,
    region TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    share_us INTEGER NOT NULL,
    running_us INTEGER NOT NULL,
    resting_us INTEGER NOT NULL,
    made INTEGER NOT NULL,
    PRIMARY KEY (day, queue, module, cpu_kind, cpus, memory_mib, region)
) STRICT, WITHOUT ROWID;
