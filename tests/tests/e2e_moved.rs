//! A server that moves to another address under running jobs, and is found by its name.

use std::fs;
use std::path::Path;
use std::process::Command;

use midge_protocol::manifest::Wait;
use midge_tests::support::{Files, Flylet, Guest, Modules, Server};
use serde_json::Value;

const NAME: &str = "server.midge.internal";

/// Says to which address the name leads. The file keeps its inode: it is mounted.
fn leads_to(hosts: &Path, ip: &str) {
    fs::write(hosts, format!("127.0.0.1 localhost\n{ip} {NAME}\n")).unwrap();
}

/// Returns the command in a mount namespace of its own, in which this is the file of names.
fn with_hosts(hosts: &Path, command: &Command) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    unshare.arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"").arg(hosts);
    unshare.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => unshare.env(name, value),
            None => unshare.env_remove(name),
        };
    }
    unshare
}

fn may_mount() -> bool {
    let mut tried = Command::new("unshare");
    let tried =
        tried.args(["--user", "--map-root-user", "--mount", "mount", "--bind", "/etc/hosts", "/etc/hosts"]);
    tried.output().is_ok_and(|ran| ran.status.success())
}

#[test]
fn hosts_find_a_server_that_moved_by_its_name_and_their_jobs_go_on() {
    assert!(
        may_mount(),
        "this test gives hosts a file of names of their own: let it make user namespaces (`unshare`)"
    );
    let files = Files::new();
    let hosts = files.path("hosts");
    leads_to(&hosts, "127.0.0.1");
    let flylet = Flylet::start_as(&[], |command| with_hosts(&hosts, &command));
    let long = Guest::nap("nap", 3_000);
    let modules = Modules::of_guests("", &[long]).queue("default", |policy| policy.wait = Wait::Forever);
    let env = [("FLY_APP_NAME", "midge"), ("FLY_IMAGE_REF", "v1")];
    let mut server = Server::on_flylet_at(&modules, &flylet, &env, NAME);
    let id = server.enqueue("nap", Value::Null);
    let machine = server.running(id).machine;
    server.kill();
    leads_to(&hosts, "127.0.0.2");
    server.move_to("127.0.0.2");
    assert_eq!(&server.result(id)[..], b"done");
    let attempts = server.detail(id).attempts;
    assert_eq!((attempts.len(), Some(&attempts[0].machine)), (1, machine.as_ref()), "by the same host");
    // And it takes the next job from where the server is now.
    server.result(server.enqueue("nap", Value::Null));
}
