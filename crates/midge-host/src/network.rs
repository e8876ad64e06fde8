//! The way to the network: the program `midge-net`, started with the first request of any guest, and the secrets that it is told.
//!
//! Invariant: nothing of it is started, opened or looked up before a guest makes a request.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use midge_engine::Lines;
use midge_protocol::limits::SECRET_BYTES_MAX;
use midge_protocol::line::{Kind, Setup};
use midge_protocol::manifest::{Manifest, ModuleEntry, SecretSource};
use midge_protocol::{SecretName, exchange};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::process;
use crate::settings::certificates;

/// The program's file, which lies beside the host's.
const PROGRAM: &str = "midge-net";

/// The secrets that a Machine has.
pub struct Secrets {
    values: BTreeMap<SecretName, Bytes>,
    /// Those that it does not have, in words.
    missing: BTreeMap<SecretName, String>,
}

impl Secrets {
    /// Takes the secrets that a manifest names out of the environment, where they cannot be read afterwards.
    pub fn take(manifest: &Manifest) -> Secrets {
        let mut secrets = Secrets { values: BTreeMap::new(), missing: BTreeMap::new() };
        // Once each: it cannot be read again, and several secrets may be in one.
        let mut taken: BTreeMap<&str, Option<Bytes>> = BTreeMap::new();
        for (name, SecretSource { env }) in &manifest.secrets {
            let value = taken.entry(env).or_insert_with(|| process::take_variable(env).map(Bytes::from));
            match value {
                Some(value) if value.len() <= SECRET_BYTES_MAX => {
                    secrets.values.insert(name.clone(), value.clone());
                }
                Some(value) => {
                    let is = format!("holds {} bytes, and {SECRET_BYTES_MAX} are the most", value.len());
                    secrets.missing.insert(name.clone(), lacks(name, env, &is));
                }
                None => {
                    secrets.missing.insert(name.clone(), lacks(name, env, "is not set"));
                }
            }
        }
        secrets
    }

    /// Returns what a module lacks, in words, where one of its secrets is missing.
    pub fn lacked_by(&self, module: &ModuleEntry) -> Option<String> {
        module.secrets.keys().find_map(|name| self.missing.get(name)).cloned()
    }

    /// Returns what is missing, in words, one after the other.
    pub fn missing(&self) -> impl Iterator<Item = String> {
        self.missing.values().cloned()
    }
}

fn lacks(name: &SecretName, variable: &str, is: &str) -> String {
    format!(
        "the secret `{name}`: its variable `{variable}` {is} (set it at Fly by `fly secrets set {variable}=...`, on one box \
         where `midge serve` is started)"
    )
}

/// Returns the lines by which guests make their requests.
pub fn lines(modules: &Path, secrets: &Secrets) -> Arc<Lines> {
    let setup = Setup { modules: modules.display().to_string(), secrets: secrets.values.clone() };
    let network = Network { setup, program: Mutex::new(None) };
    Arc::new(Lines::new(move || network.line()))
}

struct Network {
    setup: Setup,
    program: Mutex<Option<Program>>,
}

/// The program, while it runs: it ends when its control socket does.
struct Program {
    process: Child,
    control: UnixStream,
}

impl Network {
    /// Makes a line, and first starts the program where it does not run.
    fn line(&self) -> io::Result<UnixStream> {
        let mut program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        let (ours, theirs) = UnixStream::pair()?;
        if let Some(running) = &mut *program {
            match running.pass(&theirs) {
                Ok(()) => return Ok(ours),
                // It has ended: another one is started.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => drop(running.process.try_wait()),
                Err(error) => return Err(error),
            }
        }
        let running = program.insert(Program::start(&self.setup)?);
        running.pass(&theirs)?;
        Ok(ours)
    }
}

impl Program {
    fn start(setup: &Setup) -> io::Result<Program> {
        let path = path()?;
        let (control, theirs) = UnixStream::pair()?;
        let mut command = Command::new(&path);
        command.env_clear().envs(certificates());
        // Its standard output would be a guest's result, where a module is run by hand.
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::from(io::stderr()));
        let process = command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("`{}` cannot be started: {error}", path.display()))
        })?;
        // Its end of the socket is the program's alone: should that end, this is told, and does not wait for ever.
        drop(command);
        let setup = exchange::encode(setup);
        let prefix = Kind::Setup.prefix(setup.len());
        (&control).write_all(&[&prefix[..], &setup].concat())?;
        Ok(Program { process, control })
    }

    /// Passes one end of a line on.
    fn pass(&self, line: &UnixStream) -> io::Result<()> {
        let lines = [line.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&lines));
        sendmsg(&self.control, &[IoSlice::new(b"l")], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// Returns where the program is: beside this one.
fn path() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(PROGRAM))
}
