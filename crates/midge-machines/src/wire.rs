//! The Machines API's JSON, as the client writes and reads it and as flylet reads and writes it.
//!
//! Only what midge uses has a field. Reading is lenient: Go writes `null` for what is empty, states and events
//! get new words, and one odd Machine must not hide all others. The API's own document is Fly's Machines API
//! OpenAPI specification; where that has holes, the fields follow what Fly's own clients read.

use std::collections::BTreeMap;
use std::time::Duration;

use midge_protocol::{InvalidName, MachineId, Timestamp, limits};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::{Seen, SeenExit, SeenState};

/// How long a program has between SIGTERM and SIGKILL.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// The header of an answer that says where the next page of a list begins.
pub const NEXT_CURSOR_HEADER: &str = "fly-next-cursor";
/// The header that shows, on every call that changes a Machine, who holds its lease.
pub const LEASE_NONCE_HEADER: &str = "fly-machine-lease-nonce";
/// A header of flylet's own on every answer: how many times faster than on Fly calls may come, and 0 where there is no
/// limit. Fly sends none, which means once.
pub const CALL_SPEED_HEADER: &str = "flylet-call-speed";
/// The most memory, in MiB, of a Machine that can be suspended.
pub const SUSPEND_MEMORY_MIB_MAX: u32 = limits::SUSPEND_MEMORY_MIB_MAX;
/// The word for a server host that answers.
pub const HOST_STATUS_OK: &str = "ok";

/// The body of `POST /machines`, which makes a Machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CreateRequest {
    /// The name of the Machine, unique in the app. The API makes one up where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The region to make it in, or several in the order of preference such as `iad,us,any`. Near the API where it is
    /// missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// What the Machine is made of.
    pub config: MachineConfig,
    /// Whether the Machine is prepared and left stopped. Otherwise it is started.
    #[serde(default, deserialize_with = "nullable")]
    pub skip_launch: bool,
    /// Whether the Machine is made without the app's secrets. Otherwise its program has them as env.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub skip_secrets: bool,
    /// For how many seconds whoever makes it has its lease. None where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ttl: Option<i64>,
}

/// What a Machine is made of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineConfig {
    /// The full reference of the image, such as `registry.fly.io/my-app@sha256:...`.
    #[serde(default)]
    pub image: String,
    /// The program's env.
    #[serde(default, deserialize_with = "nullable")]
    pub env: BTreeMap<String, String>,
    /// The program that is run.
    #[serde(default, deserialize_with = "nullable")]
    pub init: Init,
    /// Its CPUs and memory. Fly's smallest where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<FlyGuest>,
    /// What happens when the program ends. Fly starts it again after a failure where this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Whether the Machine is destroyed when its program ends.
    #[serde(default, deserialize_with = "nullable")]
    pub auto_destroy: bool,
    /// How it is stopped. By SIGINT, and SIGKILL after 5 s, where this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_config: Option<StopConfig>,
    /// The labels that it can be found by.
    #[serde(default, deserialize_with = "nullable")]
    pub metadata: BTreeMap<String, String>,
    /// All else that the API was told or tells, such as `services` and `checks`.
    #[serde(flatten)]
    pub other: serde_json::Map<String, Value>,
}

/// The program: `exec`, or the image's, with `entrypoint` and `cmd` instead of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Init {
    /// The whole command, instead of the image's entrypoint and cmd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Vec<String>>,
    /// Replaces the image's entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's cmd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// The swap in MiB. A Machine with swap cannot be suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap_size_mb: Option<u32>,
}

/// CPUs and memory of a Machine, which Fly calls its guest. It is no guest of midge's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlyGuest {
    /// The kind of CPU: `shared` or `performance`.
    #[serde(default)]
    pub cpu_kind: String,
    /// The number of CPUs.
    #[serde(default)]
    pub cpus: u32,
    /// The memory in MiB, which Fly calls MB.
    #[serde(default)]
    pub memory_mb: u32,
}

/// What happens when the program ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// Whether it is started again: `no`, `always` or `on-failure`.
    #[serde(default)]
    pub policy: String,
    /// How often it is started again at most, under `on-failure`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
}

/// How a Machine is stopped; also the body of `POST /machines/{id}/stop`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StopConfig {
    /// The signal to send first, by its name, such as `SIGTERM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// How long the program has until SIGKILL, in one of the forms that [`go_duration`] reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Value>,
}

