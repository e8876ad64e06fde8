//! Waiting until a Machine has been in a state.

use midge_machines::SeenState;

use super::{Machine, Refusal};

/// From where on a state counts as reached.
#[derive(Debug, Clone, Default)]
pub(crate) struct Since {
    /// The version of the config that is to be in force.
    pub(crate) version: Option<String>,
    /// The event after which it has to come.
    pub(crate) event: Option<String>,
}

impl Machine {
    /// Waits until the Machine is, or after the call has been, in one of some states; the id of the event too.
    ///
    /// # Errors
    /// Where it was destroyed instead, or what it is to be waited for since is not known.
    pub(crate) async fn reached(
        &self,
        wanted: &[SeenState],
        since: &Since,
    ) -> Result<(SeenState, String), Refusal> {
        let mut changed = self.changed.subscribe();
        let mut looked_at = *changed.borrow_and_update();
        {
            let record = self.record();
            self.check_version(since, record.versions.iter().map(|(version, _)| version.as_str()))?;
            let events = &record.events;
            if let Some(after) = &since.event {
                let Some(place) = events.iter().position(|event| event.id == *after) else {
                    return Err(Refusal::invalid(format_args!("`{after}` is not an event of this Machine")));
                };
                for event in events.range(place + 1..) {
                    let state = SeenState::from_word(&event.status);
                    if wanted.contains(&state) {
                        return Ok((state, event.id.clone()));
                    }
                }
            } else if wanted.contains(&record.state) {
                let event_id = events.back().map(|event| event.id.clone()).unwrap_or_default();
                return Ok((record.state.clone(), event_id));
            }
            if record.state == SeenState::Destroyed {
                return Err(Refusal::no_machine());
            }
        }
        loop {
            changed.changed().await.expect("the sender is a field of this Machine");
            let count = *changed.borrow_and_update();
            let record = self.record();
            let new = usize::try_from(count - looked_at).unwrap_or(usize::MAX).min(record.events.len());
            looked_at = count;
            // A state that lasted too short to be seen was reached all the same.
            for event in record.events.range(record.events.len() - new..) {
                let state = SeenState::from_word(&event.status);
                if wanted.contains(&state) {
                    return Ok((state, event.id.clone()));
                }
            }
            if record.state == SeenState::Destroyed {
                return Err(Refusal::no_machine());
            }
            self.check_version(since, record.versions.iter().map(|(version, _)| version.as_str()))?;
        }
    }

    /// Refuses to wait under a config that is none, or no longer in force.
    fn check_version<'a>(
        &self,
        since: &Since,
        known: impl DoubleEndedIterator<Item = &'a str>,
    ) -> Result<(), Refusal> {
        let Some(asked) = &since.version else { return Ok(()) };
        let mut newest_first = known.rev();
        match newest_first.position(|version| version == asked) {
            Some(0) => Ok(()),
            Some(_) => Err(Refusal::replaced()),
            None => Err(Refusal::invalid(format_args!("`{asked}` is not a version of this Machine"))),
        }
    }
}
