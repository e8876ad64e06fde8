//! What can be asked about queues.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use midge_core::{JobCounts, Outlook, OverBudget, QueueRow, Standing};
use midge_protocol::api::{BudgetView, Pause, PauseRequest, Paused, QueueView, Queues, SetSetting};
use midge_protocol::job::State;
use midge_protocol::{QueueName, Timestamp, limits, nearest};
use midge_store::Rows;

use crate::budgets::standing;
use crate::catalog::Catalog;
use crate::error::ServiceError;
use crate::keys::keys_room;
use crate::live::each;
use crate::midge::Midge;
use crate::waits::waits;

impl Midge {
    /// Returns the queues that are declared or hold jobs.
    pub async fn queues(&self) -> Result<Queues, ServiceError> {
        let (now, catalog) = (self.inner.clock.now(), self.inner.catalog.get());
        let served = catalog.clone();
        let read = midge_store::read(&*self.inner.store, move |rows| {
            let counts = rows.job_counts(now)?;
            let mut keys_are_full = BTreeSet::new();
            for (name, counts) in &counts {
                let policy = served.policy(name);
                let may = counts.in_line() > 0 && policy.limits_keys();
                if may && keys_room(rows, name, &policy, now)?.0 == 0 {
                    keys_are_full.insert(name.clone());
                }
            }
            let machines = rows.machines()?;
            let mut standings = BTreeMap::new();
            for name in served.manifest.queues.keys() {
                let policy = served.policy(name);
                let served_as = served.manifest.served_as(name);
                let of = standing(rows, &served.manifest.prices, served_as, &policy, &machines, now)?;
                standings.extend(of.map(|standing| (name.clone(), standing)));
            }
            Ok::<_, ServiceError>((counts, keys_are_full, machines, rows.queues()?, standings))
        });
        let (counts, keys_are_full, machines, mut rows, standings) = read.await?;
        let mut names = catalog.queues();
        names.extend(counts.keys().cloned());
        // One that is paused is shown although it is empty and declared nowhere.
        let paused = |row: &QueueRow| row.paused(now).is_some();
        names.extend(rows.iter().filter(|(_, row)| paused(row)).map(|(name, _)| name.clone()));
        // Nor is one forgotten of which somebody set something.
        names.extend(catalog.live.queues().filter(|name| catalog.manifest.pool(name).is_none()).cloned());
        let running = |name| counts.get(name).map_or(0, |counts: &JobCounts| counts.in_state(State::Running));
        let rows: BTreeMap<QueueName, (QueueRow, u64)> = names
            .iter()
            .map(|name| (name.clone(), (rows.remove(name).unwrap_or_default(), running(name))))
            .collect();
        let mut live: BTreeMap<&QueueName, u32> = BTreeMap::new();
        for (machine, _) in machines.iter().filter(|(machine, _)| machine.state.is_live()) {
            *live.entry(&machine.queue).or_default() += 1;
        }
        let max_machines = catalog.max_machines();
        let mut outlook = Outlook::new(&machines, &rows, &catalog.generation, max_machines, now);
        let queues = names.into_iter().map(|name| {
            let counts = counts.get(&name).cloned().unwrap_or_default();
            let jobs = State::ALL.into_iter().map(|state| (state, counts.in_state(state))).collect();
            let full = keys_are_full.contains(&name);
            let why = outlook.queue(&name, &counts, full, || catalog.policy(&name));
            QueueView {
                waits: why.map(|why| waits(&why, now)),
                set: set_of(&catalog, &name),
                policy: catalog.policy(&name),
                pause: rows.get(&name).and_then(|(row, _)| row.paused(now)).cloned(),
                budget: standings.get(&name).map(|standing| {
                    let over = rows.get(&name).and_then(|(row, _)| row.over_budget(now));
                    budget_view(standing, over)
                }),
                jobs,
                oldest_waits_ms: counts.oldest_due.map(|due| now.since(due).as_millis() as u64),
                machines: live.get(catalog.manifest.served_as(&name)).copied().unwrap_or(0),
                declared: catalog.declares(&name),
                name,
            }
        });
        let queues = queues.collect();
        let present = machines.iter().filter(|(machine, _)| machine.state.is_present()).count();
        Ok(Queues { queues, machines: present as u32, max_machines })
    }

    /// Logs a warning of each queue whose jobs wait, and which the manifest does not know although it declares others: they
    /// run by the default policy, and whoever renamed or removed it may not have meant that.
    pub(crate) async fn warn_of_undeclared_queues(&self) {
        let queues = match self.queues().await {
            Ok(queues) => queues.queues,
            Err(error) => return tracing::warn!(%error, "cannot look for queues that are not declared"),
        };
        for queue in queues.iter().filter(|queue| !queue.declared) {
            let waiting = [State::Available, State::Scheduled, State::Retryable];
            let waiting: u64 = waiting.iter().filter_map(|state| queue.jobs.get(state)).sum();
            if waiting > 0 {
                tracing::warn!(
                    queue.name = %queue.name,
                    waiting,
                    "queue `{}` is not declared any more, and jobs wait in it: they run by the default policy, without \
                     limits; declare it in midge.toml until it is empty, or pause it",
                    queue.name
                );
            }
        }
    }

