//! A job that was pulled from a server: all that it takes to run its last attempt again here, in memory or in a folder.
//!
//! Invariant: no secret is in it. A recording has the names of secrets as the guest wrote them, and env only its names.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use midge_client::{Client, ClientError};
use midge_protocol::api::{JobDetail, Modules};
use midge_protocol::job::{AttemptLimits, Failure, State};
use midge_protocol::manifest::Folder;
use midge_protocol::recording::{Data, Recording};
use midge_protocol::{AttemptNumber, JobId, ModuleName, QueueName, wrong};
use serde::{Deserialize, Serialize};

use crate::connection::Answered;

const ABOUT: &str = "job.json";
const ARGS: &str = "args.json";
const INPUT: &str = "input";
const SAVED: &str = "saved";
const RESULT: &str = "result";
const RECORDING: &str = "recording.json";
/// The largest file of a folder: an input, with room to spare.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The server's word for bytes that a job does not have.
const NO_CONTENT: &str = "no_content";

/// A job that was pulled, with what one attempt at it was given.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub(crate) about: About,
    pub(crate) args: String,
    pub(crate) input: Option<Bytes>,
    /// What the attempt was given that one before it had saved. Where it was not recorded, it is what is saved now, and nothing
    /// where the job has completed.
    pub(crate) saved: Option<Bytes>,
    /// What the attempt gave, where it completed.
    pub(crate) result: Option<Bytes>,
    pub(crate) recording: Option<Recording>,
}

/// What `job.json` says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) id: JobId,
    pub(crate) module: ModuleName,
    pub(crate) queue: QueueName,
    /// The state of the job when it was pulled.
    pub(crate) state: State,
    /// The attempt that is run again: the one that was recorded, else the last that ended.
    pub(crate) attempt: AttemptNumber,
    /// How that failed; nothing where it did not, or is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<Failure>,
    /// The last attempt that was begun, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_attempt: Option<AttemptNumber>,
    /// What it might use.
    pub(crate) limits: AttemptLimits,
    /// The time limit of the job's own, in milliseconds; nothing where it has that of its module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) time_limit_ms: Option<u64>,
    /// SHA-256 of the compiled module: of the one that ran where it was recorded, else of the one that is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<String>,
    /// SHA-256 of the `.wasm` that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_sha256: Option<String>,
    /// Names of env that guests of the module see.
    #[serde(default)]
    pub(crate) env: Vec<String>,
    /// Folders of a Machine that they see.
    #[serde(default)]
    pub(crate) dirs: BTreeMap<String, Folder>,
}

impl About {
    /// Returns which attempt is run again, in words.
    pub(crate) fn which(&self) -> String {
        match self.last_attempt {
            Some(last) => format!("attempt {} (the last was attempt {last})", self.attempt),
            None => format!("attempt {}", self.attempt),
        }
    }
}

impl Pulled {
    /// Asks a server for a job. `modules` are those that it serves.
    pub(crate) async fn ask(client: &Client, id: JobId, modules: &Modules) -> Result<Pulled> {
        let detail = client.job(id).await.answered()?;
        if let Some(why) = &detail.job.unreadable {
            bail!("the row of job {id} cannot be read: {why}");
        }
        let recording = some(client.recording(id).await)?;
        let input = some(client.input_bytes(id).await)?;
        let saved = match &recording {
            Some(recording) => recording.saved.clone().map(|Data(bytes)| bytes),
            // What one that completed has saved is where it ended, and not where it began.
            None if detail.job.state == State::Completed => None,
            None => some(client.saved_bytes(id).await)?,
        };
        let about = about(&detail, recording.as_ref(), modules);
        let completed = detail.job.state == State::Completed && about.failure.is_none();
        let result = if completed { some(client.result_bytes(id).await)? } else { None };
        Ok(Pulled { about, args: detail.args.get().to_owned(), input, saved, result, recording })
    }

