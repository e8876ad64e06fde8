//! `midge demo`: everything at once, and what it leaves.

use midge_tests::support::{Files, guest_toolchain, host_program, midge, run};

#[test]
fn the_demo_ends_well_and_leaves_what_its_jobs_made() {
    guest_toolchain();
    let files = Files::new();
    let keep = files.path("results");
    let mut demo = midge(&["demo", "--exit", "--listen", "127.0.0.1:0", "--keep"]);
    demo.arg(&keep).env("MIDGE_HOST", host_program());
    let ran = run(demo, b"").ok();
    let names = [
        "hello",
        "resize",
        "report",
        "render",
        "flaky",
        "plain",
        "stages",
        "fan-out",
        "wordcount",
        "webhook",
        "download",
        "fetch",
        "spin",
        "sleep",
        "hog",
        "flood",
    ];
    for name in names.into_iter().chain(["over_time", "over_memory", "over_output"]) {
        assert!(ran.text().contains(name), "`{name}` is not in:\n{}\n{}", ran.text(), ran.stderr);
    }
    let made = std::fs::read_dir(&keep).unwrap().map(|entry| entry.unwrap().path());
    let made: Vec<_> =
        made.filter(|path| path.extension().is_some_and(|e| e == "png" || e == "jpg")).collect();
    assert!(made.len() >= 2, "{made:?}");
    for picture in made {
        image::open(&picture).unwrap_or_else(|error| panic!("{}: {error}", picture.display()));
    }
}
