//! The one call that a host makes to a server: `POST /v1/machines/{name}/exchange`.
//!
//! Both bodies are MessagePack with named fields ([`encode`], [`decode`]): bytes travel as bytes, and since hosts
//! and servers of two releases meet during a deploy, a field that one side does not know is skipped. What can
//! not be understood at all is told apart by [`PROTOCOL`], which travels in the header [`PROTOCOL_HEADER`].

mod follow_up;
mod outcome;

use std::io::ErrorKind;

use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

pub use self::follow_up::{FollowUp, FollowUpsSize, InvalidFollowUp, TooManyFollowUps};
use crate::job::{AttemptLimits, Failure, Progress, Usage};
use crate::object::objects;
use crate::recording::Recording;
use crate::{AttemptNumber, BootId, JobId, ModuleName, QueueName, limits};

/// The version of the exchange that this release speaks.
pub const PROTOCOL: u32 = 5;
/// The header that carries [`PROTOCOL`], in requests and answers.
pub const PROTOCOL_HEADER: &str = "midge-protocol";
/// The content type of both bodies.
pub const CONTENT_TYPE: &str = "application/msgpack";

/// What a host says in one exchange: what it runs, what ended, and how much more it can begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Request {
    /// The start of the host that sends this: another process is another boot.
    pub boot: BootId,
    /// Rises with every request of one boot, from 1. A claim needs the newest.
    pub seq: u64,
    /// How many more attempts the host can begin now.
    pub room: u32,
    /// How long the server may wait before it answers that there is nothing to say, in milliseconds.
    pub wait_ms: u32,
    /// Asks to leave: the host has waited long enough, or was told to stop. Needs `running` to be empty.
    #[serde(default)]
    pub leaving: bool,
    /// Attempts that run now.
    #[serde(default)]
    pub running: Vec<Running>,
    /// Attempts that ended. Repeated until an answer to a request that held them arrives.
    #[serde(default)]
    pub finished: Vec<Finished>,
    /// Pieces of the logs of attempts that run or ended.
    #[serde(default)]
    pub log: Vec<LogChunk>,
    /// States that guests saved. Each waits until an answer to a request that held it arrives.
    #[serde(default)]
    pub saved: Vec<Saved>,
}

impl Request {
    /// Checks that a request says no more than a host can have to say.
    ///
    /// # Errors
    /// [`Malformed`] where more than [`limits::EXCHANGE_REPORTS_MAX`] attempts, pieces of logs or states are reported, a
    /// state is larger than [`limits::SAVED_BYTES_MAX`], a recording is of another attempt or larger than
    /// [`limits::RECORDING_BYTES_MAX`], or more jobs are enqueued than one attempt may: one transaction has all of them, whoever
    /// enqueues them.
    pub fn check(&self) -> Result<(), Malformed> {
        let max = limits::EXCHANGE_REPORTS_MAX;
        let counts = [
            ("running", self.running.len()),
            ("finished", self.finished.len()),
            ("log", self.log.len()),
            ("saved", self.saved.len()),
        ];
        for (what, count) in counts {
            if count > max {
                return Err(Malformed(format!(
                    "`{what}` has {count} entries, and at most {max} are allowed"
                )));
            }
        }
        let jobs = self.finished.iter().map(|finished| FollowUpsSize::of(&finished.jobs));
        let in_all = jobs.clone().map(|size| size.jobs).sum();
        jobs.chain([FollowUpsSize { jobs: in_all, bytes: 0 }])
            .try_for_each(FollowUpsSize::check)
            .map_err(|error| Malformed(format!("`finished`: {error}")))?;
        for Finished { attempt, recording, .. } in &self.finished {
            recording.as_ref().map_or(Ok(()), |recording| check_recording(attempt.attempt, recording))?;
        }
        let max = limits::SAVED_BYTES_MAX;
        match self.saved.iter().map(|saved| saved.state.len()).find(|bytes| *bytes > max) {
            Some(bytes) => {
                Err(Malformed(format!("`saved` has a state of {bytes} bytes, and at most {max} are allowed")))
            }
            None => Ok(()),
        }
    }
}