    /// Writes it into a folder, which is made where it is not there, and returns the names of its files.
    pub(crate) fn write(&self, folder: &Path) -> Result<Vec<&'static str>> {
        match std::fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
            Ok(false) => {}
            Ok(true) => bail!("{} is not empty: name another folder with --to", folder.display()),
            Err(error) if error.kind() == ErrorKind::NotFound => std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot write into {}", folder.display()));
            }
        }
        let json = |value: Result<Vec<u8>, serde_json::Error>| value.map(Bytes::from).map(Some);
        let recording = match &self.recording {
            Some(recording) => json(serde_json::to_vec_pretty(recording))?,
            None => None,
        };
        let files = [
            (ABOUT, json(serde_json::to_vec_pretty(&self.about))?),
            (ARGS, Some(Bytes::copy_from_slice(self.args.as_bytes()))),
            (INPUT, self.input.clone()),
            (SAVED, self.saved.clone()),
            (RESULT, self.result.clone()),
            (RECORDING, recording),
        ];
        let mut written = Vec::new();
        for (name, bytes) in files {
            let Some(bytes) = bytes else { continue };
            let file = folder.join(name);
            written.push(name);
            if let Err(error) = std::fs::write(&file, bytes) {
                // A part of a job is another job.
                written.iter().for_each(|name| drop(std::fs::remove_file(folder.join(name))));
                return Err(error).with_context(|| format!("cannot write {}", file.display()));
            }
        }
        Ok(written)
    }

    /// Reads what was written into a folder.
    pub(crate) fn read(folder: &Path) -> Result<Pulled> {
        let file = |name: &str| -> Result<(PathBuf, Option<Bytes>)> {
            let path = folder.join(name);
            match read_bounded(&path) {
                Ok(bytes) => Ok((path, Some(bytes.into()))),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok((path, None)),
                Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
            }
        };
        let (path, about) = file(ABOUT)?;
        let about = about.with_context(|| {
            format!("there is no {}: name a folder that `midge jobs pull` wrote", path.display())
        })?;
        let about = serde_json::from_slice(&about)
            .with_context(|| format!("{} is not what `midge jobs pull` writes", path.display()))?;
        let (path, args) = file(ARGS)?;
        let args = args
            .with_context(|| format!("there is no {}: args that are nothing are `null`", path.display()))?;
        let args =
            String::from_utf8(args.into()).with_context(|| format!("{} is not text", path.display()))?;
        let (path, recording) = file(RECORDING)?;
        let recording = recording.map(|json| recording_of(&json)).transpose();
        let recording = recording.with_context(|| format!("{} is not a recording", path.display()))?;
        let (input, saved, result) = (file(INPUT)?.1, file(SAVED)?.1, file(RESULT)?.1);
        Ok(Pulled { about, args, input, saved, result, recording })
    }
}

/// Reads a recording, which may have been edited: each part of it is judged as if a host had sent it.
fn recording_of(json: &[u8]) -> Result<Recording> {
    let recording = wrong::read::<Recording>(json, "it").map_err(|error| match error.at {
        Some((line, column)) => anyhow!("{error} at line {line} column {column}"),
        None => anyhow!("{error}"),
    })?;
    recording.check()?;
    Ok(recording)
}

/// Reads a file that `midge jobs pull` may have written: no pipe, no device, and nothing that is larger than those are.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let about = std::fs::metadata(path)?;
    if !about.is_file() || about.len() > FILE_BYTES_MAX {
        return Err(std::io::Error::other("it is not what `midge jobs pull` writes"));
    }
    std::fs::read(path)
}

/// Returns what a job has, or nothing where it has none of that.
fn some<T>(answer: Result<T, ClientError>) -> Result<Option<T>> {
    match answer {
        Err(error) if error.code() == Some(NO_CONTENT) => Ok(None),
        answer => Ok(Some(answer.answered()?)),
    }
}

fn about(detail: &JobDetail, recording: Option<&Recording>, modules: &Modules) -> About {
    let JobDetail { job, attempts, .. } = detail;
    let last = attempts.last().map_or(job.attempt, |attempt| attempt.attempt);
    let attempt = recording.map_or(last, |recording| recording.attempt).max(AttemptNumber(1));
    let ended = attempts.iter().find(|ended| ended.attempt == attempt);
    let served = modules.modules.iter().find(|module| module.name == job.module);
    let served = served.and_then(|module| module.entry.as_ref());
    let limits = recording.map(|recording| recording.limits).or(served.map(|entry| entry.limits));
    let digest = |of_recording: fn(&Recording) -> &String, of_entry: Option<&String>| {
        recording.map(of_recording).or(of_entry).cloned()
    };
    About {
        id: job.id,
        module: job.module.clone(),
        queue: job.queue.clone(),
        state: job.state,
        attempt,
        failure: ended.and_then(|ended| ended.failure.clone()),
        last_attempt: Some(job.attempt).filter(|last| *last != attempt),
        limits: limits.unwrap_or_default(),
        time_limit_ms: job.time_limit_ms,
        sha256: digest(|recording| &recording.sha256, served.map(|entry| &entry.sha256)),
        source_sha256: digest(|recording| &recording.source_sha256, served.map(|entry| &entry.source_sha256)),
        env: served.map(|entry| entry.env.clone()).unwrap_or_default(),
        dirs: served.map(|entry| entry.dirs.clone()).unwrap_or_default(),
    }
}
