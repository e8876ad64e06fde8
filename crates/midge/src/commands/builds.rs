//! Says of which modules a server runs another build than the one that lies in the project in which somebody is.

use std::collections::{BTreeMap, BTreeSet};

use midge_cli::build::project;
use midge_cli::output::{note, path};
use midge_client::Client;
use midge_protocol::ModuleName;
use midge_protocol::api::ModuleView;
use midge_protocol::manifest::ModuleEntry;

use super::capabilities::read;

/// Says of jobs that were asked to run again which will not run what was built here. `modules` are theirs; none are all. Where it
/// cannot be known, nothing is said: it is beside what was asked for.
pub(super) async fn tell_of_others(client: &Client, modules: &BTreeSet<ModuleName>) {
    let Ok(project) = project(None) else { return };
    let Ok(built) = read(&project.out) else { return };
    let Ok(served) = client.modules().await else { return };
    for name in others(&built.modules, &served.modules, modules) {
        note(format_args!(
            "`{name}` runs as the server has it, which is not the build in {}: start the server again with that, or deploy it, \
             where that is meant",
            path(&project.out)
        ));
    }
}

fn others<'a>(
    built: &'a BTreeMap<ModuleName, ModuleEntry>,
    served: &[ModuleView],
    meant: &BTreeSet<ModuleName>,
) -> impl Iterator<Item = &'a ModuleName> {
    let is_meant = |name: &ModuleName| meant.is_empty() || meant.contains(name);
    let is_other = move |name: &ModuleName, built: &ModuleEntry| {
        let served =
            served.iter().find(|module| module.name == *name).and_then(|module| module.entry.as_ref());
        served.is_some_and(|served| !is_of_one_source(built, served))
    };
    built.iter().filter(move |(name, entry)| is_meant(name) && is_other(name, entry)).map(|(name, _)| name)
}

/// Returns whether two builds are of the same source, as midge.toml says that it may run. Compiled for another CPU, it is another file.
fn is_of_one_source(one: &ModuleEntry, other: &ModuleEntry) -> bool {
    let ModuleEntry { file, size, sha256, xxh3, .. } = other.clone();
    ModuleEntry { file, size, sha256, xxh3, ..one.clone() } == *other
}

#[cfg(test)]
mod tests {
    use midge_protocol::QueueName;
    use midge_protocol::job::AttemptLimits;

    use super::*;

    #[test]
    fn a_module_is_another_where_its_source_is_or_what_it_may() {
        let entry = |source: &str, time_ms: u64| ModuleEntry {
            file: format!("{source}.cwasm"),
            size: 1,
            sha256: source.to_owned(),
            xxh3: source.to_owned(),
            source_sha256: source.to_owned(),
            queue: QueueName::default_queue(),
            limits: AttemptLimits { time_ms, ..AttemptLimits::default() },
            retry: Default::default(),
            env: Vec::new(),
            dirs: Default::default(),
            enqueues: Default::default(),
            http: Vec::new(),
            secrets: Default::default(),
        };
        let name = |name: &str| ModuleName::new(name).unwrap();
        let view = |of: &str, entry: Option<ModuleEntry>| ModuleView {
            name: name(of),
            entry,
            pause: None,
            lacks: None,
            held: 0,
        };
        let built = BTreeMap::from([
            (name("same"), entry("1", 10)),
            (name("mended"), entry("2", 10)),
            (name("slower"), entry("1", 20)),
            (name("gone"), entry("1", 10)),
        ]);
        let same = ModuleEntry { sha256: "for another CPU".to_owned(), ..entry("1", 10) };
        let served = [
            view("same", Some(same)),
            view("mended", Some(entry("1", 10))),
            view("slower", Some(entry("1", 10))),
            view("gone", None),
        ];
        let others = |meant: &[&str]| {
            let meant = meant.iter().map(|meant| name(meant)).collect();
            others(&built, &served, &meant).map(ModuleName::as_str).collect::<Vec<_>>()
        };
        assert_eq!(others(&[]), ["mended", "slower"]);
        assert_eq!(others(&["mended", "same"]), ["mended"]);
    }
}
