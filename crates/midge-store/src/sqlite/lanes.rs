//! A transaction on SQLite: queues, lanes and modules.

use std::collections::BTreeMap;

use midge_core::{Bucket, InLane, Lane, ModuleRow, QueueRow, Turn};
use midge_protocol::{JobKey, ModuleName, QueueName, Timestamp};
use rusqlite::{OptionalExtension, Row, params};
use serde::de::DeserializeOwned;

use super::decode::{from_json, name, text, to_json};
use super::rows::SqliteRows;
use crate::{LaneRows, LanesCome, StoreError};

impl LaneRows for SqliteRows<'_> {
    fn lane(&mut self, queue: &QueueName, key: &JobKey) -> Result<Option<Lane>, StoreError> {
        let sql = "SELECT queue, key, waiting, running, turn, served, is_full, bucket FROM lanes
                   WHERE queue = ?1 AND key = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.query_row([queue.as_str(), key.as_str()], |row| Ok(lane(row))).optional()?.transpose()
    }

    fn lanes_come(
        &mut self,
        queue: &QueueName,
        now: Timestamp,
        limit: usize,
    ) -> Result<LanesCome, StoreError> {
        if !self.counts()?.has_ranked {
            return Ok(LanesCome::default());
        }
        let sql =
            "SELECT queue, key, waiting, running, turn, served, is_full, bucket FROM lanes INDEXED BY lanes_by_turn
                   WHERE is_full = 0 AND turn IS NOT NULL AND queue = ?1 ORDER BY turn, key";
        let until = Turn::until(now);
        let mut statement = self.connection.prepare_cached(sql)?;
        // No LIMIT: the one behind those that have come says when to look again.
        let mut rows = statement.query([queue.as_str()])?;
        let mut come = LanesCome::default();
        while let Some(row) = rows.next()? {
            let lane = lane(row)?;
            if lane.turn.is_none_or(|turn| turn > until) {
                come.next = lane.turn;
                return Ok(come);
            }
            if come.lanes.len() == limit {
                drop(rows);
                let turn = |sql: &str| -> Result<Option<Turn>, StoreError> {
                    let values = params![queue.as_str(), until.0];
                    let turn: Option<i64> =
                        self.connection.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
                    Ok(turn.map(Turn))
                };
                come.last = turn(
                    "SELECT max(turn) FROM lanes INDEXED BY lanes_by_turn
                     WHERE is_full = 0 AND turn IS NOT NULL AND queue = ?1 AND turn <= ?2",
                )?;
                come.next = turn(
                    "SELECT min(turn) FROM lanes INDEXED BY lanes_by_turn
                     WHERE is_full = 0 AND turn IS NOT NULL AND queue = ?1 AND turn > ?2",
                )?;
                return Ok(come);
            }
            come.last = lane.turn;
            come.lanes.push(lane);
        }
        Ok(come)
    }

    fn lanes_after(
        &mut self,
        queue: &QueueName,
        after: Option<&JobKey>,
        limit: usize,
    ) -> Result<Vec<Lane>, StoreError> {
        let sql = "SELECT queue, key, waiting, running, turn, served, is_full, bucket FROM lanes
                   WHERE queue = ?1 AND key > ?2 ORDER BY key LIMIT ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        // No key is empty.
        let after = after.map_or("", JobKey::as_str);
        let mut rows = statement.query(params![queue.as_str(), after, limit as i64])?;
        let mut lanes = Vec::new();
        while let Some(row) = rows.next()? {
            lanes.push(lane(row)?);
        }
        Ok(lanes)
    }

    fn put_lanes(&mut self, lanes: &[Lane], now: Timestamp) -> Result<(), StoreError> {
        self.writing(|rows| {
            for planned in lanes {
                let Some(there) = rows.lane(&planned.queue, &planned.key)? else { continue };
                let Lane { turn, served, full, bucket, .. } = planned.clone();
                rows.put_lane(&Lane { turn, served, full, bucket, ..there }, now)?;
            }
            Ok(())
        })
    }

    fn queue(&mut self, name: &QueueName) -> Result<QueueRow, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT body FROM queues WHERE name = ?1")?;
        let row = statement
            .query_row([name.as_str()], |row| Ok(read("queue", name.as_str(), row.get_ref(0)?)))
            .optional()?;
        Ok(row.unwrap_or_default())
    }

    fn queues(&mut self) -> Result<BTreeMap<QueueName, QueueRow>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT name, body FROM queues")?;
        let mut found = BTreeMap::new();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let queue: QueueName = name(text(row.get_ref(0)?)?)?;
            let kept = read("queue", queue.as_str(), row.get_ref(1)?);
            found.insert(queue, kept);
        }
        Ok(found)
    }

    fn put_queue(&mut self, name: &QueueName, row: &QueueRow) -> Result<(), StoreError> {
        self.writing(|rows| {
            if *row == QueueRow::default() {
                let sql = "DELETE FROM queues WHERE name = ?1";
                rows.connection.prepare_cached(sql)?.execute([name.as_str()])?;
            } else {
                let sql = "INSERT OR REPLACE INTO queues VALUES (?1, ?2)";
                rows.connection.prepare_cached(sql)?.execute(params![name.as_str(), to_json(row)])?;
            }
            Ok(())
        })
    }

    fn modules(&mut self) -> Result<BTreeMap<ModuleName, ModuleRow>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT name, body FROM modules")?;
        let mut found = BTreeMap::new();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let module: ModuleName = name(text(row.get_ref(0)?)?)?;
            let kept = read("module", module.as_str(), row.get_ref(1)?);
            found.insert(module, kept);
        }
        Ok(found)
    }

    fn put_module(&mut self, name: &ModuleName, row: &ModuleRow) -> Result<(), StoreError> {
        self.writing(|rows| {
            if *row == ModuleRow::default() {
                let sql = "DELETE FROM modules WHERE name = ?1";
                rows.connection.prepare_cached(sql)?.execute([name.as_str()])?;
            } else {
                let sql = "INSERT OR REPLACE INTO modules VALUES (?1, ?2)";
                rows.connection.prepare_cached(sql)?.execute(params![name.as_str(), to_json(row)])?;
            }
            Ok(())
        })
    }
}

