//! What becomes of a Machine that has nothing to do, and when that contradicts what else is said of its queue.

use serde::{Deserialize, Serialize};

use super::QueuePolicy;
use crate::limits;

/// What becomes of a Machine of a queue whose host has waited for a job in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Idle {
    /// Its host leaves, and it rests stopped, where the queue keeps ready Machines and has too few. Else it is destroyed.
    #[default]
    Stop,
    /// It is suspended, where the queue keeps ready Machines and has too few that are: its host goes on where it was when
    /// the Machine is started. Else it is as with [`Idle::Stop`].
    Suspend,
    /// Its host leaves, and it is destroyed. What the queue keeps ready has never run.
    Destroy,
}

impl Idle {
    /// All of them, in the order in which they are told.
    pub const ALL: [Idle; 3] = [Idle::Stop, Idle::Suspend, Idle::Destroy];

    /// Returns the word for it in midge.toml.
    pub const fn as_str(self) -> &'static str {
        match self {
            Idle::Stop => "stop",
            Idle::Suspend => "suspend",
            Idle::Destroy => "destroy",
        }
    }

    /// Returns whether it is what a queue has that does not say.
    pub fn is_as_usual(&self) -> bool {
        *self == Idle::default()
    }
}

impl std::fmt::Display for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Idle {
    type Err = String;

    fn from_str(text: &str) -> Result<Idle, String> {
        let found = Idle::ALL.into_iter().find(|idle| idle.as_str() == text);
        found.ok_or_else(|| format!("`{}` is not stop, suspend or destroy", crate::shown::cut(text)))
    }
}

/// Returns what is wrong with a policy whose settings contradict each other, and what to do, as `midge build` and a server
/// that starts say it; nothing where they do not.
pub fn contradiction(policy: &QueuePolicy) -> Option<String> {
    if policy.idle != Idle::Suspend {
        return None;
    }
    // Where it says none, it is the server's, which checks it then.
    let memory = policy.size.as_ref().map_or(0, |size| size.memory_mib);
    let most = limits::SUSPEND_MEMORY_MIB_MAX;
    if memory > most {
        return Some(format!(
            "`idle` is \"suspend\", and Fly suspends no Machine with more than {most} MiB of memory: this one has {memory}, so \
             make `size` smaller, or `idle` \"stop\""
        ));
    }
    if policy.single_use {
        let message = "`idle` is \"suspend\", and a `single_use` Machine is destroyed after its job: remove one of the two";
        return Some(message.to_owned());
    }
    (policy.ready_machines == 0).then(|| {
        "`idle` is \"suspend\", and the queue keeps no Machine ready: set `ready_machines` to how many may rest suspended"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::MachineSize;

    #[test]
    fn what_can_not_be_suspended_is_told_with_what_to_do() {
        let good = QueuePolicy { idle: Idle::Suspend, ready_machines: 1, ..QueuePolicy::default() };
        assert_eq!(contradiction(&good), None);
        let size = |memory_mib| Some(MachineSize { memory_mib, ..MachineSize::default() });
        let at_most = QueuePolicy { size: size(2_048), ..good.clone() };
        assert_eq!(contradiction(&at_most), None);
        for (bad, says) in [
            (
                QueuePolicy { size: size(2_304), ..good.clone() },
                "more than 2048 MiB of memory: this one has 2304",
            ),
            (QueuePolicy { single_use: true, ..good.clone() }, "a `single_use` Machine is destroyed"),
            (QueuePolicy { ready_machines: 0, ..good.clone() }, "set `ready_machines`"),
        ] {
            assert!(contradiction(&bad).is_some_and(|why| why.contains(says)), "{bad:?}");
            for idle in [Idle::Stop, Idle::Destroy] {
                assert_eq!(contradiction(&QueuePolicy { idle, ..bad.clone() }), None);
            }
        }
    }

    #[test]
    fn a_word_reads_as_it_is_written() {
        for idle in Idle::ALL {
            assert_eq!(idle.to_string().parse(), Ok(idle));
            assert_eq!(serde_json::to_value(idle).unwrap(), idle.as_str());
        }
        assert!("sleep".parse::<Idle>().unwrap_err().contains("stop, suspend or destroy"));
    }
}
