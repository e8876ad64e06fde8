//! `midge dev`: what is saved is what the next job runs.

use std::path::Path;

use midge_tests::support::{
    Files, Process, eventually, guest_toolchain, guests_target, host_program, midge, run,
};

/// Runs the job in a project's server, and returns what it says.
fn greeting(url: &str) -> String {
    let mut enqueue = midge(&["enqueue", "greet-dev", "--args", r#"{"name": "you"}"#, "--wait"]);
    enqueue.env("MIDGE_SERVER", url);
    run(enqueue, b"").ok().text().to_owned()
}

/// Saves the source with one word replaced.
fn save(source: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(source).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(source, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn what_is_saved_is_what_the_next_job_runs() {
    guest_toolchain();
    let folder = Files::new();
    let mut new = midge(&["new", "greet-dev"]);
    new.current_dir(folder.dir());
    run(new, b"").ok();
    let source = folder.path("greet-dev/src/main.rs");
    let here = |args: &[&str]| {
        let mut command = midge(args);
        command.current_dir(folder.path("greet-dev")).env("CARGO_TARGET_DIR", guests_target());
        command.env("MIDGE_HOST", host_program());
        command
    };
    // Its dependencies take longer than what is waited for below.
    run(here(&["build"]), b"").ok();
    let mut dev = Process::start("midge dev", here(&["dev", "--listen", "127.0.0.1:0"]));
    let url = dev.says("where it serves", |output| {
        let (_, rest) = output.split_once("midge serves at ")?;
        let (url, _) = rest.split_once(',')?;
        Some(url.to_owned())
    });
    assert_eq!(greeting(&url), r#"{"greeting":"Hello, you!"}"#);

    save(&source, "Hello, {}!", "Goodbye, {}!");
    eventually("a job runs what was saved", || greeting(&url).contains("Goodbye, you!").then_some(()));

    // What does not compile is shown, and changes nothing.
    save(&source, "Ok(Greeting", "Okay(Greeting");
    dev.says("what is wrong", |output| output.contains("cannot find function").then_some(()));
    dev.says("what is served", |output| output.contains("are served until this is mended").then_some(()));
    assert_eq!(greeting(&url), r#"{"greeting":"Goodbye, you!"}"#);

    // A save that only changes a setting counts too.
    save(&source, "Okay(Greeting", "Ok(Greeting");
    let config = folder.path("greet-dev/midge.toml");
    save(&config, "max_attempts = 5", "max_attempts = 6");
    save(&source, "Goodbye, {}!", "Welcome, {}!");
    eventually("a job runs what was mended", || greeting(&url).contains("Welcome, you!").then_some(()));
    let mut jobs = midge(&["jobs"]);
    jobs.env("MIDGE_SERVER", &url);
    assert!(run(jobs, b"").ok().text().contains("1/6"), "the new setting holds");

    // Nor does a package that is not there end it.
    save(&config, "package = \".\"", "package = \"nope\"");
    dev.says("which package is wrong", |output| output.contains("nope").then_some(()));
    save(&config, "package = \"nope\"", "package = \".\"");
    save(&source, "Welcome, {}!", "Good day, {}!");
    eventually("a job runs what was mended", || greeting(&url).contains("Good day, you!").then_some(()));

    dev.signal(rustix::process::Signal::INT);
    assert_eq!(dev.ended().code(), Some(0), "{}", dev.output());
    assert!(folder.path("greet-dev/.midge/dev.db").exists());
}
