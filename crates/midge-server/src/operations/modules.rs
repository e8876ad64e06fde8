//! What can be asked about modules.

use std::collections::BTreeSet;

use midge_core::{Lack, ModuleRow};
use midge_protocol::ModuleName;
use midge_protocol::api::{ModuleLack, ModuleView, Modules, Pause, PauseRequest, Paused};

use super::queues::pause;
use crate::error::ServiceError;
use crate::midge::Midge;

impl Midge {
    /// Returns the modules that are served, paused, or have jobs that are held.
    pub async fn modules(&self) -> Result<Modules, ServiceError> {
        let now = self.inner.clock.now();
        let read = midge_store::read(&*self.inner.store, |rows| {
            Ok::<_, ServiceError>((rows.modules()?, rows.modules_held()?))
        });
        let (rows, held) = read.await?;
        let catalog = self.inner.catalog.get();
        let paused = rows.iter().filter(|(_, row)| row.paused(now).is_some()).map(|(name, _)| name);
        let names: BTreeSet<&ModuleName> =
            catalog.manifest.modules.keys().chain(paused).chain(held.keys()).collect();
        let modules = names.into_iter().map(|name| ModuleView {
            name: name.clone(),
            entry: catalog.manifest.modules.get(name).cloned(),
            pause: rows.get(name).and_then(|row| row.paused(now)).cloned(),
            lacks: rows.get(name).and_then(|row| row.lacks(&catalog.generation)).map(lacks),
            held: held.get(name).copied().unwrap_or(0),
        });
        Ok(Modules { modules: modules.collect(), generation: catalog.generation.clone() })
    }

    /// Has no job of a module start, in whatever queue: what runs ends, and what is due waits. One that is paused already
    /// is paused anew, with the newer reason and end, and the answer has the pause that it was.
    ///
    /// # Errors
    /// [`ServiceError::UnknownModule`] where it is not served and has no jobs that are held. [`ServiceError::Invalid`] for
    /// a text over its bound, or an end that has passed.
    pub async fn pause_module(
        &self,
        name: ModuleName,
        request: PauseRequest,
    ) -> Result<Paused, ServiceError> {
        let now = self.inner.clock.now();
        let pause = pause(request, now)?;
        let paused = pause.clone();
        let put = self.put_module(name, move |row| row.pause = Some(paused));
        let replaced = put.await?.filter(|before| before.is_on(now));
        Ok(Paused { pause, replaced })
    }

    /// Has a paused module start jobs again; one that is not paused does already. Where Machines lacked something for it, one
    /// of its jobs tries again at once.
    ///
    /// # Errors
    /// [`ServiceError::UnknownModule`], as [`Midge::pause_module`].
    pub async fn resume_module(&self, name: ModuleName) -> Result<(), ServiceError> {
        let now = self.inner.clock.now();
        let put = self.put_module(name, move |row| {
            row.pause = None;
            if let Some(lack) = &mut row.lack {
                lack.asked_for(now);
            }
        });
        put.await.map(drop)
    }

    /// Changes the row of a module. Returns the pause that it was in, which may be over.
    async fn put_module(
        &self,
        name: ModuleName,
        change: impl FnOnce(&mut ModuleRow) + Send + 'static,
    ) -> Result<Option<Pause>, ServiceError> {
        let catalog = self.inner.catalog.get();
        let before = midge_store::write(&*self.inner.store, move |rows| {
            let before = rows.modules()?.remove(&name);
            if let Err(nearest) = catalog.module(&name)
                && before.is_none()
                && !rows.modules_held()?.contains_key(&name)
            {
                let nearest = nearest.map(str::to_owned);
                return Err(ServiceError::UnknownModule { name, nearest });
            }
            let mut row = before.unwrap_or_default();
            let pause = row.pause.clone();
            change(&mut row);
            rows.put_module(&name, &row)?;
            Ok(pause)
        })
        .await?;
        self.inner.waiters.dispatcher.notify_one();
        Ok(before)
    }
}

/// Returns what Machines lack as the API shows it.
fn lacks(lack: &Lack) -> ModuleLack {
    ModuleLack { what: lack.what.clone(), times: lack.times, since: lack.since, next: lack.next }
}
