//! The Machines that there are, as the Machines API knows them. It keeps their past, since a list shows that.

use std::collections::BTreeMap;

use midge_machines::{Label, MachineSpec, Seen, SeenExit, SeenState};
use midge_protocol::{MachineId, Timestamp};

/// One Machine.
pub(super) struct ApiMachine {
    pub(super) spec: MachineSpec,
    pub(super) created_at: Timestamp,
    /// Which start of it this is. A timer that was set in an earlier one is void.
    pub(super) run: u32,
    past: Vec<(Timestamp, SeenState, Option<SeenExit>)>,
}

impl ApiMachine {
    pub(super) fn state(&self) -> &SeenState {
        &self.past.last().expect("it begins with a state").1
    }

    pub(super) fn is_there(&self) -> bool {
        !self.state().is_gone()
    }

    pub(super) fn becomes(&mut self, state: SeenState, exit: Option<SeenExit>, now: Timestamp) {
        self.past.push((now, state, exit));
    }

    fn seen(&self, id: &MachineId, at: Timestamp) -> Option<Seen> {
        let (updated_at, state, exit) = self.past.iter().rev().find(|(since, ..)| *since <= at)?;
        if state.is_gone() {
            return None;
        }
        Some(Seen {
            id: id.clone(),
            name: self.spec.name.to_string(),
            state: state.clone(),
            exit: exit.clone(),
            metadata: self.spec.metadata.clone(),
            reachable: true,
            region: "sim".to_owned(),
            created_at: Some(self.created_at),
            updated_at: Some(*updated_at),
        })
    }
}

/// All Machines that ever were.
#[derive(Default)]
pub(super) struct Api {
    machines: BTreeMap<MachineId, ApiMachine>,
}

impl Api {
    /// Makes a Machine, unless there is one of that name. Returns its id and whether it is new.
    pub(super) fn make(&mut self, spec: MachineSpec, now: Timestamp) -> (MachineId, bool) {
        let same =
            self.machines.iter().find(|(_, machine)| machine.is_there() && machine.spec.name == spec.name);
        if let Some((id, _)) = same {
            return (id.clone(), false);
        }
        let id = MachineId::new(format!("e{}", self.machines.len())).expect("letters and digits");
        let past = vec![(now, SeenState::Created, None)];
        self.machines.insert(id.clone(), ApiMachine { spec, created_at: now, run: 0, past });
        (id, true)
    }

    /// Finds a Machine that is not destroyed.
    pub(super) fn get(&mut self, id: &MachineId) -> Option<&mut ApiMachine> {
        self.machines.get_mut(id).filter(|machine| machine.is_there())
    }

    /// Finds a Machine in one of its starts.
    pub(super) fn in_run(&mut self, id: &MachineId, run: u32) -> Option<&mut ApiMachine> {
        self.get(id).filter(|machine| machine.run == run)
    }

    pub(super) fn seen(&self, id: &MachineId, now: Timestamp) -> Option<Seen> {
        self.machines.get(id).filter(|machine| machine.is_there())?.seen(id, now)
    }

    /// Returns a list as it was at a time.
    pub(super) fn list(&self, label: &Label, at: Timestamp) -> Vec<Seen> {
        let labelled = |machine: &ApiMachine| machine.spec.metadata.get(&label.key) == Some(&label.value);
        let ours = self.machines.iter().filter(|(_, machine)| labelled(machine));
        ours.filter_map(|(id, machine)| machine.seen(id, at)).collect()
    }

    /// Returns all Machines that are not destroyed.
    pub(super) fn present(&self) -> impl Iterator<Item = (&MachineId, &ApiMachine)> {
        self.machines.iter().filter(|(_, machine)| machine.is_there())
    }

    pub(super) fn made(&self) -> usize {
        self.machines.len()
    }
}
