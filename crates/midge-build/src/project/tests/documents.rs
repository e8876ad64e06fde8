//! What documents say of `midge.toml` is read as it is written there.

use super::*;

#[test]
fn every_midge_toml_in_the_document_about_queues_is_read() {
    let text = include_str!("../../../../../docs/queues.md");
    let examples: Vec<&str> =
        text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        parse(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
    }
}
