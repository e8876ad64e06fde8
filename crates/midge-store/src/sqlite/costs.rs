//! A transaction on SQLite: sums of Machine time.

use std::ops::RangeInclusive;

use midge_core::{CostBook, CostKey, CostSums};
use midge_protocol::manifest::MachineSize;
use midge_protocol::{Day, InvalidName, QueueName};
use rusqlite::{Row, Rows as Found, params};

use super::rows::SqliteRows;
use crate::{CostRows, StoreError};

impl CostRows for SqliteRows<'_> {
    fn add_costs(&mut self, book: &CostBook) -> Result<(), StoreError> {
        self.writing(|rows| {
            // Each sum ends at the largest number that there is: SQLite would make it one with a fraction.
            let sql = "INSERT INTO costs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
                ON CONFLICT DO UPDATE SET
                    attempts = min(attempts, 0x7fffffffffffffff - ?8) + ?8,
                    share_us = min(share_us, 0x7fffffffffffffff - ?9) + ?9,
                    running_us = min(running_us, 0x7fffffffffffffff - ?10) + ?10,
                    resting_us = min(resting_us, 0x7fffffffffffffff - ?11) + ?11,
                    made = min(made, 0x7fffffffffffffff - ?12) + ?12";
            for (key, sums) in book.iter() {
                let CostKey { day, queue, module, size, region } = key;
                let module = module.as_ref().map_or("", |module| module.as_str());
                let region = region.as_ref().map_or("", |region| region.as_str());
                rows.connection.prepare_cached(sql)?.execute(params![
                    day.number(),
                    queue.as_str(),
                    module,
                    size.cpu_kind,
                    size.cpus,
                    size.memory_mib,
                    region,
                    // At most `CostSums::MAX`.
                    sums.attempts as i64,
                    sums.share_us as i64,
                    sums.running_us as i64,
                    sums.resting_us as i64,
                    sums.made as i64,
                ])?;
            }
            Ok(())
        })
    }

    fn costs(
        &mut self,
        days: RangeInclusive<Day>,
        each: &mut dyn FnMut(CostKey, CostSums),
    ) -> Result<(), StoreError> {
        let sql = "SELECT * FROM costs WHERE day BETWEEN ?1 AND ?2
                   ORDER BY day, queue, module, cpu_kind, cpus, memory_mib, region";
        let mut statement = self.connection.prepare_cached(sql)?;
        give(statement.query([days.start().number(), days.end().number()])?, each)
    }

    fn machine_costs(
        &mut self,
        queue: &QueueName,
        days: RangeInclusive<Day>,
        each: &mut dyn FnMut(CostKey, CostSums),
    ) -> Result<(), StoreError> {
        // One look for each day: another queue's sums may be many.
        let sql = "SELECT * FROM costs WHERE day = ?1 AND queue = ?2 AND module = ''
                   ORDER BY cpu_kind, cpus, memory_mib, region";
        let mut statement = self.connection.prepare_cached(sql)?;
        for day in days.start().number()..=days.end().number() {
            give(statement.query(params![day, queue.as_str()])?, each)?;
        }
        Ok(())
    }

    fn delete_costs(&mut self, before: Day, limit: usize) -> Result<usize, StoreError> {
        self.writing(|rows| {
            let sql = "DELETE FROM costs
                WHERE (day, queue, module, cpu_kind, cpus, memory_mib, region) IN (
                    SELECT day, queue, module, cpu_kind, cpus, memory_mib, region FROM costs
                    WHERE day < ?1
                    ORDER BY day, queue, module, cpu_kind, cpus, memory_mib, region LIMIT ?2)";
            let values = params![before.number(), limit as i64];
            Ok(rows.connection.prepare_cached(sql)?.execute(values)?)
        })
    }
}

fn give(mut found: Found<'_>, each: &mut dyn FnMut(CostKey, CostSums)) -> Result<(), StoreError> {
    while let Some(row) = found.next()? {
        let sum = |index| Ok::<_, rusqlite::Error>(row.get::<_, i64>(index)? as u64);
        let sums = CostSums {
            attempts: sum(7)?,
            share_us: sum(8)?,
            running_us: sum(9)?,
            resting_us: sum(10)?,
            made: sum(11)?,
        };
        match key(row) {
            Ok(key) => each(key, sums),
            Err(why) => tracing::error!(why, "a sum of Machine time cannot be read: it is left out"),
        }
    }
    Ok(())
}

fn key(row: &Row<'_>) -> Result<CostKey, String> {
    let column = |error: rusqlite::Error| error.to_string();
    let name = |error: InvalidName| error.to_string();
    let text = |index| row.get_ref(index).map_err(column)?.as_str().map_err(|error| error.to_string());
    let (module, region) = (text(2)?, text(6)?);
    Ok(CostKey {
        day: Day::from_number(row.get(0).map_err(column)?),
        queue: text(1)?.parse().map_err(name)?,
        module: if module.is_empty() { None } else { Some(module.parse().map_err(name)?) },
        size: MachineSize {
            cpu_kind: text(3)?.to_owned(),
            cpus: row.get(4).map_err(column)?,
            memory_mib: row.get(5).map_err(column)?,
        },
        region: if region.is_empty() { None } else { Some(region.parse().map_err(name)?) },
    })
}
