//! Where two results differ first.

use serde_json::Value;

use midge_protocol::shown;

/// Says where two results differ first: by the JSON pointer where both are JSON, else by the line. Nothing where they are the
/// same to the byte.
pub(super) fn difference(then: &[u8], now: &[u8]) -> Option<String> {
    if then == now {
        return None;
    }
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    if let (Some(then), Some(now)) = (json(then), json(now)) {
        return Some(match values(&then, &now, String::new()) {
            Some(differs) => format!("the result differs {differs}"),
            None => "the result is the same JSON, written otherwise".to_owned(),
        });
    }
    let [then, now] = [then, now].map(|bytes| bytes.split(|byte| *byte == b'\n').collect::<Vec<_>>());
    let line = (0..then.len().max(now.len())).find(|line| then.get(*line) != now.get(*line))?;
    let shown = |lines: &[&[u8]]| match lines.get(line) {
        Some(line) => format!("`{}`", shown::cut(&String::from_utf8_lossy(line))),
        None => "missing".to_owned(),
    };
    Some(format!("the result differs in line {}: it is {}, and was {}", line + 1, shown(&now), shown(&then)))
}

fn values(then: &Value, now: &Value, pointer: String) -> Option<String> {
    match (then, now) {
        (Value::Object(then), Value::Object(now)) => {
            let names: std::collections::BTreeSet<&String> = then.keys().chain(now.keys()).collect();
            names.into_iter().find_map(|name| {
                let pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                parts(then.get(name), now.get(name), pointer)
            })
        }
        (Value::Array(then), Value::Array(now)) => (0..then.len().max(now.len()))
            .find_map(|at| parts(then.get(at), now.get(at), format!("{pointer}/{at}"))),
        (then, now) if then == now => None,
        (then, now) => parts(Some(then), Some(now), pointer),
    }
}

fn parts(then: Option<&Value>, now: Option<&Value>, pointer: String) -> Option<String> {
    if let (Some(then), Some(now)) = (then, now)
        && (then == now || (then.is_object() && now.is_object()) || (then.is_array() && now.is_array()))
    {
        return values(then, now, pointer);
    }
    let shown = |value: Option<&Value>| match value {
        Some(value) => format!("`{}`", shown::cut(&value.to_string())),
        None => "missing".to_owned(),
    };
    Some(format!("at `{pointer}`: it is {}, and was {}", shown(now), shown(then)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_differ_by_their_first_pointer_or_line() {
        let differs = |then: &str, now: &str| difference(then.as_bytes(), now.as_bytes());
        assert_eq!(differs("a", "a"), None);
        for (then, now, says) in [
            ("1", "2", "at ``: it is `2`, and was `1`"),
            (r#"{"a":{"b":[1,2]}}"#, r#"{"a":{"b":[1,3]}}"#, "at `/a/b/1`: it is `3`, and was `2`"),
            (r#"{"a":[1]}"#, r#"{"a":[1,2]}"#, "at `/a/1`: it is `2`, and was missing"),
            (r#"{"a/b":1}"#, "{}", "at `/a~1b`: it is missing, and was `1`"),
            (r#"{"a":1}"#, r#"{"a":[1]}"#, "at `/a`: it is `[1]`, and was `1`"),
            ("one\ntwo\n", "one\n2\n", "in line 2: it is `2`, and was `two`"),
            ("one", "one\ntwo", "in line 2: it is `two`, and was missing"),
        ] {
            assert_eq!(differs(then, now), Some(format!("the result differs {says}")), "{then} {now}");
        }
        let same = "the result is the same JSON, written otherwise";
        assert_eq!(differs(r#"{"a": 1}"#, r#"{"a":1}"#).as_deref(), Some(same));
    }
}
