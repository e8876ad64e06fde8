//! What a follower of a job is told: `GET /v1/jobs/{id}/events`, as server-sent events whose data is JSON.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::job::{AttemptView, JobView, Progress};
use crate::{AttemptNumber, JobId, shown};

/// One thing that a follower of a job is told.
#[derive(Debug, Clone, PartialEq)]
pub enum JobNews {
    /// The job as it is now: its state, its attempt or when it is due has changed.
    State(Box<JobView>),
    /// The next piece of an attempt's log.
    Log(LogPiece),
    /// How far the attempt that runs says it is.
    Progress(AttemptProgress),
    /// An attempt ended, and how. Its log has been told as a whole.
    Attempt(Box<AttemptView>),
    /// The job has ended. Nothing follows.
    Ended(Box<JobView>),
    /// The job was deleted. Nothing follows.
    Deleted(DeletedJob),
}

impl JobNews {
    /// Returns the name of the event.
    pub const fn name(&self) -> &'static str {
        match self {
            JobNews::State(_) => "state",
            JobNews::Log(_) => "log",
            JobNews::Progress(_) => "progress",
            JobNews::Attempt(_) => "attempt",
            JobNews::Ended(_) => "ended",
            JobNews::Deleted(_) => "deleted",
        }
    }

    /// Returns the data of the event: JSON in one line.
    pub fn data(&self) -> String {
        let json = match self {
            JobNews::State(job) | JobNews::Ended(job) => serde_json::to_string(job),
            JobNews::Log(piece) => serde_json::to_string(piece),
            JobNews::Progress(progress) => serde_json::to_string(progress),
            JobNews::Attempt(attempt) => serde_json::to_string(attempt),
            JobNews::Deleted(deleted) => serde_json::to_string(deleted),
        };
        json.expect("what the API shows can always be written as JSON")
    }

    /// Reads an event. Returns nothing for one of a name that this release does not know.
    ///
    /// # Errors
    /// Where the data is not what an event of that name has.
    pub fn read(name: &str, data: &str) -> Result<Option<JobNews>, serde_json::Error> {
        Ok(Some(match name {
            "state" => JobNews::State(serde_json::from_str(data)?),
            "log" => JobNews::Log(serde_json::from_str(data)?),
            "progress" => JobNews::Progress(serde_json::from_str(data)?),
            "attempt" => JobNews::Attempt(serde_json::from_str(data)?),
            "ended" => JobNews::Ended(serde_json::from_str(data)?),
            "deleted" => JobNews::Deleted(serde_json::from_str(data)?),
            _ => return Ok(None),
        }))
    }

    /// Returns whether nothing follows.
    pub const fn is_last(&self) -> bool {
        matches!(self, JobNews::Ended(_) | JobNews::Deleted(_))
    }
}

/// A piece of an attempt's log, to the byte. In JSON the bytes are `text` where they are UTF-8, and else `base64`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "LogPieceForm", into = "LogPieceForm")]
pub struct LogPiece {
    /// The attempt whose log it is.
    pub attempt: AttemptNumber,
    /// Where in the log the piece begins, in bytes.
    pub offset: u64,
    /// The piece itself, as the guest wrote it to stderr.
    pub bytes: Bytes,
}

/// A [`LogPiece`] in JSON.
#[derive(Serialize, Deserialize)]
struct LogPieceForm {
    attempt: AttemptNumber,
    offset: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl From<LogPiece> for LogPieceForm {
    fn from(piece: LogPiece) -> LogPieceForm {
        let LogPiece { attempt, offset, bytes } = piece;
        let (text, base64) = match std::str::from_utf8(&bytes) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(BASE64_STANDARD.encode(&bytes))),
        };
        LogPieceForm { attempt, offset, text, base64 }
    }
}

impl TryFrom<LogPieceForm> for LogPiece {
    type Error = String;

    fn try_from(form: LogPieceForm) -> Result<LogPiece, String> {
        let LogPieceForm { attempt, offset, text, base64 } = form;
        let bytes = match (text, base64) {
            (Some(text), None) => Bytes::from(text),
            (None, Some(base64)) => {
                BASE64_STANDARD.decode(base64).map_err(|error| format!("`base64` is none: {error}"))?.into()
            }
            _ => return Err("a piece of a log has one of `text` and `base64`".to_owned()),
        };
        Ok(LogPiece { attempt, offset, bytes })
    }
}

