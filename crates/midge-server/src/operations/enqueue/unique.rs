//! Jobs of which there is to be one at a time: what makes two the same, and what is written where one is there already.

use std::collections::BTreeMap;

use midge_core::{Job, Met, UniqueHold, UniqueKey};
use midge_protocol::api::{Conflict, EnqueueRequest, Enqueued, OnConflict, Times, Unique, UniqueBy};
use midge_protocol::{JobId, Timestamp};
use midge_store::{Content, Rows, StoreError};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{after::Dependencies, put_contents};

/// Returns what a request's job is to be the only one of. `queue` is the one that it waits in.
pub(super) fn hold(request: &EnqueueRequest, queue: &str, times: &Times) -> Option<UniqueHold> {
    let unique = request.unique.as_ref()?;
    let (key, until) = (key(request, unique, queue), times.unique_until);
    Some(UniqueHold { key, states: unique.states(), until })
}

/// Hashes what two jobs have in common that are the same. Each part goes in under its name and with its length.
fn key(request: &EnqueueRequest, unique: &Unique, queue: &str) -> UniqueKey {
    let mut hash = Sha256::new();
    let mut part = |name: &str, bytes: &[u8]| {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for by in unique.by() {
        match by {
            UniqueBy::Module => part("module", request.module.as_str().as_bytes()),
            UniqueBy::Args => part("args", canonical(request.args.get()).as_bytes()),
            UniqueBy::Queue => part("queue", queue.as_bytes()),
            UniqueBy::Key => match &request.key {
                Some(key) => part("key", key.as_str().as_bytes()),
                None => part("no key", b""),
            },
        }
    }
    if let Some(text) = &unique.text {
        part("text", text.as_bytes());
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hash.finalize()[..16]);
    UniqueKey(key)
}

/// Writes JSON without spaces, with the fields of each object in the order of their names and its texts with the same
/// escapes. Numbers stay as they are written: one that no float holds is still itself.
fn canonical(json: &str) -> String {
    let json = json.trim_ascii();
    let is = |first: &str| json.starts_with(first);
    let list = |parts: Vec<String>, ends: [&str; 2]| format!("{}{}{}", ends[0], parts.join(","), ends[1]);
    if is("{")
        && let Ok(fields) = serde_json::from_str::<BTreeMap<String, &RawValue>>(json)
    {
        let field =
            |(name, value): (&String, &&RawValue)| format!("{}:{}", text(name), canonical(value.get()));
        return list(fields.iter().map(field).collect(), ["{", "}"]);
    }
    if is("[")
        && let Ok(values) = serde_json::from_str::<Vec<&RawValue>>(json)
    {
        return list(values.iter().map(|value| canonical(value.get())).collect(), ["[", "]"]);
    }
    if is("\"")
        && let Ok(value) = serde_json::from_str::<String>(json)
    {
        return text(&value);
    }
    json.to_owned()
}

fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// Writes a job that is to be the only one of its key, or what becomes of the one that is there.
pub(super) fn put(
    rows: &mut dyn Rows,
    new: &Job,
    request: &EnqueueRequest,
    dependencies: &mut Dependencies,
    now: Timestamp,
) -> Result<Enqueued, StoreError> {
    let on_conflict = request.unique.as_ref().map(|unique| unique.on_conflict).unwrap_or_default();
    let Some((id, conflict)) = meet(rows, new, on_conflict, dependencies, now)? else {
        put_contents(rows, new.id, request)?;
        return Ok(Enqueued { id: new.id, new: true, conflict: None });
    };
    if matches!(conflict, Conflict::Replaced | Conflict::ReplacedAndPushedBack) {
        // What an attempt saved, or was told, was about the args of before.
        for content in [Content::Input, Content::Saved, Content::Recording] {
            rows.delete_content(id, content)?;
        }
        put_contents(rows, id, request)?;
    }
    Ok(Enqueued { id, new: false, conflict: Some(conflict) })
}

/// Writes the row of a job that is to be the only one of its key. Where another is there, returns which, and what became of
/// it.
pub(super) fn meet(
    rows: &mut dyn Rows,
    new: &Job,
    on_conflict: OnConflict,
    dependencies: &mut Dependencies,
    now: Timestamp,
) -> Result<Option<(JobId, Conflict)>, StoreError> {
    while let Some(holder) = rows.put_unique(new)? {
        match holder.met_by(new, on_conflict, now) {
            Met::Over(holder) => {
                rows.put_jobs(std::slice::from_ref(&holder))?;
                dependencies.is_as(&holder);
            }
            Met::Stays(holder, conflict) => {
                rows.put_jobs(std::slice::from_ref(&holder))?;
                dependencies.stands_for(new.id, &holder);
                return Ok(Some((holder.id, conflict)));
            }
        }
    }
    dependencies.is_written(new);
    Ok(None)
}

#[cfg(test)]
mod tests {
    use midge_protocol::{JobKey, ModuleName};

    use super::*;

    fn request(args: &str, key: Option<&str>) -> EnqueueRequest {
        EnqueueRequest {
            args: RawValue::from_string(args.to_owned()).unwrap(),
            key: key.map(|key| JobKey::new(key).unwrap()),
            ..EnqueueRequest::new(ModuleName::new("hello").unwrap())
        }
    }

    fn by(parts: &[UniqueBy], text: Option<&str>) -> Unique {
        Unique {
            by: Some(parts.iter().copied().collect()),
            text: text.map(str::to_owned),
            ..Unique::default()
        }
    }

    #[test]
    fn args_are_the_same_if_they_mean_the_same_to_the_digit() {
        for (one, other) in [
            (r#" {"b" : 1,"a":[ 1 , {"d":2,"c":null} ]}"#, r#"{"a":[1,{"c":null,"d":2}],"b":1}"#),
            (r#""\u00e9\/""#, r#""é/""#),
            ("[]", " [ ] "),
            ("{}", "{ }"),
            (r#"{"\u0061":1}"#, r#"{"a":1}"#),
        ] {
            assert_eq!(canonical(one), canonical(other));
        }
        for (one, other) in [
            ("9007199254740993", "9007199254740992"),
            ("123456789012345678901234567890", "123456789012345678901234567891"),
            ("1", "1.0"),
            ("[1,2]", "[2,1]"),
            (r#""1""#, "1"),
            ("[12]", "[1,2]"),
            (r#"["a,b"]"#, r#"["a","b"]"#),
            ("null", "{}"),
        ] {
            assert_ne!(canonical(one), canonical(other));
        }
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert_eq!(canonical(&deep), deep);
    }

    #[test]
    fn jobs_are_the_same_by_what_was_named_and_by_nothing_else() {
        use UniqueBy::{Args, Key, Module, Queue};
        let (one, other) = (request("1", Some("acme")), request("2", None));
        let same = |unique: &Unique| key(&one, unique, "default") == key(&other, unique, "default");
        assert!(same(&by(&[Module], None)) && same(&by(&[Module, Queue], None)) && same(&by(&[], Some("x"))));
        assert!(!same(&by(&[Args], None)) && !same(&by(&[Module, Key], None)));
        let queues = by(&[Queue], None);
        assert_ne!(key(&one, &queues, "default"), key(&one, &queues, "other"));
        assert_ne!(key(&one, &by(&[], Some("a")), "q"), key(&one, &by(&[], Some("b")), "q"));
        assert_ne!(key(&one, &by(&[], Some("a")), "q"), key(&one, &by(&[Module], Some("a")), "q"));
        assert_eq!(Unique::default().by(), [Module, Args].into());
        assert_eq!(Unique { text: Some("x".into()), ..Unique::default() }.by(), [].into());
    }
}