fn check_recording(attempt: AttemptNumber, recording: &Recording) -> Result<(), Malformed> {
    if recording.attempt != attempt {
        let of = recording.attempt;
        return Err(Malformed(format!("the end of attempt {attempt} has a recording of attempt {of}")));
    }
    recording.check().map_err(|error| Malformed(format!("a recording that is none: {error}")))?;
    let (bytes, max) = (recording.counted_bytes(), limits::RECORDING_BYTES_MAX);
    if bytes <= max {
        Ok(())
    } else {
        Err(Malformed(format!("a recording counts for {bytes} bytes, and at most {max} are allowed")))
    }
}

/// Names one attempt at one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct AttemptRef {
    /// The id of the job.
    pub job: JobId,
    /// The number of the attempt at that job, from 1.
    pub attempt: AttemptNumber,
    /// When the job was enqueued, in milliseconds since 1970, as the grant said it: one that is enqueued under the id of
    /// a job that was deleted is another, and its attempts begin at 1 again. Nothing where a grant did not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enqueued_at_ms: Option<i64>,
}

impl AttemptRef {
    /// Names an attempt at the job that has an id, whenever that was enqueued.
    pub const fn new(job: JobId, attempt: AttemptNumber) -> AttemptRef {
        AttemptRef { job, attempt, enqueued_at_ms: None }
    }
}

/// An attempt that runs, as its host reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Running {
    /// The attempt that runs.
    pub attempt: AttemptRef,
    /// The guest's last progress; nothing where the server has been told of it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// An attempt that ended, as its host reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Finished {
    /// The attempt that ended.
    pub attempt: AttemptRef,
    /// How the attempt ended: with a result, a failure, or neither.
    pub outcome: Outcome,
    /// The time and memory that the attempt used.
    pub usage: Usage,
    /// The jobs that it enqueues, in the order in which its guest named them. They count only where it completed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<FollowUp>,
    /// What the world told it, where it has failed and was to be recorded. At most [`limits::RECORDING_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<Box<Recording>>,
}

impl Finished {
    /// Makes the report of an attempt that enqueues nothing, and of which nothing is recorded.
    pub fn new(attempt: AttemptRef, outcome: Outcome, usage: Usage) -> Finished {
        Finished { attempt, outcome, usage, jobs: Vec::new(), recording: None }
    }
}

/// How an attempt ended in the host.
///
/// An outcome of a newer host, whose word this release does not know, is read as a failure with that word as its cause,
/// so that the rest of what the host says is heard. It is spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The guest exited with 0. Its stdout is the result.
    Completed {
        /// The bytes of stdout, at most [`crate::limits::RESULT_BYTES_MAX`] of them.
        result: Bytes,
    },
    /// The guest did not complete: it exited with another code, was stopped at a limit, or could not be begun.
    Failed(Failure),
    /// The guest asked to be run again later, which is not spent.
    Snoozed {
        /// How long to wait before the next attempt, in milliseconds from the report.
        after_ms: u64,
    },
    /// The attempt was stopped because the server asked for it.
    Cancelled,
    /// The host gave the attempt back unfinished: its Machine was told to stop, or lacks what it takes. Not spent.
    HandedBack {
        /// What the Machine lacks, in words; nothing where it was told to stop or had no place left. A host that lacks
        /// something takes no more jobs and leaves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lacks: Option<String>,
    },
    /// The host gave the attempt back before its guest ran: the Machine lacks what this module's guests are given, such as a
    /// secret. Others are not concerned, and the host goes on. Not spent.
    ModuleLacks {
        /// What it lacks, in words.
        what: String,
    },
}

impl Outcome {
    /// Makes the outcome of an attempt that was given back because its Machine is to stop.
    pub const HANDED_BACK: Outcome = Outcome::HandedBack { lacks: None };
}

/// A piece of an attempt's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct LogChunk {
    /// The attempt whose log it is.
    pub attempt: AttemptRef,
    /// Where in the log the piece begins, in bytes: a repeated piece is recognised.
    pub offset: u64,
    /// The piece itself: what the guest wrote to stderr, as it wrote it.
    pub bytes: Bytes,
}

/// What the guest of an attempt saved, for itself and for the attempts after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Saved {
    /// The attempt whose guest saved it.
    pub attempt: AttemptRef,
    /// The state, which takes the place of the one before. At most [`limits::SAVED_BYTES_MAX`].
    pub state: Bytes,
}

