//! Rules about Machines, and what the store remembers of itself.

use midge_core::{Machine, MachineState};
use midge_protocol::{BootId, MachineId};

use super::Kept;
use super::fixtures::{ask, at, completed, job, machine, machine_name, put, running};
use crate::{Store, write};

/// A Machine is found with every field as it was written last.
pub async fn a_machine_is_found_as_it_was_written(store: &dyn Store) -> Kept {
    let first = machine("m1");
    let second = Machine {
        id: MachineId::new("148ed21fe74e89").ok(),
        state: MachineState::Destroying,
        since: at(5),
        act_failures: 3,
        boot: Some(BootId(u64::MAX)),
        seq: u64::MAX,
        heard_at: Some(at(4)),
        attempts: 7,
        note: Some("it \"left\"".to_owned()),
        ..first.clone()
    };
    for machine in [first, second] {
        let put = machine.clone();
        write(store, move |rows| rows.put_machine(&put)).await?;
        assert_eq!(ask(store, |rows| rows.machine(&machine_name("m1"))).await?, Some(machine));
    }
    assert_eq!(ask(store, |rows| rows.machine(&machine_name("m2"))).await?, None);
    Ok(())
}

/// Machines are found by name, each with how many jobs it runs. Jobs that ended, or whose Machine has no row, count for
/// nobody.
pub async fn machines_are_by_name_with_the_jobs_leased_to_them(store: &dyn Store) -> Kept {
    write(store, |rows| ["m2", "m3", "m1"].iter().try_for_each(|name| rows.put_machine(&machine(name))))
        .await?;
    let busy = |number, machine| running(&job(number, "default", 0), machine);
    put(store, &[busy(1, "m1"), busy(2, "m3"), busy(3, "m1"), busy(4, "m9"), busy(5, "m3")]).await?;
    put(store, &[completed(&busy(5, "m3"), at(5))]).await?;
    let machines = ask(store, |rows| rows.machines()).await?;
    assert_eq!(machines, [(machine("m1"), 2), (machine("m2"), 0), (machine("m3"), 1)]);
    Ok(())
}

/// A Machine's row is deleted, and to delete it again is no error.
pub async fn a_machine_is_forgotten(store: &dyn Store) -> Kept {
    write(store, |rows| rows.put_machine(&machine("m1"))).await?;
    for _ in 0..2 {
        write(store, |rows| rows.delete_machine(&machine_name("m1"))).await?;
        assert_eq!(ask(store, |rows| rows.machines()).await?, []);
    }
    Ok(())
}

/// Each setting is read as it was written last.
pub async fn settings_are_remembered(store: &dyn Store) -> Kept {
    for value in ["one", "", "two\n"] {
        write(store, move |rows| rows.put_setting("key", value)).await?;
        assert_eq!(ask(store, |rows| rows.setting("key")).await?.as_deref(), Some(value));
    }
    assert_eq!(ask(store, |rows| rows.setting("other")).await?, None);
    Ok(())
}
