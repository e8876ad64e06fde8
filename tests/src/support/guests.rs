//! Small guests written as WebAssembly text, for what no compiler would emit, or not as small.

use super::built::midge;
use super::files::Files;
use super::modules::Modules;
use super::process::run;

/// A module of a test's own.
pub struct Guest {
    name: String,
    wat: String,
    settings: String,
}

impl Guest {
    /// Makes a guest from its imports, by name, with the types of their parameters and result; from further parts of
    /// the module; and from what `_start` does.
    ///
    /// It has a page of memory. An import `poll_oneoff` is WASI's, and one `midge.snooze` midge's.
    pub fn new(name: &str, imports: &[(&str, &str)], parts: &str, start: &str) -> Guest {
        let import = |&(name, types): &(&str, &str)| {
            let (module, name) = name.split_once('.').unwrap_or(("wasi_snapshot_preview1", name));
            format!("(import \"{module}\" \"{name}\" (func ${name} {types}))")
        };
        let imports: String = imports.iter().map(import).collect();
        let memory = if parts.contains("(memory ") { "" } else { "(memory (export \"memory\") 1)" };
        let wat = format!("(module {imports} {memory} {parts} (func (export \"_start\") {start}))");
        Guest { name: name.to_owned(), wat, settings: String::new() }
    }

    /// Makes a guest that sleeps for so many milliseconds and gives the result `done`.
    pub fn nap(name: &str, millis: u64) -> Guest {
        let imports = [("poll_oneoff", FOUR), ("fd_write", FOUR)];
        let nanos = millis * 1_000_000;
        // A subscription: clock 1 at byte 16, the time at byte 24; all else is 0.
        let start = format!(
            "(i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const {nanos}))
             (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
             {}",
            write("(i32.const 300)", "(i32.const 4)")
        );
        Guest::new(name, &imports, "(data (i32.const 300) \"done\")", &start)
    }

    /// Makes a guest whose result is its environment, each variable ended by a zero byte.
    pub fn environment(name: &str) -> Guest {
        strings(name, "environ_sizes_get", "environ_get")
    }

    /// Makes a guest whose result is its arguments, each ended by a zero byte.
    pub fn arguments(name: &str) -> Guest {
        strings(name, "args_sizes_get", "args_get")
    }

    /// Makes a guest whose result is what a file in its first folder holds, up to 1,000 bytes of it.
    pub fn read_file(name: &str, file: &str) -> Guest {
        let imports = [
            ("path_open", "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)"),
            ("fd_read", FOUR),
            ("fd_write", FOUR),
            ("proc_exit", "(param i32)"),
        ];
        // Folders begin at descriptor 3. The right to read is 2.
        let start = format!(
            "(if (call $path_open (i32.const 3) (i32.const 0) (i32.const 300) (i32.const {length}) (i32.const 0)
                 (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 0)) (then (call $proc_exit (i32.const 44))))
             (i32.store (i32.const 8) (i32.const 1000)) (i32.store (i32.const 12) (i32.const 1000))
             (drop (call $fd_read (i32.load (i32.const 0)) (i32.const 8) (i32.const 1) (i32.const 16)))
             {}",
            write("(i32.const 1000)", "(i32.load (i32.const 16))"),
            length = file.len()
        );
        Guest::new(name, &imports, &format!("(data (i32.const 300) \"{file}\")"), &start)
    }

    /// Returns its code.
    pub fn wasm(&self) -> Vec<u8> {
        wasm(&self.name, &self.wat)
    }

    /// Returns the name of its module.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds settings in `midge.toml`.
    #[must_use]
    pub fn settings(mut self, settings: &str) -> Guest {
        self.settings = format!("{settings}\n");
        self
    }
}

/// The type of `fd_read`, `fd_write` and `poll_oneoff`.
pub const FOUR: &str = "(param i32 i32 i32 i32) (result i32)";

/// Returns a call of `fd_write` to stdout.
fn write(address: &str, length: &str) -> String {
    format!(
        "(i32.store (i32.const 200) {address}) (i32.store (i32.const 204) {length})
         (drop (call $fd_write (i32.const 1) (i32.const 200) (i32.const 1) (i32.const 208)))"
    )
}

/// The count at byte 0, their length at byte 4, their addresses from byte 1,000, themselves from byte 10,000.
fn strings(name: &str, sizes: &str, get: &str) -> Guest {
    let two = "(param i32 i32) (result i32)";
    let start = format!(
        "(drop (call ${sizes} (i32.const 0) (i32.const 4)))
         (drop (call ${get} (i32.const 1000) (i32.const 10000)))
         {}",
        write("(i32.const 10000)", "(i32.load (i32.const 4))")
    );
    Guest::new(name, &[(sizes, two), (get, two), ("fd_write", FOUR)], "", &start)
}

fn wasm(name: &str, wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap_or_else(|error| panic!("{name}: {error}\n{wat}"))
}

impl Modules {
    /// Builds guests with `midge build`; `settings` is the rest of `midge.toml`, such as queues.
    pub fn of_guests(settings: &str, guests: &[Guest]) -> Modules {
        let (project, files) = (Files::new(), Files::new());
        let mut config = format!("{settings}\n");
        for Guest { name, wat, settings } in guests {
            project.write(&format!("{name}.wasm"), wasm(name, wat));
            config += &format!("[modules.{name}]\nwasm = \"{name}.wasm\"\n{settings}");
        }
        project.write("midge.toml", config);
        let mut build = midge(&["build"]);
        build.arg(project.dir()).arg("--out").arg(files.dir());
        run(build, b"").ok();
        Modules::of(files)
    }
}