/// What a server answers in one exchange: what to begin, what to stop, and whether to leave.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Answer {
    /// Attempts to begin. One that the host already has (same job, same number) is to be ignored.
    #[serde(default)]
    pub jobs: Vec<Grant>,
    /// Attempts to stop: cancelled, or no longer this Machine's.
    #[serde(default)]
    pub cancel: Vec<AttemptRef>,
    /// No more jobs will come: finish what runs, then ask to leave.
    #[serde(default)]
    pub drain: bool,
    /// The host may exit, and its secret is revoked. Only ever the answer to `leaving`.
    #[serde(default)]
    pub left: bool,
    /// The Machine is about to be suspended: the host says nothing for a moment, and then asks to leave again, until it is
    /// told something else. Only ever the answer to `leaving`.
    #[serde(default)]
    pub rest: bool,
    /// Somebody follows one of the Machine's attempts: log and progress are to be told soon.
    #[serde(default)]
    pub followed: bool,
}

impl Answer {
    /// Returns whether there is anything in it that the host should not wait for.
    ///
    /// That it is to drain is news to a host that would begin more or asks to leave. One without room, as every
    /// draining host is, hears it in time with whatever is said next; told at once, it would ask again at once.
    pub fn is_news_to(&self, request: &Request) -> bool {
        let drain = self.drain && (request.room > 0 || request.leaving);
        !self.jobs.is_empty() || !self.cancel.is_empty() || drain || self.left || self.rest
    }
}

/// An attempt that the host is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Grant {
    /// The attempt to begin.
    pub attempt: AttemptRef,
    /// The module to run.
    pub module: ModuleName,
    /// The queue that the job waited in.
    pub queue: QueueName,
    /// The job's args, as JSON text.
    pub args: String,
    /// Bytes for stdin. Where there are none, stdin is the args.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Bytes>,
    /// What an attempt before this one saved last; nothing where none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<Bytes>,
    /// The time and memory that the attempt may use.
    pub limits: AttemptLimits,
    /// Whether it is to be recorded, for the report of its failure.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub record: bool,
}

objects!(Request, AttemptRef, Running, Finished, LogChunk, Saved, Answer, Grant);

/// Writes a request or an answer.
pub fn encode<T: Serialize>(message: &T) -> Bytes {
    // Our own types, into memory: there is nothing that could fail.
    Bytes::from(rmp_serde::to_vec_named(message).expect("exchange messages can always be encoded"))
}

/// Reads a request or an answer.
///
/// # Errors
/// [`Malformed`] where the bytes are not MessagePack, have a list where a map of fields is meant, lack a field that has no
/// default, or go on after the message.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    let mut messages = rmp_serde::Deserializer::from_read_ref(bytes);
    let message = T::deserialize(&mut messages).map_err(|e| Malformed(e.to_string()))?;
    match IgnoredAny::deserialize(&mut messages) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(e)) if e.kind() == ErrorKind::UnexpectedEof => {
            Ok(message)
        }
        _ => Err(Malformed("it goes on after the message".to_owned())),
    }
}

