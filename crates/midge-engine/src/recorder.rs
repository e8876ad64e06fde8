//! Writes down what a guest says in its requests and what it is told, within the bounds of a recording.
//!
//! Invariant: it sees the guest's side of a line only. Secrets are put in at the other side, and are not known here.

use bytes::{Bytes, BytesMut};
use midge_protocol::limits::{RECORDED_BODY_BYTES_MAX, RECORDED_READINGS_MAX};
use midge_protocol::line::{Failed, Head, Request};
use midge_protocol::recording::{
    Data, RecordedAnswer, RecordedRequest, Recording, data_bytes, failed_bytes, fitting, reading_bytes,
};

/// A recording that is being made.
pub(crate) struct Recorder {
    recording: Recording,
    /// The bodies of its requests and of their answers, in the order of the requests.
    bodies: Vec<Bodies>,
    left: usize,
}

#[derive(Default)]
struct Bodies {
    sent: BytesMut,
    received: BytesMut,
}

impl Recorder {
    pub(crate) fn new(recording: Recording) -> Recorder {
        let left = recording.room();
        Recorder { recording, bodies: Vec::new(), left }
    }

    /// Returns what is recorded so far.
    pub(crate) fn recording(&self) -> Recording {
        let mut recording = self.recording.clone();
        for (request, bodies) in recording.requests.iter_mut().zip(&self.bodies) {
            request.body = data(&bodies.sent);
            if let Some(answer) = &mut request.answer {
                answer.body = data(&bodies.received);
            }
        }
        recording
    }

    /// Takes note of what the clock showed.
    pub(crate) fn clock(&mut self, elapsed_ns: u64) {
        if self.recording.clock_ns.len() < RECORDED_READINGS_MAX && self.has(reading_bytes(elapsed_ns)) {
            self.recording.clock_ns.push(elapsed_ns);
        } else {
            self.recording.cut = true;
        }
    }

    /// Takes note of a request, and returns its place among them; nothing where there is no room for it.
    pub(crate) fn begun(&mut self, request: &Request, began_us: u64) -> Option<usize> {
        let headers = request.headers.iter().map(|(name, value)| (name.clone(), Data(value.clone())));
        let request = RecordedRequest {
            method: request.method.clone(),
            url: request.url.clone(),
            headers: headers.collect(),
            body: Data::default(),
            body_bytes: 0,
            redirects: request.redirects,
            began_us,
            ended_us: None,
            answer: None,
            failed: None,
        };
        if !self.has(request.counted_bytes()) {
            // In their order: one that comes after it would be taken for it.
            self.left = 0;
            return None;
        }
        self.recording.requests.push(request);
        self.bodies.push(Bodies::default());
        Some(self.bodies.len() - 1)
    }

    pub(crate) fn sent(&mut self, at: usize, bytes: &[u8]) {
        let (request, bodies) = (&mut self.recording.requests[at], &mut self.bodies[at]);
        request.body_bytes += bytes.len() as u64;
        let kept = add(&mut bodies.sent, bytes, &mut self.left);
        self.recording.cut |= kept < bytes.len();
    }

    pub(crate) fn answered(&mut self, at: usize, head: &Head) {
        let headers = head.headers.iter().map(|(name, value)| (name.clone(), Data(value.clone())));
        let answer = RecordedAnswer {
            status: head.status,
            url: head.url.clone(),
            headers: headers.collect(),
            body: Data::default(),
            body_bytes: 0,
            ended: false,
        };
        if self.has(answer.counted_bytes()) {
            self.recording.requests[at].answer = Some(answer);
        }
    }

    pub(crate) fn received(&mut self, at: usize, bytes: &[u8]) {
        let (request, bodies) = (&mut self.recording.requests[at], &mut self.bodies[at]);
        // One whose head had no room is left out whole.
        let Some(answer) = &mut request.answer else { return };
        answer.body_bytes += bytes.len() as u64;
        let kept = add(&mut bodies.received, bytes, &mut self.left);
        self.recording.cut |= kept < bytes.len();
    }

    /// Takes note that an answer was read to its end.
    pub(crate) fn ended(&mut self, at: usize) {
        if let Some(answer) = &mut self.recording.requests[at].answer {
            answer.ended = true;
        }
    }

    /// Takes note of when nothing of a request was under way any more.
    pub(crate) fn closed(&mut self, at: usize, ended_us: u64) {
        self.recording.requests[at].ended_us = Some(ended_us);
    }

    pub(crate) fn failed(&mut self, at: usize, failed: Failed) {
        if self.has(failed_bytes(&failed)) {
            self.recording.requests[at].failed = Some(failed);
        }
    }

    /// Returns whether there is room for so many bytes, and takes it.
    fn has(&mut self, bytes: usize) -> bool {
        let left = self.left.checked_sub(bytes);
        self.left = left.unwrap_or(self.left);
        self.recording.cut |= left.is_none();
        left.is_some()
    }
}

/// Adds to a body as much as there is room for, and returns how much that was.
fn add(body: &mut BytesMut, bytes: &[u8], left: &mut usize) -> usize {
    let room = RECORDED_BODY_BYTES_MAX - body.len();
    let kept = fitting(&bytes[..bytes.len().min(room)], *left);
    body.extend_from_slice(&bytes[..kept]);
    *left -= data_bytes(&bytes[..kept]);
    kept
}

fn data(body: &BytesMut) -> Data {
    Data(Bytes::copy_from_slice(body))
}