/// How far an attempt says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptProgress {
    /// The attempt that runs.
    pub attempt: AttemptNumber,
    /// How far it says it is.
    pub progress: Progress,
}

/// The job that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedJob {
    /// Its id.
    pub id: JobId,
}

/// How much a follower has been told: the `id` of an event, and the `Last-Event-ID` with which another connection goes on
/// right behind it. As text it is `ATTEMPT:OFFSET`, where the log of that attempt has been told up to that byte, with
/// `:ended` behind it once the attempt's end was told, and `:over` once the job's was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The attempt that was told of last; 0 before the first.
    pub attempt: AttemptNumber,
    /// How much of its log was told, in bytes.
    pub offset: u64,
    /// What was told of its end.
    pub stage: Stage,
}

/// What a follower was told of the end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// Nothing: more of its log may come.
    #[default]
    Begun,
    /// How it ended.
    Ended,
    /// How it ended, and that the job ended with it.
    Over,
}

impl Position {
    /// Returns the position before everything that is kept of a job.
    pub const BEGINNING: Position = Position { attempt: AttemptNumber(0), offset: 0, stage: Stage::Begun };

    /// Returns the position before the log of an attempt.
    pub const fn before(attempt: AttemptNumber) -> Position {
        Position { attempt, ..Position::BEGINNING }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Begun => "",
            Stage::Ended => ":ended",
            Stage::Over => ":over",
        };
        write!(f, "{}:{}{stage}", self.attempt.0, self.offset)
    }
}

/// The error of a text that is no [`Position`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no position in a job's events: use the `id` of one of its events, such as `2:1024`, which is ATTEMPT:OFFSET, or \
     leave it out to begin at the first"
)]
pub struct InvalidPosition(String);

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Position, InvalidPosition> {
        let mut parts = text.split(':');
        let stage = |word: Option<&str>| match word {
            None => Some(Stage::Begun),
            Some("ended") => Some(Stage::Ended),
            Some("over") => Some(Stage::Over),
            Some(_) => None,
        };
        let mut read = || {
            let attempt = AttemptNumber(parts.next()?.parse().ok()?);
            let offset = parts.next()?.parse().ok()?;
            let stage = stage(parts.next())?;
            parts.next().is_none().then_some(Position { attempt, offset, stage })
        };
        read().ok_or_else(|| InvalidPosition(shown::cut(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        for (text, attempt, offset, stage) in [
            ("0:0", 0, 0, Stage::Begun),
            ("2:1024", 2, 1024, Stage::Begun),
            ("2:1024:ended", 2, 1024, Stage::Ended),
            ("4294967295:18446744073709551615:over", u32::MAX, u64::MAX, Stage::Over),
        ] {
            let position: Position = text.parse().unwrap();
            assert_eq!(position, Position { attempt: AttemptNumber(attempt), offset, stage });
            assert_eq!(position.to_string(), text);
        }
        let long = "9".repeat(1_000_000);
        for text in
            ["", "1", "1:", ":1", "1:2:", "1:2:over:", "1:2:gone", "-1:2", "4294967296:0", "a:b", &long]
        {
            let error = text.parse::<Position>().unwrap_err().to_string();
            assert!(error.contains("no position") && error.len() < 400, "{error}");
        }
    }

    #[test]
    fn a_piece_of_a_log_loses_no_byte() {
        for bytes in
            [&b"plain"[..], b"", b"\0\n\r\x1b[31m", "é\u{2028}".as_bytes(), b"\xff\xfe", b"half \xc3"]
        {
            let piece = LogPiece {
                attempt: AttemptNumber(3),
                offset: u64::MAX,
                bytes: Bytes::copy_from_slice(bytes),
            };
            let news = JobNews::Log(piece);
            let data = news.data();
            assert!(!data.contains('\n') && !data.contains('\r'), "one event is one line: {data}");
            assert_eq!(data.contains("\"base64\""), std::str::from_utf8(bytes).is_err(), "{data}");
            assert_eq!(JobNews::read("log", &data).unwrap(), Some(news));
        }
        for data in [r#"{"attempt":1,"offset":0}"#, r#"{"attempt":1,"offset":0,"text":"","base64":""}"#] {
            assert!(
                JobNews::read("log", data).unwrap_err().to_string().contains("one of `text` and `base64`")
            );
        }
    }

    #[test]
    fn an_event_of_a_newer_server_is_nothing() {
        assert_eq!(JobNews::read("sung", "la").unwrap(), None);
    }
}