/// A Machine, as every call answers with it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The id that the API gave it, such as `148ed21fe74e89`.
    #[serde(default, deserialize_with = "nullable")]
    pub id: String,
    /// Its name, unique in the app.
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    /// Its state: one of the words of [`SeenState`].
    #[serde(default, deserialize_with = "nullable")]
    pub state: String,
    /// The region that it is in, such as `iad`.
    #[serde(default, deserialize_with = "nullable")]
    pub region: String,
    /// The version of its config, a ULID. A wait for `stopped` has to name it.
    #[serde(default, deserialize_with = "nullable")]
    pub instance_id: String,
    /// The same under its newer name; empty where the API has none yet.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Its address in the organization's private network: on Fly an IPv6 address.
    #[serde(default, deserialize_with = "nullable")]
    pub private_ip: String,
    /// Its config; null where its server host does not answer.
    #[serde(default)]
    pub config: Option<MachineConfig>,
    /// What is known of its config where `config` is null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete_config: Option<MachineConfig>,
    /// The image that its config's reference led to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_ref: Option<ImageRef>,
    /// The time when it was made, in RFC 3339.
    #[serde(default, deserialize_with = "nullable")]
    pub created_at: String,
    /// The time of its last change, in RFC 3339.
    #[serde(default, deserialize_with = "nullable")]
    pub updated_at: String,
    /// What happened to it, newest first; of a long life the last events only.
    #[serde(default, deserialize_with = "nullable")]
    pub events: Vec<FlyEvent>,
    /// Whether its server host answers: `ok`, `unknown` or `unreachable`. Older answers do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_status: Option<String>,
    /// Whether Fly's proxy leads no requests to it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub cordoned: bool,
    /// What its lease is changed by: only for whoever just made both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Who may change it, where a list or a look asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

/// A Machine's lease: while it lasts, only its holder may change the Machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lease {
    /// What the holder shows, in [`LEASE_NONCE_HEADER`]. Nobody else is told.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    /// When it ends, in seconds since the Unix epoch.
    pub expires_at: i64,
    /// Who holds it.
    pub owner: String,
    /// What for.
    pub description: String,
    /// The version of the Machine when it was made, a ULID.
    pub version: String,
}

/// The parts of an image's reference: `REGISTRY/REPOSITORY:TAG@DIGEST`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageRef {
    /// The registry, such as `registry.fly.io`.
    pub registry: String,
    /// The repository in it, such as `my-app`.
    pub repository: String,
    /// The tag, such as `deployment-01`; empty where the reference has none.
    pub tag: String,
    /// The digest: `sha256:` and 64 hex digits; empty where the reference has none.
    pub digest: String,
}

/// Something that happened to a Machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FlyEvent {
    /// The id of the event, a ULID.
    #[serde(default)]
    pub id: String,
    /// What happened: `launch`, `start`, `stop`, `exit`, `destroy` and others. In JSON it is `type`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// The state that it led to: one of the words of [`SeenState`].
    #[serde(default)]
    pub status: String,
    /// Who brought it about: `user`, or Fly's own `flyd`.
    #[serde(default)]
    pub source: String,
    /// When it happened, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub timestamp: i64,
    /// More about it, in a form of its own for each kind: see [`FlyEvent::exit_event`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Value>,
}

/// How a program ended: the `exit_event` in an event of the kind `exit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExitEvent {
    /// The Machine's exit code.
    pub exit_code: Option<i32>,
    /// The exit code of the program itself.
    pub guest_exit_code: Option<i32>,
    /// The number of the signal that ended the program; 0 or -1 for none.
    pub guest_signal: Option<i32>,
    /// The number of the signal that ended the Machine; 0 or -1 for none.
    pub signal: Option<i32>,
    /// Whether the kernel ended the program because memory had run out.
    pub oom_killed: bool,
    /// Whether the Machine had been asked to stop.
    pub requested_stop: bool,
    /// Whether the program is about to be started again.
    pub restarting: bool,
    /// Why the program could not be run, where it was not.
    pub error: Option<String>,
    /// The time of its end, in RFC 3339.
    pub exited_at: Option<String>,
}

/// Why an answer shows no Machine that anything can be said of.
#[derive(Debug, thiserror::Error)]
pub enum OddMachine {
    /// It lacks a field.
    #[error("the Machines API shows a Machine without `{field}` (its id is `{id}`)")]
    Lacks {
        /// Its id, which may be what is missing.
        id: String,
        /// The field.
        field: &'static str,
    },
    /// Its id is none.
    #[error("the Machines API shows a Machine whose id is none")]
    Id(#[from] InvalidName),
}

/// The answer to `GET /machines/{id}/wait`, once the state is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WaitAnswer {
    /// Always true: what is not reached in time is an error.
    pub ok: bool,
    /// The state that was reached.
    pub state: String,
    /// The version of the Machine's config that was in force.
    pub version: String,
    /// The id of the event that led to the state.
    pub event_id: String,
}

