//! What documents say of `midge.toml` is read as it is written there.

use super::*;

const README: &str = include_str!("../../../../../README.md");
const COST: &str = include_str!("../../../../../docs/cost.md");
const QUEUES: &str = include_str!("../../../../../docs/queues.md");
const POOL: &str = include_str!("../../../../../docs/pool.md");

fn examples(text: &str) -> Vec<&str> {
    text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn every_midge_toml_in_a_document_is_read() {
    for text in [README, QUEUES, COST] {
        assert!(!examples(text).is_empty());
        for example in examples(text) {
            parse(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
        }
    }
    // It is about Machines, and leaves modules out.
    for example in examples(POOL) {
        let whole = format!("{example}\n[modules.m]\npackage = \"m\"\n");
        parse(&whole).unwrap_or_else(|error| panic!("{error}\n{example}"));
    }
}

#[test]
fn the_readme_has_every_key() {
    let all = examples(README).concat();
    // What is in args is a job's own.
    let lines = WHOLE.lines().filter(|line| !line.starts_with("args ="));
    let parts = lines.flat_map(|line| line.split([',', '{']));
    let keys = parts.filter_map(|part| Some(part.split_once(" =")?.0.trim()));
    for key in keys.chain(["args", "backoff_by_cause", "retry_for", "jitter_percent"]) {
        assert!(key.starts_with('"') || all.contains(&format!("{key} =")), "`{key}` is not in README.md");
    }
}
