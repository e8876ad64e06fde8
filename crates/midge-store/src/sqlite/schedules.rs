//! A transaction on SQLite: schedules.

use midge_core::Schedule;
use midge_protocol::{ScheduleName, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::decode::{from_json, name, text, to_json};
use super::rows::SqliteRows;
use crate::work::Access;
use crate::{ScheduleRows, StoreError};

impl ScheduleRows for SqliteRows<'_> {
    fn schedule(&mut self, name: &ScheduleName) -> Result<Option<Schedule>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT body FROM schedules WHERE name = ?1")?;
        let schedule = statement.query_row([name.as_str()], |row| Ok(from_json(row.get_ref(0)?).ok()));
        Ok(schedule.optional()?.flatten())
    }

    fn schedules(&mut self) -> Result<Vec<Schedule>, StoreError> {
        let mut statement =
            self.connection.prepare_cached("SELECT body, name FROM schedules ORDER BY name")?;
        let mut schedules = Vec::new();
        let mut unreadable: Vec<ScheduleName> = Vec::new();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            match from_json(row.get_ref(0)?) {
                Ok(schedule) => schedules.push(schedule),
                Err(why) => {
                    let name: ScheduleName = name(text(row.get_ref(1)?)?)?;
                    tracing::error!(schedule = %name, why, "the row of a schedule cannot be read: its ticks count from now");
                    unreadable.push(name);
                }
            }
        }
        if self.access == Access::Write {
            unreadable.iter().try_for_each(|name| self.delete_schedule(name))?;
        }
        Ok(schedules)
    }

    fn next_schedule(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT min(next) FROM schedules INDEXED BY schedules_next WHERE next IS NOT NULL";
        let next: Option<i64> = self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(next.map(Timestamp::from_millis))
    }

    fn put_schedule(&mut self, schedule: &Schedule) -> Result<(), StoreError> {
        self.writing(|rows| {
            let sql = "INSERT OR REPLACE INTO schedules VALUES (?1, ?2, ?3)";
            let (name, next) = (schedule.name.as_str(), schedule.next.map(Timestamp::as_millis));
            rows.connection.prepare_cached(sql)?.execute(params![name, next, to_json(schedule)])?;
            Ok(())
        })
    }

    fn delete_schedule(&mut self, name: &ScheduleName) -> Result<(), StoreError> {
        self.writing(|rows| {
            let sql = "DELETE FROM schedules WHERE name = ?1";
            rows.connection.prepare_cached(sql)?.execute([name.as_str()])?;
            Ok(())
        })
    }
}
