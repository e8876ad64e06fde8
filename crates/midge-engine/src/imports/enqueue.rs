//! Jobs that a guest enqueues: they are checked here and kept until it has completed.

use std::sync::Arc;

use bytes::Bytes;
use midge_protocol::api::InvalidRequest;
use midge_protocol::exchange::{FollowUp, FollowUpsSize, InvalidFollowUp, TooManyFollowUps};
use midge_protocol::limits::MESSAGE_BYTES_MAX;
use midge_protocol::manifest::NotDeclared;
use midge_protocol::{JobId, Timestamp};
use wasmtime::Caller;

use super::{bytes_at, copy, memory, read};
use crate::guest::Guest;
use crate::load::Loaded;

/// The bytes of an id as text.
const ID_BYTES: i32 = 36;

/// The jobs that a guest has enqueued.
#[derive(Default)]
pub(crate) struct FollowUps {
    /// The guest's module; nothing where no guest runs.
    module: Option<Arc<Loaded>>,
    jobs: Vec<FollowUp>,
    size: FollowUpsSize,
    /// Why the last one that was refused was.
    refused: Option<String>,
}

/// Why a job is not enqueued.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("it is not a request for a job: it is not UTF-8")]
    NotText,
    #[error(transparent)]
    Invalid(#[from] InvalidFollowUp),
    #[error(transparent)]
    Wrong(#[from] InvalidRequest),
    #[error(transparent)]
    NotDeclared(#[from] NotDeclared),
    #[error(transparent)]
    TooMany(#[from] TooManyFollowUps),
}

impl Refused {
    /// Returns what the guest is answered.
    const fn code(&self) -> i32 {
        match self {
            Refused::NotText | Refused::Invalid(_) | Refused::Wrong(_) => 1,
            Refused::NotDeclared(_) => 2,
            Refused::TooMany(_) => 3,
        }
    }
}

impl FollowUps {
    /// Begins with none, for a guest of a module.
    pub(crate) fn of(module: &Arc<Loaded>) -> FollowUps {
        FollowUps { module: Some(Arc::clone(module)), ..FollowUps::default() }
    }

    /// Takes the jobs, in the order in which they were enqueued.
    pub(crate) fn take(&mut self) -> Vec<FollowUp> {
        std::mem::take(&mut self.jobs)
    }

    /// Returns what there is with one more of so many bytes.
    fn with(&self, bytes: usize) -> Result<FollowUpsSize, Refused> {
        let size = self.size.with(bytes);
        size.check()?;
        Ok(size)
    }

    fn check(&self, job: &FollowUp, now: Timestamp) -> Result<(), Refused> {
        let wanted = job.module()?;
        if let Some(module) = &self.module {
            module.entry.may_enqueue(&module.name, &wanted)?;
        }
        // What no server would take the guest is to know here, and not once it has completed in vain.
        Ok(job.read()?.check_at(now)?)
    }
}

/// Returns 0 where the job is enqueued should the guest complete, and has written its id; else why it is not.
pub(super) fn enqueue(
    mut caller: Caller<'_, Guest>,
    request: i32,
    request_length: i32,
    input: i32,
    input_length: i32,
    id: i32,
) -> wasmtime::Result<i32> {
    // The bounds first: what is over them is not even copied.
    let bytes = request_length as u32 as usize + input_length as u32 as usize;
    let size = match caller.data().follow_ups.with(bytes) {
        Ok(size) => size,
        Err(refused) => return Ok(refuse(&mut caller, &refused)),
    };
    let request = read(&mut caller, "a request", request, request_length)?.to_vec();
    let Ok(request) = String::from_utf8(request) else { return Ok(refuse(&mut caller, &Refused::NotText)) };
    let input = Bytes::copy_from_slice(read(&mut caller, "an input", input, input_length)?);
    let input = (!input.is_empty()).then_some(input);
    let job = FollowUp { id: JobId::generate(), request, input };
    let now = caller.data().now();
    if let Err(refused) = caller.data().follow_ups.check(&job, now) {
        return Ok(refuse(&mut caller, &refused));
    }
    let (memory, guest) = memory(&mut caller)?;
    bytes_at(memory, "the room for an id", id, ID_BYTES)?.copy_from_slice(job.id.to_string().as_bytes());
    guest.follow_ups.size = size;
    guest.follow_ups.jobs.push(job);
    Ok(0)
}

/// Copies why the last job that was refused was, as `saved` copies a state.
pub(super) fn enqueue_error(mut caller: Caller<'_, Guest>, ptr: i32, room: i32) -> wasmtime::Result<i32> {
    let (memory, guest) = memory(&mut caller)?;
    let refused = guest.follow_ups.refused.as_deref().map(str::as_bytes);
    copy(refused, "the room for an error", memory, ptr, room)
}

fn refuse(caller: &mut Caller<'_, Guest>, refused: &Refused) -> i32 {
    let mut why = refused.to_string();
    // A name that is none may be as long as a request.
    why.truncate(why.floor_char_boundary(MESSAGE_BYTES_MAX));
    caller.data_mut().follow_ups.refused = Some(why);
    refused.code()
}
