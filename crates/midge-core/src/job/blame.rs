//! Which job is to blame when a Machine goes down.
//!
//! A loss that some job may have brought about makes each job that was aboard a suspect, and no more: nobody can tell which
//! one it was. A suspect runs alone ([`crate::admit()`]), so a loss while it runs is a loss with nobody else aboard, and
//! only those are counted. So a neighbour of the job that is to blame is never discarded: its own attempt ends, and it is
//! cleared.

use midge_protocol::job::Suspicion;

use super::Job;
use crate::MachineEnd;

impl Job {
    /// Returns whether the job may have brought a Machine down, so that it runs alone.
    pub const fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// Returns what speaks against the job, where it is a suspect.
    pub fn suspicion(&self) -> Option<Suspicion> {
        let suspicion = Suspicion { crashes: self.machine_losses, unexplained: self.unexplained_losses };
        self.suspect.then_some(suspicion)
    }

    /// Takes note that the Machine that ran the job was lost.
    pub(super) fn is_blamed_for(&mut self, end: MachineEnd) {
        if !self.suspect && end != MachineEnd::Own {
            // Others may have been aboard. What an earlier release counted, it counted whoever was.
            (self.suspect, self.machine_losses, self.unexplained_losses) = (true, 0, 0);
            return;
        }
        match end {
            MachineEnd::Own => {}
            MachineEnd::Crashed => self.machine_losses = self.machine_losses.saturating_add(1),
            MachineEnd::Unexplained => self.unexplained_losses = self.unexplained_losses.saturating_add(1),
        }
    }

    /// Takes note that an attempt ended by itself, and its Machine stands.
    pub(super) fn is_cleared(&mut self) {
        (self.suspect, self.machine_losses, self.unexplained_losses) = (false, 0, 0);
    }
}
