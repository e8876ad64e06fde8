//! Whether a database can still be written, as those who found out tell those who ask.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::connection::damage_met;
use super::file::DatabaseFile;
use crate::StoreError;

/// What is known about a database that is open.
#[derive(Debug)]
pub(super) struct Health {
    file: DatabaseFile,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What was found over its pages. That is for good: whoever mends the file starts again.
    damage: Option<String>,
    /// Whether it was lost when it was last looked for.
    lost: bool,
}

/// What looking for the file has brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It is as it was.
    None,
    /// It is not where it was, for the first time.
    Lost,
}

impl Health {
    pub(super) fn new(file: DatabaseFile) -> Health {
        Health { file, known: Mutex::default() }
    }

    pub(super) fn file(&self) -> &DatabaseFile {
        &self.file
    }

    /// Looks for the file. Says so, once, where it was lost or is back.
    pub(super) fn look(&self) -> News {
        let found = self.file.check();
        if let Err(StoreError::Damaged { why }) = &found {
            self.damaged(why);
            return News::None;
        }
        match found {
            Ok(()) => self.is_there(),
            Err(error) => {
                let mut known = self.known();
                if !known.lost {
                    known.lost = true;
                    tracing::error!("{error}");
                    return News::Lost;
                }
            }
        }
        News::None
    }

    /// Takes note that the file is where it was. The next time that it is lost is another one.
    fn is_there(&self) {
        if std::mem::take(&mut self.known().lost) {
            let path = self.file.path().display();
            tracing::warn!(%path, "the database is where it was again, and is read and written again");
        }
    }

    /// Fails where the file is not where it was.
    pub(super) fn to_read(&self) -> Result<(), StoreError> {
        self.file.check()
    }

    /// Fails where the file is not where it was, or is damaged.
    pub(super) fn to_write(&self) -> Result<(), StoreError> {
        self.is_whole()?;
        self.file.check()?;
        self.is_there();
        Ok(())
    }

    /// Fails where it is known that the database is damaged, or is not where it was and still is not. Where nothing is known it
    /// looks for nothing: whoever does the work does.
    pub(super) fn to_queue(&self) -> Result<(), StoreError> {
        self.is_whole()?;
        let lost = self.known().lost;
        if lost { self.file.check() } else { Ok(()) }
    }

    /// Fails where what was written is not where it was, or is damaged; else takes note of how much it is.
    pub(super) fn wrote(&self) -> Result<(), StoreError> {
        self.is_whole()?;
        self.file.note()
    }

    /// Fails where damage is known.
    pub(super) fn is_whole(&self) -> Result<(), StoreError> {
        match &self.known().damage {
            Some(why) => Err(StoreError::Damaged { why: why.clone() }),
            None => Ok(()),
        }
    }

    /// Takes note of damage that somebody has met. From now on nothing is written.
    pub(super) fn damaged(&self, why: &str) {
        let mut known = self.known();
        if known.damage.is_none() {
            let why = format!("{}: {why}", self.file.path().display());
            tracing::error!("{}", StoreError::Damaged { why: why.clone() });
            known.damage = Some(why);
        }
    }

    /// Takes note of the damage that work on this thread has met.
    pub(super) fn note(&self) {
        if let Some(why) = damage_met() {
            self.damaged(&why);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing that can panic is done under the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
