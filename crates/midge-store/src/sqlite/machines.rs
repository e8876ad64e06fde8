//! A transaction on SQLite: Machines, and what the store remembers of itself.

use midge_core::Machine;
use midge_protocol::MachineName;
use rusqlite::{OptionalExtension, params};

use super::decode::{from_json, name, text, to_json};
use super::rows::SqliteRows;
use crate::{MachineRows, StoreError};

impl MachineRows for SqliteRows<'_> {
    fn machine(&mut self, name: &MachineName) -> Result<Option<Machine>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT body FROM machines WHERE name = ?1")?;
        let machine = statement.query_row([name.as_str()], |row| Ok(from_json(row.get_ref(0)?).ok()));
        Ok(machine.optional()?.flatten())
    }

    fn machines(&mut self) -> Result<Vec<(Machine, u32)>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT body, (SELECT count(*) FROM jobs INDEXED BY jobs_leased
                           WHERE machine IS NOT NULL AND machine = machines.name)
             FROM machines ORDER BY name",
        )?;
        let mut machines = Vec::new();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let Ok(machine) = from_json(row.get_ref(0)?) {
                machines.push((machine, row.get(1)?));
            }
        }
        Ok(machines)
    }

    fn put_machine(&mut self, machine: &Machine) -> Result<(), StoreError> {
        self.writing(|rows| {
            let sql = "INSERT OR REPLACE INTO machines VALUES (?1, ?2)";
            let body = to_json(machine);
            rows.connection.prepare_cached(sql)?.execute(params![machine.name.as_str(), body])?;
            Ok(())
        })
    }

    fn delete_machine(&mut self, name: &MachineName) -> Result<(), StoreError> {
        self.writing(|rows| {
            let sql = "DELETE FROM machines WHERE name = ?1";
            rows.connection.prepare_cached(sql)?.execute([name.as_str()])?;
            Ok(())
        })
    }

    fn delete_unreadable_machines(&mut self) -> Result<Vec<MachineName>, StoreError> {
        self.access.to_write()?;
        let mut unreadable = Vec::new();
        let mut statement = self.connection.prepare_cached("SELECT name, body FROM machines")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let Err(why) = from_json::<Machine>(row.get_ref(1)?) {
                let name: MachineName = name(text(row.get_ref(0)?)?)?;
                tracing::error!(machine.name = %name, why, "the row of a Machine cannot be read: it is deleted");
                unreadable.push(name);
            }
        }
        unreadable.iter().try_for_each(|name| self.delete_machine(name))?;
        Ok(unreadable)
    }

    fn setting(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT value FROM settings WHERE key = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?)
    }

    fn put_setting(&mut self, key: &str, value: &str) -> Result<(), StoreError> {
        self.writing(|rows| {
            let sql = "INSERT OR REPLACE INTO settings VALUES (?1, ?2)";
            rows.connection.prepare_cached(sql)?.execute([key, value])?;
            Ok(())
        })
    }
}
