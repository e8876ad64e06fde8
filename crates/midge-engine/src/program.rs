//! The program that has the network: started with the first request of any guest, with a line for each request at once.
//!
//! Invariant: nothing of it is started, opened or looked up before a guest makes a request.

use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use midge_protocol::exchange;
use midge_protocol::line::{Kind, Setup};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::lines::Lines;

impl Lines {
    /// Makes lines to a program: it is started as `command` says, with the first of them, and told this.
    ///
    /// Its standard input is how lines come to it, and what it writes goes to our standard error.
    pub fn of_program(
        command: impl Fn() -> io::Result<Command> + Send + Sync + 'static,
        setup: Setup,
    ) -> Lines {
        let network = Network { command: Box::new(command), setup, program: Mutex::new(None) };
        Lines::new(move || network.line())
    }
}

struct Network {
    command: Box<dyn Fn() -> io::Result<Command> + Send + Sync>,
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
        let running = program.insert(Program::start((self.command)()?, &self.setup)?);
        running.pass(&theirs)?;
        Ok(ours)
    }
}

impl Program {
    fn start(mut command: Command, setup: &Setup) -> io::Result<Program> {
        let (control, theirs) = UnixStream::pair()?;
        // Its standard output would be a guest's result, where a module is run by hand.
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::from(io::stderr()));
        let program = command.get_program().to_owned();
        let process = command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("`{}` cannot be started: {error}", program.display()))
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