/// What became of the jobs of lanes, counted before it is written: a bulk of one key writes its lane once.
#[derive(Default)]
pub(super) struct LaneCounts(BTreeMap<(String, String), Option<Lane>>);

impl SqliteRows<'_> {
    /// Counts what became of a job in its lane, if it has a key.
    pub(super) fn count_in_lane(
        &mut self,
        counts: &mut LaneCounts,
        queue: &str,
        key: &str,
        before: Option<InLane>,
        after: Option<InLane>,
    ) -> Result<(), StoreError> {
        if key.is_empty() || before == after {
            return Ok(());
        }
        let lane = counts.0.entry((queue.to_owned(), key.to_owned())).or_default();
        if lane.is_none() {
            let (queue, key): (QueueName, JobKey) = (name(queue)?, name(key)?);
            *lane = Some(match self.lane(&queue, &key)? {
                Some(lane) => lane,
                None => Lane::new(queue, key),
            });
        }
        if let Some(lane) = lane {
            lane.count(before, after);
        }
        Ok(())
    }

    /// Writes the lanes that were counted.
    pub(super) fn put_counted(&mut self, counts: LaneCounts, now: Timestamp) -> Result<(), StoreError> {
        counts.0.into_values().flatten().try_for_each(|lane| self.put_lane(&lane, now))
    }

    fn put_lane(&mut self, lane: &Lane, now: Timestamp) -> Result<(), StoreError> {
        let (queue, key) = (lane.queue.as_str(), lane.key.as_str());
        if lane.is_idle(now) {
            let sql = "DELETE FROM lanes WHERE queue = ?1 AND key = ?2";
            self.connection.prepare_cached(sql)?.execute([queue, key])?;
        } else {
            let sql =
                "INSERT OR REPLACE INTO lanes (queue, key, waiting, running, turn, served, is_full, bucket)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            self.connection.prepare_cached(sql)?.execute(params![
                queue,
                key,
                lane.waiting as i64,
                lane.running as i64,
                lane.turn.map(|turn| turn.0),
                lane.served.map(|turn| turn.0),
                lane.full,
                lane.bucket.full_at_us
            ])?;
        }
        Ok(())
    }
}