/// An exchange body that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body is not an exchange of protocol {PROTOCOL}: {0}")]
pub struct Malformed(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_of_a_newer_peer_is_skipped() {
        #[derive(Serialize)]
        struct NewerAnswer {
            drain: bool,
            suspend: bool,
        }
        let answer: Answer = decode(&encode(&NewerAnswer { drain: true, suspend: true })).unwrap();
        assert!(answer.drain && answer.jobs.is_empty());
    }

    #[test]
    fn bytes_travel_as_bytes() {
        let result = Bytes::from(vec![0xff; 10_000]);
        let outcome = Outcome::Completed { result };
        let encoded = encode(&outcome);
        assert!(encoded.len() < 10_100, "{}", encoded.len());
        assert_eq!(decode::<Outcome>(&encoded).unwrap(), outcome);
    }

    #[test]
    fn no_state_is_larger_than_its_bound() {
        let attempt = AttemptRef::new(JobId::from_bytes([1; 16]), AttemptNumber(1));
        let request = |bytes| Request {
            saved: vec![Saved { attempt, state: vec![0; bytes].into() }],
            ..nothing_said()
        };
        assert_eq!(request(limits::SAVED_BYTES_MAX).check(), Ok(()));
        let error = request(limits::SAVED_BYTES_MAX + 1).check().unwrap_err().to_string();
        assert!(error.contains("65537 bytes, and at most 65536"), "{error}");
    }

    #[test]
    fn all_attempts_of_a_request_together_enqueue_no_more_jobs_than_one_may() {
        let attempt = AttemptRef::new(JobId::from_bytes([1; 16]), AttemptNumber(1));
        let job = FollowUp { id: attempt.job, request: "{}".to_owned(), input: None };
        let finished = |jobs: usize| {
            let outcome = Outcome::Completed { result: Bytes::new() };
            Finished { jobs: vec![job.clone(); jobs], ..Finished::new(attempt, outcome, Usage::default()) }
        };
        let request = |jobs: &[usize]| Request {
            finished: jobs.iter().map(|jobs| finished(*jobs)).collect(),
            ..nothing_said()
        };
        assert_eq!(request(&[4_000, 6_000]).check(), Ok(()));
        for jobs in [&[10_001][..], &[4_000, 6_001]] {
            let error = request(jobs).check().unwrap_err().to_string();
            assert!(error.contains("10001 jobs, and may 10000"), "{error}");
        }
        let large = FollowUp { input: Some(vec![0; limits::FOLLOW_UP_BYTES_MAX].into()), ..job.clone() };
        let mut request = request(&[0]);
        request.finished[0].jobs = vec![large];
        assert!(request.check().unwrap_err().to_string().contains("8388610 bytes in all"));
    }

    #[test]
    fn nothing_follows_a_message() {
        let whole = encode(&Answer { drain: true, ..Answer::default() });
        assert!(decode::<Answer>(&whole).is_ok());
        for more in [&[0xc0][..], &[0xc1], b"x", &whole] {
            let error = decode::<Answer>(&[&whole, more].concat()).unwrap_err().to_string();
            assert!(error.contains("goes on after the message"), "{error}");
        }
    }

    fn nothing_said() -> Request {
        Request {
            boot: BootId(1),
            seq: 1,
            room: 1,
            wait_ms: 0,
            leaving: false,
            running: Vec::new(),
            finished: Vec::new(),
            log: Vec::new(),
            saved: Vec::new(),
        }
    }

    fn is_no_list<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &T) {
        assert_eq!(&decode::<T>(&encode(message)).unwrap(), message);
        let list = rmp_serde::to_vec(message).unwrap();
        let error = decode::<T>(&list).unwrap_err().to_string();
        assert!(error.contains("invalid type: sequence"), "{error}");
    }

    #[test]
    fn a_list_is_no_message_and_no_part_of_one() {
        let attempt = AttemptRef::new(JobId::from_bytes([1; 16]), AttemptNumber(1));
        let progress = Progress { done: 1, total: 2, message: "m".to_owned() };
        let failure = Failure::new(crate::job::Cause::Exit, "no");
        is_no_list(&attempt);
        is_no_list(&progress);
        is_no_list(&failure);
        is_no_list(&Usage::default());
        is_no_list(&AttemptLimits::default());
        is_no_list(&Running { attempt, progress: Some(progress) });
        is_no_list(&LogChunk { attempt, offset: 0, bytes: Bytes::new() });
        is_no_list(&Saved { attempt, state: Bytes::new() });
        is_no_list(&Finished::new(attempt, Outcome::Failed(failure), Usage::default()));
        is_no_list(&FollowUp { id: attempt.job, request: "{}".to_owned(), input: None });
        is_no_list(&Answer::default());
        is_no_list(&nothing_said());
        is_no_list(&Grant {
            attempt,
            module: ModuleName::new("hello").unwrap(),
            queue: QueueName::default_queue(),
            args: "null".to_owned(),
            input: None,
            saved: None,
            limits: AttemptLimits::default(),
            record: false,
        });
        #[derive(Serialize)]
        struct Listed {
            completed: (Bytes,),
        }
        assert!(decode::<Outcome>(&encode(&Listed { completed: (Bytes::new(),) })).is_err());
    }

    #[test]
    fn a_malformed_body_is_an_error_not_a_panic() {
        let whole = encode(&Answer { drain: true, ..Answer::default() });
        for length in 0..whole.len() {
            assert!(decode::<Answer>(&whole[..length]).is_err());
        }
        assert!(decode::<Request>(b"{\"json\": true}").is_err());
    }
}
