//! No program escapes: not where its flylet is killed, and not by leaving its group.
//!
//! The test runs itself a second time, as the flylet that is killed and as the program that leaves. Everybody who runs
//! under the flylet that is killed holds the same named pipe open for writing, so that its end says that all are gone.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use midge_flylet::{Flylet, FlyletSettings};
use midge_machines::{FlyMachines, Launch, MachineSpec, Machines, SeenState};
use midge_protocol::MachineName;
use midge_protocol::manifest::MachineSize;

/// Names the pipe, in the process that is to be the flylet.
const PIPE: &str = "LEASH_TEST_PIPE";
/// Says to the program that leaves its group that it is one.
const MOVES: &str = "LEASH_TEST_MOVES";
const MACHINES: usize = 5;
/// What the flylet writes into the pipe once one of them is suspended.
const SUSPENDED: &str = "suspended";
const DEADLINE: Duration = Duration::from_secs(60);

fn main() {
    if let Some(pipe) = std::env::var_os(PIPE) {
        return be_a_flylet(Path::new(&pipe));
    }
    if std::env::var_os(MOVES).is_some() {
        return move_to_another_group();
    }
    let trial = |name: &str, test: fn() -> Result<(), Box<dyn std::error::Error>>| {
        Trial::test(name, move || test().map_err(|e| Failed::from(e.to_string())))
    };
    let trials = vec![
        trial("when_flylet_is_killed_every_machine_leaves", when_flylet_is_killed_every_machine_leaves),
        trial(
            "a_program_that_left_its_group_obeys_all_the_same",
            a_program_that_left_its_group_obeys_all_the_same,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Joins the group of the flylet, says so, and stays.
fn move_to_another_group() {
    let flylet = rustix::process::getppid().unwrap();
    let group = rustix::process::getpgid(Some(flylet)).unwrap();
    rustix::process::setpgid(None, Some(group)).unwrap();
    let line = format!("moved {}\n", std::process::id());
    std::io::stdout().write_all(line.as_bytes()).unwrap();
    loop {
        std::thread::park();
    }
}

fn a_program_that_left_its_group_obeys_all_the_same() -> Result<(), Box<dyn std::error::Error>> {
    let spec = |name: &str| -> Result<MachineSpec, Box<dyn std::error::Error>> {
        Ok(MachineSpec {
            name: MachineName::new(name)?,
            region: None,
            image: "image".to_owned(),
            exec: vec![std::env::current_exe()?.display().to_string()],
            env: [(MOVES.to_owned(), "1".to_owned())].into(),
            size: MachineSize::default(),
            has_secrets: false,
            metadata: Default::default(),
        })
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let flylet = Flylet::start(FlyletSettings::new("jobs")).await?;
        let machines = FlyMachines::new(flylet.client_settings())?;
        let mut pids = Vec::new();
        let mut ids = Vec::new();
        for name in ["deleted", "ended"] {
            let id = machines.create(&spec(name)?, Launch::Now).await?;
            let lines = tokio::time::timeout(DEADLINE, flylet.log_with(&id, "moved")).await?;
            let pid = lines[0].trim_start_matches("moved ").to_owned();
            machines.suspend(&id).await?;
            machines.wait(&id, SeenState::Suspended, DEADLINE).await?;
            let status = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            assert!(status.contains(") T "), "it was said to be suspended: {status}");
            machines.start(&id).await?;
            machines.wait(&id, SeenState::Started, DEADLINE).await?;
            pids.push(Path::new("/proc").join(pid));
            ids.push(id);
        }
        machines.destroy(&ids[0]).await?;
        machines.wait(&ids[0], SeenState::Destroyed, DEADLINE).await?;
        // Waited for already: not even a zombie is left.
        assert!(!pids[0].exists() && pids[1].exists());
        tokio::time::timeout(DEADLINE, flylet.shutdown()).await?;
        assert!(!pids[1].exists());
        Ok(())
    })
}

/// Starts Machines that end when their stdin does, and stays until it is killed.
fn be_a_flylet(pipe: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let flylet = Flylet::start(FlyletSettings::new("jobs")).await.unwrap();
        let machines = FlyMachines::new(flylet.client_settings()).unwrap();
        let script = "exec 3> \"$0\"; echo $$ >&3; echo said; exec >&3; exec cat";
        let mut ids = Vec::new();
        for number in 0..MACHINES {
            let spec = MachineSpec {
                name: MachineName::new(format!("m-{number}")).unwrap(),
                region: None,
                image: "image".to_owned(),
                exec: ["/bin/sh", "-c", script, &pipe.display().to_string()].map(str::to_owned).to_vec(),
                env: Default::default(),
                size: MachineSize::default(),
                has_secrets: false,
                metadata: Default::default(),
            };
            ids.push(machines.create(&spec, Launch::Now).await.unwrap());
            machines.wait(&ids[number], SeenState::Started, DEADLINE).await.unwrap();
        }
        flylet.log_with(&ids[0], "said").await;
        // One that stands still cannot read the end of its leash: the kernel wakes it.
        machines.suspend(&ids[0]).await.unwrap();
        machines.wait(&ids[0], SeenState::Suspended, DEADLINE).await.unwrap();
        fs::write(pipe, format!("{SUSPENDED}\n")).unwrap();
        std::future::pending::<()>().await;
    });
}

/// Kills the flylet also where the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It is dead already where the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn when_flylet_is_killed_every_machine_leaves() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status()?.success());
    let flylet = Command::new(std::env::current_exe()?).env(PIPE, &pipe).stdin(Stdio::null()).spawn()?;
    let mut flylet = Killed(flylet);

    let (tell, told) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut lines = BufReader::new(fs::File::open(pipe).unwrap());
        for _ in 0..=MACHINES {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            tell.send(line).unwrap();
        }
        lines.read_to_end(&mut Vec::new()).unwrap();
        tell.send("end".to_owned()).unwrap();
    });

    let mut pids = Vec::new();
    for _ in 0..=MACHINES {
        let line = told.recv_timeout(DEADLINE);
        pids.push(line.map_err(|_| "not all Machines started")?.trim().to_owned());
    }
    let suspended = pids.iter().position(|line| line == SUSPENDED).ok_or("none was suspended")?;
    pids.remove(suspended);
    let leashes: Vec<_> =
        pids.iter().map(|pid| held(pid).map(|held| held[0].clone())).collect::<Result<_, _>>()?;
    for (number, pid) in pids.iter().enumerate() {
        for file in &held(pid)?[1..] {
            assert!(!leashes.contains(file), "Machine {number} holds {file}, which is a leash");
        }
    }

    flylet.0.kill()?;
    assert_eq!(flylet.0.wait()?.signal(), Some(9));
    let end = told.recv_timeout(DEADLINE).map_err(|_| "a Machine outlived its flylet")?;
    assert_eq!(end, "end");
    reader.join().map_err(|_| "the reader panicked")?;
    Ok(())
}

/// Returns what a process has open, its stdin first.
fn held(pid: &str) -> std::io::Result<Vec<String>> {
    let folder = Path::new("/proc").join(pid).join("fd");
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let number: u32 = entry.file_name().to_string_lossy().parse().unwrap_or(u32::MAX);
        // Gone by now: the shell was about to become cat.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        files.push((number, target.display().to_string()));
    }
    files.sort();
    Ok(files.into_iter().map(|(_, file)| file).collect())
}