fn lane(row: &Row<'_>) -> Result<Lane, StoreError> {
    Ok(Lane {
        queue: name(text(row.get_ref(0)?)?)?,
        key: name(text(row.get_ref(1)?)?)?,
        waiting: row.get::<_, i64>(2)? as u64,
        running: row.get::<_, i64>(3)? as u64,
        turn: row.get::<_, Option<i64>>(4)?.map(Turn),
        served: row.get::<_, Option<i64>>(5)?.map(Turn),
        full: row.get(6)?,
        bucket: Bucket { full_at_us: row.get(7)? },
    })
}

/// Reads what is kept of a queue or a module. What cannot be read is as if nothing were kept: its jobs are not to stand
/// still for it.
fn read<T: DeserializeOwned + Default>(what: &str, name: &str, body: rusqlite::types::ValueRef<'_>) -> T {
    from_json(body).unwrap_or_else(|why| {
        tracing::error!(name, why, "the row of a {what} cannot be read: whether it was paused is lost");
        T::default()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use midge_core::Job;
    use tempfile::TempDir;

    use super::*;
    use crate::JobRows;
    use crate::conformance::fixtures::{at, job, queue};
    use crate::sqlite::SqliteSettings;
    use crate::sqlite::connection::open_writer;
    use crate::sqlite::file::DatabaseFile;
    use crate::sqlite::rows::Guard;

    /// How many steps SQLite's machine makes to find the first jobs of the lanes that come next.
    fn steps(jobs: u128, lanes: u128) -> u64 {
        let folder = TempDir::new().unwrap();
        let file = DatabaseFile::open(&folder.path().join("midge.db")).unwrap();
        let mut connection = open_writer(&file, &SqliteSettings::default()).unwrap();
        let mut counts = None;
        let of_lane = |number| Job {
            key: JobKey::new(format!("key-{}", number % lanes)).ok(),
            ..job(number, "default", number as i64)
        };
        connection.execute_batch("BEGIN").unwrap();
        let all: Vec<Job> = (0..jobs).map(of_lane).collect();
        SqliteRows::to_write(&connection, &mut counts, Guard::Transaction).put_jobs(&all).unwrap();
        let made = Arc::new(AtomicU64::new(0));
        let counter = made.clone();
        let count = move || {
            counter.fetch_add(1, Ordering::Relaxed);
            false
        };
        connection.progress_handler(1, Some(count)).unwrap();
        let mut rows = SqliteRows::to_write(&connection, &mut counts, Guard::Transaction);
        let (default, now) = (queue("default"), at(jobs as i64));
        let come = rows.lanes_come(&default, now, 8).unwrap().lanes;
        assert_eq!(come.len(), 8);
        for lane in come {
            assert_eq!(rows.jobs_due(&default, Some(&lane.key), now, 1).unwrap().len(), 1);
        }
        made.load(Ordering::Relaxed)
    }

    #[test]
    fn the_next_jobs_are_found_in_as_many_steps_however_many_wait_in_however_many_lanes() {
        let few = steps(1_000, 10);
        for (jobs, lanes) in [(20_000, 10), (20_000, 5_000)] {
            let many = steps(jobs, lanes);
            assert!(many <= few + few / 10, "{many} steps with {jobs} jobs in {lanes} lanes, {few} with few");
        }
    }
}
