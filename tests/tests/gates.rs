//! Gates that do not depend on time: what a host may do from exec to its guest's first instruction, and how large it may
//! be. Their ceilings and reasons are in `tests/gates.toml`; `docs/start.md` tells what each is for.
//!
//! Every run ends with a table of what was found. A gate that cannot run here is shown as ignored, with its reason.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use libtest_mimic::{Arguments, Failed, Trial};
use midge_tests::support::{
    Ballast, Calls, Guest, Modules, Start, checkout, crates_linked, host_program, strace_missing,
    valgrind_missing,
};

/// What is measured where no guest is run.
const HOST: &str = "host";
/// The guests that are run.
const GUESTS: [(&str, Ballast); 2] = [("tiny", Ballast::None), ("large", Ballast::Large)];
/// A figure that is lower by so many per cent of its ceiling is told: the ceiling may come down.
const ROOM_PERCENT_MAX: u64 = 15;

/// A gate: what it counts, and of what.
struct Gate {
    name: &'static str,
    count: Count,
    /// Why it cannot run here, if it cannot.
    missing: fn() -> Option<String>,
}

enum Count {
    Host(fn() -> Found),
    Guest(fn(&Lab, usize) -> Found),
}

const GATES: [Gate; 7] = [
    Gate {
        name: "system_calls",
        count: Count::Guest(|lab, guest| lab.calls(guest).all().to_vec().into()),
        missing: strace_missing,
    },
    Gate {
        name: "mprotect_calls",
        count: Count::Guest(|lab, guest| lab.calls(guest).named("mprotect").into()),
        missing: strace_missing,
    },
    Gate {
        name: "files_opened",
        count: Count::Guest(|lab, guest| lab.calls(guest).opened().into()),
        missing: strace_missing,
    },
    Gate {
        name: "page_faults",
        count: Count::Guest(|lab, guest| lab.start(guest).page_faults().into()),
        missing: || None,
    },
    Gate {
        name: "instructions",
        count: Count::Guest(|lab, guest| lab.start(guest).instructions().into()),
        missing: valgrind_missing,
    },
    Gate {
        name: "binary_size",
        count: Count::Host(|| std::fs::metadata(host_program()).unwrap().len().into()),
        missing: || None,
    },
    Gate {
        name: "crates_linked",
        count: Count::Host(|| crates_linked().into_iter().collect::<Vec<_>>().into()),
        missing: || None,
    },
];

/// A figure, with what makes it up where that can be told.
struct Found {
    figure: u64,
    list: Vec<String>,
}

impl From<Vec<String>> for Found {
    fn from(list: Vec<String>) -> Found {
        Found { figure: list.len() as u64, list }
    }
}

impl From<u64> for Found {
    fn from(figure: u64) -> Found {
        Found { figure, list: Vec::new() }
    }
}

/// What the gates share: guests that are built, and traces that are made, by the first that needs them.
struct Lab {
    modules: LazyLock<Modules>,
    calls: [OnceLock<Calls>; GUESTS.len()],
    /// The lines of the table, with the place of their gate and of what they are about.
    table: Mutex<BTreeMap<(usize, usize), String>>,
}

impl Lab {
    fn new() -> Lab {
        let modules =
            || Modules::of_guests("", &GUESTS.map(|(name, ballast)| Guest::seen_to_start(name, ballast)));

        Lab { modules: LazyLock::new(modules), calls: Default::default(), table: Mutex::default() }
    }

    fn start(&self, guest: usize) -> Start<'_> {
        let (name, ballast) = GUESTS[guest];
        Start::new(&self.modules, name, ballast)
    }

    fn calls(&self, guest: usize) -> &Calls {
        self.calls[guest].get_or_init(|| self.start(guest).calls())
    }
}