/// The answer to `GET /platform/regions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Regions {
    /// Each region that there is.
    #[serde(deserialize_with = "nullable")]
    pub regions: Vec<FlyRegion>,
}

/// A region.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlyRegion {
    /// Its name, such as `ams`.
    pub code: String,
}

/// The body of every error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorBody {
    /// What went wrong: a code, a colon and a sentence.
    pub error: String,
    /// A word for programs, such as `name_taken`, where there is one; errors about leases have `error` here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// The sentence, in errors about leases.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl FlyEvent {
    /// Returns how the program ended, which Fly puts under either of two keys; nothing for an event of another kind.
    /// Fly's own client looks there in the same order (`machine_types.go` in superfly/fly-go).
    pub fn exit_event(&self) -> Option<ExitEvent> {
        let request = self.request.as_ref()?;
        let found = [request.pointer("/MonitorEvent/exit_event"), request.get("exit_event")];
        let value = found.into_iter().flatten().find(|value| value.is_object())?;
        ExitEvent::deserialize(value).ok()
    }

    fn exit(&self) -> SeenExit {
        let event = self.exit_event().unwrap_or_default();
        let signal = [event.guest_signal, event.signal].into_iter().flatten().find(|signal| *signal > 0);
        SeenExit {
            code: event.exit_code.or(event.guest_exit_code),
            signal,
            oom_killed: event.oom_killed,
            requested_stop: event.requested_stop,
            error: event.error.filter(|error| !error.is_empty()),
            at: (self.timestamp > 0).then(|| Timestamp::from_millis(self.timestamp)),
        }
    }
}

impl Machine {
    /// Returns what a caller of [`Machines`](crate::Machines) sees of the Machine.
    ///
    /// # Errors
    /// [`OddMachine`] where a field is missing without which nothing can be said of it. All else that is odd is left out
    /// or kept as it is.
    pub fn seen(self) -> Result<Seen, OddMachine> {
        let state = SeenState::from_word(&self.state);
        let reachable = self.host_status.is_none_or(|status| status == HOST_STATUS_OK);
        let config = self.config.or(self.incomplete_config);
        let missing = [
            ("id", self.id.is_empty()),
            ("name", self.name.is_empty()),
            ("state", self.state.is_empty()),
            // A server host that does not answer has none to tell.
            ("config", config.is_none() && reachable && !state.is_gone()),
        ];
        if let Some((field, _)) = missing.into_iter().find(|(_, missing)| *missing) {
            return Err(OddMachine::Lacks { id: self.id, field });
        }
        // An exit that is older than the newest start is not how the last run ended.
        let last = self.events.iter().find(|event| event.kind == "exit" || event.status == "started");
        let exit = last.filter(|event| event.kind == "exit").map(FlyEvent::exit);
        Ok(Seen {
            id: MachineId::new(self.id)?,
            name: self.name,
            state,
            exit,
            metadata: config.map(|config| config.metadata).unwrap_or_default(),
            reachable,
            region: self.region,
            created_at: self.created_at.parse().ok(),
            updated_at: self.updated_at.parse().ok(),
        })
    }
}

/// Reads a duration as the API has it: text as Go writes it, such as `1m30s`; seconds as text; or nanoseconds as a
/// number. Anything else is none.
pub fn go_duration(value: &Value) -> Option<Duration> {
    match value {
        Value::Number(nanos) => nanos.as_u64().map(Duration::from_nanos),
        Value::String(text) => match text.parse::<u64>() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => go_duration_text(text),
        },
        _ => None,
    }
}

fn go_duration_text(mut text: &str) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    let mut sum = Duration::ZERO;
    while !text.is_empty() {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = text[..digits].parse().ok()?;
        let rest = &text[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..unit_len] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
        text = &rest[unit_len..];
    }
    Some(sum)
}