    /// Has a queue start nothing: what runs ends, and its Machines go. One that is paused already is paused anew, with
    /// the newer reason and end, and the answer has the pause that it was.
    ///
    /// # Errors
    /// [`ServiceError::UnknownQueue`] where only declared queues take jobs, this is none, and none of its jobs is there.
    /// [`ServiceError::Invalid`] for a text over its bound, or an end that has passed.
    pub async fn pause_queue(&self, name: QueueName, request: PauseRequest) -> Result<Paused, ServiceError> {
        let now = self.inner.clock.now();
        let pause = pause(request, now)?;
        let replaced = self.change_queue(name, now, Some(pause.clone())).await?;
        Ok(Paused { pause, replaced })
    }

    /// Has a paused queue go on; one that is not paused does already.
    ///
    /// # Errors
    /// [`ServiceError::UnknownQueue`], as [`Midge::pause_queue`].
    pub async fn resume_queue(&self, name: QueueName) -> Result<(), ServiceError> {
        let now = self.inner.clock.now();
        self.change_queue(name, now, None).await.map(drop)
    }

    /// Pauses a queue or has it go on. Returns the pause that it was in.
    async fn change_queue(
        &self,
        name: QueueName,
        now: Timestamp,
        pause: Option<Pause>,
    ) -> Result<Option<Pause>, ServiceError> {
        let catalog = self.inner.catalog.get();
        let queue = name.clone();
        let replaced = midge_store::write(&*self.inner.store, move |rows| {
            known_queue(rows, &catalog, &name, now)?;
            let mut row = rows.queue(&name)?;
            let replaced = std::mem::replace(&mut row.pause, pause).filter(|before| before.is_on(now));
            rows.put_queue(&name, &row)?;
            Ok::<_, ServiceError>(replaced)
        })
        .await?;
        self.inner.wake_queue(&queue);
        self.inner.waiters.dispatcher.notify_one();
        Ok(replaced)
    }
}

/// Returns what of a queue was set while a server ran: of the queue, and of its pool.
fn set_of(catalog: &Catalog, name: &QueueName) -> Vec<SetSetting> {
    let (pool, declared) = (catalog.manifest.served_as(name), catalog.manifest.queue(name));
    let names = [Some(name), Some(pool).filter(|pool| *pool != name)];
    let set = names.into_iter().flatten().filter_map(|name| catalog.live.of(name));
    set.flat_map(|set| each(set, &declared)).collect()
}

/// Checks that there is a queue of that name: it is declared, paused, has jobs, or has settings that were changed.
pub(super) fn known_queue(
    rows: &mut dyn Rows,
    catalog: &Catalog,
    name: &QueueName,
    now: Timestamp,
) -> Result<(), ServiceError> {
    let known = catalog.manifest.knows_queue(name)
        || catalog.live.of(name).is_some()
        || rows.queue(name)?.pause.is_some()
        || rows.job_counts(now)?.contains_key(name);
    if known {
        return Ok(());
    }
    let queues = catalog.queues();
    let nearest = nearest(name.as_str(), queues.iter().map(QueueName::as_str)).map(str::to_owned);
    Err(ServiceError::UnknownQueue { name: name.clone(), nearest })
}

/// Returns the pause that is asked for, where it is within its bounds.
pub(super) fn pause(request: PauseRequest, now: Timestamp) -> Result<Pause, ServiceError> {
    let PauseRequest { reason, by, until, for_ms } = request;
    let max = limits::PAUSE_BYTES_MAX;
    for (what, text) in [("reason", &reason), ("by", &by)] {
        if text.len() > max {
            let (bytes, hint) = (text.len(), ": shorten it");
            return Err(ServiceError::TooLarge { what, bytes, max, hint });
        }
    }
    let until = match (until, for_ms) {
        (Some(_), Some(_)) => {
            return Err(ServiceError::Invalid("use one of `until` and `for_ms`".to_owned()));
        }
        (Some(until), None) if until <= now => {
            return Err(ServiceError::Invalid(format!(
                "`until` is {until}, which has passed: use a later time"
            )));
        }
        (None, Some(0)) => {
            return Err(ServiceError::Invalid(
                "`for_ms` is 0, which would be no pause: use at least 1, or leave it out to pause until somebody resumes it"
                    .to_owned(),
            ));
        }
        (None, Some(millis)) => Some(now.checked_after(Duration::from_millis(millis)).ok_or_else(|| {
            let latest = Timestamp::LATEST;
            ServiceError::Invalid(format!(
                "`for_ms` is {millis}, and no pause ends after {latest}: use less, so that it ends before that"
            ))
        })?),
        (until, None) => until,
    };
    Ok(Pause { since: now, until, reason, by })
}

fn budget_view(standing: &Standing, over: Option<&OverBudget>) -> BudgetView {
    BudgetView {
        budget: standing.budget,
        spent: standing.spent,
        warns: over.is_some() || standing.is_near() || standing.is_over(),
        until: over.map(|over| over.until),
    }
}
