//! `enqueues` of a module: which modules' jobs its guests may enqueue.

use std::collections::BTreeSet;

use midge_protocol::{ModuleName, nearest, shown};

use super::ConfigError;
use super::section::Section;

/// Reads the list. `modules` are those that the project has: another would be refused by the server, long after the build.
pub(super) fn read(section: &Section<'_>, modules: &[&str]) -> Result<BTreeSet<ModuleName>, ConfigError> {
    let names = section.read("enqueues", "a list of modules in quotes, like [\"resize\"]", |value| {
        let names = value.as_array()?.iter().map(|name| name.get_ref().as_str().map(str::to_owned));
        names.collect::<Option<Vec<_>>>()
    })?;
    let mut enqueues = BTreeSet::new();
    for name in names.unwrap_or_default() {
        let wrong = |message| section.wrong_at("enqueues", message);
        if !modules.contains(&name.as_str()) {
            let shown = shown::cut(&name);
            let hint = match nearest(&name, modules.iter().copied()) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => format!("add a section [modules.{shown}]"),
            };
            return Err(wrong(format!("there is no module `{shown}` to enqueue: {hint}")));
        }
        enqueues.insert(ModuleName::new(name).map_err(|error| wrong(error.to_string()))?);
    }
    Ok(enqueues)
}