/// Reads `null` as what is empty.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn machine(value: Value) -> Seen {
        serde_json::from_value::<Machine>(value).unwrap().seen().unwrap()
    }

    #[test]
    fn nulls_and_unknown_words_do_not_hide_a_machine() {
        let seen = machine(json!({
            "id": "148ed21fe74e89", "name": "m", "state": "hatching", "config": null, "events": null,
            "incomplete_config": {"image": "i", "env": null, "init": null, "metadata": {"midge_queue": "a"},
                "stop_config": {"timeout": {"Duration": 1}}},
            "host_status": "unreachable", "created_at": "yesterday", "new_field": [1],
        }));
        assert_eq!(seen.state, SeenState::Other("hatching".to_owned()));
        assert_eq!(seen.metadata["midge_queue"], "a");
        assert!(!seen.reachable);
        assert_eq!(seen.created_at, None);
    }

    #[test]
    fn a_machine_that_lacks_what_it_cannot_be_judged_without_says_what() {
        let whole = json!({"id": "a", "name": "m", "state": "started", "config": {}, "host_status": "ok"});
        for field in ["id", "name", "state", "config"] {
            for lacking in [Value::Null, Value::String(String::new())] {
                let mut value = whole.clone();
                if field == "config" && lacking.is_string() {
                    value.as_object_mut().unwrap().remove(field);
                } else {
                    value[field] = lacking;
                }
                let error = serde_json::from_value::<Machine>(value).unwrap().seen().unwrap_err();
                assert!(error.to_string().contains(&format!("without `{field}`")), "{error}");
            }
        }
        for more in [json!({"host_status": "unreachable"}), json!({"state": "destroyed"})] {
            let mut value = whole.clone();
            value["config"] = Value::Null;
            value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            assert!(serde_json::from_value::<Machine>(value).unwrap().seen().is_ok(), "{more}");
        }
    }

    #[test]
    fn an_exit_is_read_from_either_key_with_the_signal_that_ended_it() {
        let seen = machine(json!({
            "id": "a", "name": "m", "config": {}, "state": "stopped", "created_at": "2030-01-31T08:00:00Z",
            "events": [
                {"type": "exit", "status": "stopped", "source": "flyd", "timestamp": 5, "request": {
                    "MonitorEvent": {"exit_event": {"exit_code": 137, "guest_signal": 9, "signal": -1,
                        "oom_killed": true, "requested_stop": false, "exited_at": "2030-01-31T08:00:00Z"}}}},
                {"type": "start", "status": "started", "source": "flyd", "timestamp": 4, "request": {}},
            ],
        }));
        let exit = seen.exit.unwrap();
        assert_eq!((exit.code, exit.signal, exit.oom_killed), (Some(137), Some(9), true));
        assert_eq!(exit.at, Some(Timestamp::from_millis(5)));
        assert!(seen.reachable);

        let other = FlyEvent {
            request: Some(json!({"exit_event": {"exit_code": 127, "signal": -1, "error": ""}})),
            ..FlyEvent::default()
        };
        assert_eq!((other.exit().code, other.exit().signal, other.exit().error), (Some(127), None, None));
    }

    #[test]
    fn an_exit_before_the_newest_start_is_not_how_the_last_run_ended() {
        let seen = machine(json!({"id": "a", "name": "m", "config": {}, "state": "started", "events": [
            {"type": "start", "status": "started"},
            {"type": "exit", "status": "stopped", "request": {"exit_event": {"exit_code": 0}}},
        ]}));
        assert_eq!(seen.exit, None);
    }

    #[test]
    fn an_exit_whose_details_cannot_be_read_is_still_an_exit() {
        let seen = machine(json!({"id": "a", "name": "m", "config": {}, "state": "stopped", "events": [
            {"type": "exit", "status": "stopped", "request": {"exit_event": {"exit_code": "odd"}}},
        ]}));
        assert_eq!(seen.exit.unwrap().code, None);
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let read = |value: Value| go_duration(&value);
        assert_eq!(read(json!("30s")), Some(Duration::from_secs(30)));
        assert_eq!(read(json!("1m30s")), Some(Duration::from_secs(90)));
        assert_eq!(read(json!("1.5h")), Some(Duration::from_secs(5400)));
        assert_eq!(read(json!("300ms")), Some(Duration::from_millis(300)));
        assert_eq!(read(json!("0s")), Some(Duration::ZERO));
        assert_eq!(read(json!("5")), Some(Duration::from_secs(5)));
        assert_eq!(read(json!(30_000_000_000_u64)), Some(Duration::from_secs(30)));
        for bad in [json!(""), json!("s"), json!("3 days"), json!("-1s"), json!(true), json!("9e9h")] {
            assert_eq!(read(bad.clone()), None, "{bad}");
        }
    }
}
