//! Which of a guest's open requests is which in its recording.

use std::sync::Arc;

use midge_protocol::limits::OPEN_REQUESTS_MAX;
use midge_protocol::line::{Failed, Head, Request};

use crate::recorder::Recorder;
use crate::world::OwnWorld;

/// Writes down what happens to the open requests of a guest. Where nothing is recorded it does nothing.
#[derive(Default)]
pub(crate) struct RequestLog {
    world: Option<Arc<OwnWorld>>,
    at: [Option<usize>; OPEN_REQUESTS_MAX],
}

impl RequestLog {
    pub(crate) fn new(world: Option<Arc<OwnWorld>>) -> RequestLog {
        RequestLog { world: world.filter(|world| world.is_recorded()), at: [None; OPEN_REQUESTS_MAX] }
    }

    pub(crate) fn begun(&mut self, slot: usize, request: &Request) {
        if let Some(world) = &self.world {
            let began_us = world.elapsed_us();
            self.at[slot] = world.recorded(|recorder| recorder.begun(request, began_us)).flatten();
        }
    }

    pub(crate) fn sent(&self, slot: usize, bytes: &[u8]) {
        self.of(slot, |recorder, at| recorder.sent(at, bytes));
    }

    pub(crate) fn answered(&self, slot: usize, head: &Head) {
        self.of(slot, |recorder, at| recorder.answered(at, head));
    }

    pub(crate) fn received(&self, slot: usize, bytes: &[u8]) {
        self.of(slot, |recorder, at| recorder.received(at, bytes));
    }

    /// Takes note that an answer was read to its end.
    pub(crate) fn ended(&mut self, slot: usize) {
        self.of(slot, Recorder::ended);
        self.closed(slot);
    }

    pub(crate) fn failed(&mut self, slot: usize, failed: &Failed) {
        self.of(slot, |recorder, at| recorder.failed(at, failed.clone()));
        self.closed(slot);
    }

    /// Takes note that nothing of a request is under way any more.
    pub(crate) fn closed(&mut self, slot: usize) {
        if let Some(world) = &self.world {
            let ended_us = world.elapsed_us();
            self.of(slot, |recorder, at| recorder.closed(at, ended_us));
            self.at[slot] = None;
        }
    }

    fn of(&self, slot: usize, note: impl FnOnce(&mut Recorder, usize)) {
        if let (Some(world), Some(at)) = (&self.world, self.at[slot]) {
            world.recorded(|recorder| note(recorder, at));
        }
    }
}
