//! What wasmtime keeps for one guest: its WASI, its limits, and what it said about its own end.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use midge_protocol::limits::TABLE_ELEMENTS_MAX;
use midge_protocol::{ModuleName, Timestamp};
use wasmtime::ResourceLimiter;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::WasiP1Ctx;

use crate::http::Requests;
use crate::imports::{Files, FollowUps};
use crate::lacks;
use crate::shared::Shared;
use crate::world::OwnWorld;

/// The state of one guest.
pub(crate) struct Guest {
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) shared: Arc<Shared>,
    /// Its requests.
    pub(crate) requests: Requests,
    /// What of files is midge's own.
    pub(crate) files: Files,
    memory_limit_bytes: u64,
    table_elements: usize,
    /// The first growth that was denied. The guest itself only shows what it did about it.
    pub(crate) denied: Option<DeniedGrowth>,
    /// What the Machine was first found to lack for this guest. It was told so, as any program is, and may live with it.
    pub(crate) lacked: Option<String>,
    /// What it wants to be told as the reason, should it fail.
    pub(crate) error: Option<String>,
    pub(crate) retry_after_ms: Option<u64>,
    pub(crate) snooze_ms: Option<u64>,
    /// What this attempt saved last, or one before it.
    pub(crate) saved: Option<Bytes>,
    /// The jobs that are enqueued if it completes.
    pub(crate) follow_ups: FollowUps,
    /// From where it has its randomness; nothing where that is the Machine's.
    pub(crate) world: Option<Arc<OwnWorld>>,
}

/// A growth past a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeniedGrowth {
    /// Of the memory, to so many bytes.
    Memory(u64),
    /// Of the tables, to so many elements in all.
    Table(u64),
    /// Of the files and folders that are open at once.
    Files,
    /// Of the requests that are open at once.
    OpenRequests,
    /// Of the requests of the attempt.
    Requests,
    /// Of the bytes that its requests send.
    Sent,
    /// Of the bytes that its requests receive.
    Received,
}

impl Guest {
    pub(crate) fn new(
        wasi: WasiP1Ctx,
        shared: Arc<Shared>,
        requests: Requests,
        memory_limit_bytes: u64,
    ) -> Guest {
        Guest {
            wasi,
            shared,
            requests,
            files: Files::default(),
            memory_limit_bytes,
            table_elements: 0,
            denied: None,
            lacked: None,
            error: None,
            retry_after_ms: None,
            snooze_ms: None,
            saved: None,
            follow_ups: FollowUps::default(),
            world: None,
        }
    }

    /// Returns what time it is for the guest.
    pub(crate) fn now(&self) -> Timestamp {
        let now = self.world.as_ref().map_or_else(
            || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            |world| world.time(),
        );
        Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
    }

    /// Makes the state of no guest, for a store in which only types are looked at.
    pub(crate) fn detached() -> Guest {
        let shared = Arc::new(Shared::new(Arc::default()));
        let nobody = ModuleName::new("none").expect("it is a plain name");
        let requests = Requests::new(None, nobody, Arc::clone(&shared), None);
        Guest::new(WasiCtxBuilder::new().build_p1(), shared, requests, 0)
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let desired = desired as u64;
        if desired > self.memory_limit_bytes {
            self.denied.get_or_insert(DeniedGrowth::Memory(desired));
            return Ok(false);
        }
        self.shared.memory_is(desired);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // Within its limit: what the guest makes of it is not to be taken for its own fault.
        if let Some(what) = lacks::of(error.as_ref()) {
            self.lacked.get_or_insert(what);
        }
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let in_all = self.table_elements.saturating_add(desired.saturating_sub(current));
        if in_all > TABLE_ELEMENTS_MAX {
            self.denied.get_or_insert(DeniedGrowth::Table(in_all as u64));
            return Ok(false);
        }
        self.table_elements = in_all;
        Ok(true)
    }

    fn instances(&self) -> usize {
        1
    }

    fn memories(&self) -> usize {
        1
    }
}
