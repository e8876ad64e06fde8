//! A server that runs in a Machine itself makes Machines like its own.

use midge_client::Client;
use midge_protocol::RegionName;
use midge_protocol::manifest::Wait;
use midge_tests::support::{
    DEADLINE, Flylet, Guest, Modules, Server, block_on, eventually, free_port, host_program, midge, request,
    serve,
};
use serde_json::{Value, json};

const IMAGE: &str = "registry.example/shop:v1@sha256:0b1e";

/// Returns a guest whose result is its environment, of which it may see two variables.
fn environment() -> Modules {
    let guest = Guest::environment("environment").settings("env = [\"LOG\", \"COLOR\"]");
    Modules::of_guests("[queues.default]\nwait = 1\n[env]\nCOLOR = \"of midge.toml\"", &[guest])
}

/// Returns what the environment that a guest saw says of a variable.
fn variable(result: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(result);
    text.split('\0').find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

/// A Machine of flylet's that runs a server. It is destroyed with this, since a program like it does not end with flylet.
struct ServerMachine<'a> {
    flylet: &'a Flylet,
    id: String,
    client: Client,
}

impl ServerMachine<'_> {
    /// Starts one as `fly deploy` would: with services, a process group and env of its own.
    fn start<'a>(flylet: &'a Flylet, modules: &Modules) -> ServerMachine<'a> {
        let port = free_port();
        let serve = midge(&["serve", "--memory", "--fly-token", Flylet::TOKEN, "--fly-api", &flylet.url()]);
        let mut exec = vec![serve.get_program().to_string_lossy().into_owned()];
        exec.extend(serve.get_args().map(|arg| arg.to_string_lossy().into_owned()));
        let host = host_program().display().to_string();
        let (dir, listen) = (modules.dir().display().to_string(), format!("127.0.0.1:{port}"));
        exec.extend(["--modules", &dir, "--host-program", &host, "--listen", &listen].map(str::to_owned));
        let config = json!({
            "image": IMAGE,
            "env": {"LOG": "of fly.toml", "COLOR": "of fly.toml", "PRIMARY_REGION": "local", "FLY_PROCESS_GROUP": "app"},
            "init": {"exec": exec},
            "guest": {"cpu_kind": "shared", "cpus": 2, "memory_mb": 2048},
            "restart": {"policy": "no"},
            "metadata": {"fly_platform_version": "v2", "fly_process_group": "app"},
            "services": [{"internal_port": port, "protocol": "tcp"}],
            "checks": {"alive": {"type": "tcp", "port": port}},
        });
        let made = flylet.call("POST", "machines", &json!({"name": "shop-1", "config": config}));
        let id = made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        let client = Client::new(&format!("http://127.0.0.1:{port}")).unwrap().tries(20);
        ServerMachine { flylet, id, client }
    }
}

impl Drop for ServerMachine<'_> {
    fn drop(&mut self) {
        self.flylet.call("DELETE", &format!("machines/{}?force=true", self.id), &Value::Null);
    }
}