fn main() {
    let arguments = Arguments::from_args();
    let lab = Arc::new(Lab::new());
    let ceilings = Arc::new(Ceilings::read());
    let mut trials = vec![
        rule("every_gate_has_its_ceilings", &ceilings, every_gate_has_its_ceilings),
        rule("the_docs_name_every_gate", &ceilings, the_docs_name_every_gate),
    ];
    for (place, gate) in GATES.iter().enumerate() {
        let missing = if arguments.list { None } else { (gate.missing)() };
        if let Some(missing) = &missing {
            eprintln!("{} is ignored: {missing}", gate.name);
        }
        for about in gate.about() {
            let (lab, ceilings) = (Arc::clone(&lab), Arc::clone(&ceilings));
            let name = format!("{}_of_{}", gate.name, gate.about_name(about));
            let trial = Trial::test(name, move || check(place, about, &lab, &ceilings));
            trials.push(trial.with_ignored_flag(missing.is_some()));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    for line in lab.table.lock().unwrap().values() {
        eprintln!("{line}");
    }
    // The guests' folder goes with it; an exit would leave it.
    drop(lab);
    conclusion.exit();
}

impl Gate {
    /// Returns the places of the guests that it is about; one where it is about the host alone.
    fn about(&self) -> std::ops::Range<usize> {
        match self.count {
            Count::Host(_) => 0..1,
            Count::Guest(_) => 0..GUESTS.len(),
        }
    }

    fn about_name(&self, about: usize) -> &'static str {
        match self.count {
            Count::Host(_) => HOST,
            Count::Guest(_) => GUESTS[about].0,
        }
    }
}

fn rule(name: &str, ceilings: &Arc<Ceilings>, rule: fn(&Ceilings) -> Result<(), Failed>) -> Trial {
    let ceilings = Arc::clone(ceilings);
    Trial::test(name, move || rule(&ceilings))
}

fn check(place: usize, about: usize, lab: &Lab, ceilings: &Ceilings) -> Result<(), Failed> {
    let gate = &GATES[place];
    let about_name = gate.about_name(about);
    let (ceiling, protects) = ceilings.of(gate.name, about_name)?;
    let found = match gate.count {
        Count::Host(count) => count(),
        Count::Guest(count) => count(lab, about),
    };
    let mut line = format!("{:<14} {about_name:<5} {:>9} of {ceiling:>9}", gate.name, found.figure);
    if found.figure * 100 < ceiling * (100 - ROOM_PERCENT_MAX) {
        line += "  the ceiling can be lowered";
    }
    lab.table.lock().unwrap().insert((place, about), line);
    match found.figure.checked_sub(ceiling) {
        None | Some(0) => Ok(()),
        Some(over) => Err(Failed::from(over_text(gate.name, about_name, &found, ceiling, over, protects))),
    }
}

fn over_text(gate: &str, about: &str, found: &Found, ceiling: u64, over: u64, protects: &str) -> String {
    let mut text = format!(
        "{gate} of {about}: {} found, {ceiling} are the ceiling, {over} too many\n\
         what this protects: {protects}\n\
         if the new ones are worth it, raise the ceiling in tests/gates.toml and say why",
        found.figure
    );
    for same in found.list.chunk_by(|one, next| one == next) {
        let times = if same.len() > 1 { format!("  ({} times)", same.len()) } else { String::new() };
        write!(text, "\n    {}{times}", same[0]).expect("a String takes all that is written");
    }
    text
}

/// `tests/gates.toml`.
struct Ceilings(toml::Table);

impl Ceilings {
    fn read() -> Ceilings {
        let text = std::fs::read_to_string(checkout().join("tests/gates.toml")).expect("there are ceilings");
        Ceilings(text.parse().unwrap_or_else(|error| panic!("tests/gates.toml: {error}")))
    }

    /// Returns a ceiling, and the reason for it.
    fn of(&self, gate: &str, about: &str) -> Result<(u64, &str), String> {
        let missing = |what: &str| format!("tests/gates.toml says no `{what}` in [{gate}]");
        let section = self.0.get(gate).ok_or_else(|| missing("protects"))?;
        let protects = section.get("protects").and_then(toml::Value::as_str);
        let ceiling = section.get("ceiling").and_then(|ceilings| ceilings.get(about));
        let ceiling =
            ceiling.and_then(toml::Value::as_integer).and_then(|ceiling| u64::try_from(ceiling).ok());
        Ok((ceiling.ok_or_else(|| missing(about))?, protects.ok_or_else(|| missing("protects"))?))
    }
}

fn every_gate_has_its_ceilings(ceilings: &Ceilings) -> Result<(), Failed> {
    for gate in &GATES {
        for about in gate.about() {
            let (_, protects) = ceilings.of(gate.name, gate.about_name(about))?;
            assert!(!protects.is_empty(), "{} has no reason", gate.name);
        }
        let section = ceilings.0[gate.name]["ceiling"].as_table().expect("ceilings are a table");
        let known: Vec<&str> = gate.about().map(|about| gate.about_name(about)).collect();
        let unknown: Vec<&String> = section.keys().filter(|about| !known.contains(&about.as_str())).collect();
        assert!(unknown.is_empty(), "nothing is measured for {unknown:?} of {}", gate.name);
    }
    let is_gate = |name: &&String| GATES.iter().any(|gate| gate.name == name.as_str());
    let unknown: Vec<&String> = ceilings.0.keys().filter(|name| !is_gate(name)).collect();
    assert!(unknown.is_empty(), "tests/gates.toml has ceilings for {unknown:?}, which is not measured");
    Ok(())
}

fn the_docs_name_every_gate(ceilings: &Ceilings) -> Result<(), Failed> {
    let docs = std::fs::read_to_string(checkout().join("docs/start.md")).expect("docs/start.md is there");
    for gate in ceilings.0.keys() {
        assert!(docs.contains(&format!("\n| `{gate}` |")), "docs/start.md has no row for the gate `{gate}`");
    }
    Ok(())
}