#[test]
fn a_server_in_a_machine_makes_machines_like_its_own() {
    let (modules, flylet) = (environment(), Flylet::start());
    let server = ServerMachine::start(&flylet, &modules);
    eventually("the server answers", || block_on(server.client.machines()).ok());
    let job = block_on(server.client.enqueue(&request("environment", Value::Null))).unwrap().id;
    let made = eventually("a Machine is made", || {
        let all = flylet.call("GET", "machines", &Value::Null);
        let ours = |machine: &&Value| machine["name"].as_str().is_some_and(|name| name.starts_with("midge-"));
        all.as_array()?.iter().find(ours).cloned()
    });
    let config = &made["config"];
    assert_eq!(config["image"], "registry.example/shop@sha256:0b1e");
    assert_eq!(config["guest"], json!({"cpu_kind": "shared", "cpus": 2, "memory_mb": 2048}));
    assert_eq!(made["region"], "local");
    assert_eq!(config["restart"], json!({"policy": "no"}));
    for absent in ["services", "checks", "mounts"] {
        assert_eq!(config.get(absent), None, "{absent}");
    }
    let metadata = config["metadata"].as_object().unwrap();
    assert!(metadata.keys().all(|key| !key.starts_with("fly_")), "{metadata:?}");
    let env = config["env"].as_object().unwrap();
    assert!(env.keys().all(|key| !key.starts_with("FLY_") && key != "PRIMARY_REGION"), "{env:?}");
    let text = made.to_string();
    assert!(!text.contains(Flylet::TOKEN), "the token is in no Machine: {text}");

    block_on(server.client.wait(job, Some(DEADLINE))).unwrap();
    let seen = block_on(server.client.result_bytes(job)).unwrap();
    assert_eq!(variable(&seen, "LOG").as_deref(), Some("of fly.toml"));
    assert_eq!(
        variable(&seen, "COLOR").as_deref(),
        Some("of midge.toml"),
        "what is said for Machines goes before"
    );
}

/// The token is for the Machines' own app, and the server is in another: its own Machine cannot be read.
#[test]
fn a_server_whose_token_may_not_read_its_own_machine_goes_by_what_fly_told_it() {
    let (modules, flylet) = (environment(), Flylet::start());
    let server = Server::on_flylet_with(
        &modules,
        &flylet,
        &[
            ("FLY_APP_NAME", "shop"),
            ("FLY_MACHINE_ID", "148ed21fe74e89"),
            ("FLY_IMAGE_REF", "registry.example/shop:v1"),
            ("MIDGE_FLY_APP", "midge"),
            ("LOG", "of the server's process"),
        ],
    );
    let seen = server.result(server.enqueue("environment", Value::Null));
    assert_eq!(variable(&seen, "LOG"), None, "the env of a process may hold secrets, and is copied never");
    let machines = server.machines();
    assert_eq!(machines[0].generation, "registry.example/shop:v1");
}

/// Returns the regions of the Machines that midge has made.
fn regions(flylet: &Flylet) -> Vec<String> {
    let all = flylet.call("GET", "machines", &Value::Null);
    all.as_array().unwrap().iter().map(|machine| machine["region"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn where_the_first_region_is_over_its_quota_machines_come_in_the_next() {
    let flylet = Flylet::start_with(&["--regions", "iad=/256,lhr"]);
    let modules = environment().queue("default", |policy| {
        policy.regions = ["iad", "lhr"].map(|name| RegionName::new(name).unwrap()).to_vec();
        policy.wait = Wait::Forever;
    });
    let server = Server::on_flylet(&modules, &flylet, "v1");
    server.result(server.enqueue("environment", Value::Null));
    assert_eq!(regions(&flylet), ["lhr"]);
}

#[test]
fn a_quota_that_is_used_up_everywhere_keeps_the_job_and_says_so() {
    let flylet = Flylet::start_with(&["--regions", "iad=/256"]);
    let server = Server::on_flylet(&environment(), &flylet, "v1");
    let id = server.enqueue("environment", Value::Null);
    let why = eventually("the job says why it waits", || {
        server.job(id).waits.filter(|waits| waits.text.contains("quota"))
    });
    assert!(why.text.starts_with("no Machine can be had: no capacity"), "{}", why.text);
}

#[test]
fn a_region_that_there_is_not_is_found_at_the_start() {
    let flylet = Flylet::start_with(&["--regions", "iad,lhr"]);
    let modules =
        environment().queue("default", |policy| policy.regions = vec![RegionName::new("lhx").unwrap()]);
    let (url, api) = (flylet.url(), ["--fly-app", "midge", "--image", "v1", "--fly-token", Flylet::TOKEN]);
    let refused = serve(&modules, &[&api[..], &["--fly-api", &url]].concat());
    let text = "there is no region `lhx` at Fly, which queue `default` of midge.toml names: use some of iad, lhr, or a part";
    refused.fails(1, &[text]);
}
