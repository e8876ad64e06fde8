//! `midge serve` and `midge flylet` as processes, and what a test asks of them.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use bytes::Bytes;
use midge_client::{Client, EnqueueRequest};
use midge_protocol::api::{JobDetail, MachineView};
use midge_protocol::job::{JobView, State};
use midge_protocol::{JobId, ModuleName, QueueName};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::built::{host_program, midge};
use super::files::Files;
use super::modules::Modules;
use super::process::{Process, Ran, run};
use super::wait::{DEADLINE, eventually};

/// Runs a future to its end; several tests may do so at the same time.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    });
    RUNTIME.block_on(future)
}

/// A running `midge serve` with a store of its own.
pub struct Server {
    process: Process,
    settings: Settings,
    client: Client,
    files: Files,
}

/// How a server is started, again and again.
struct Settings {
    modules: Modules,
    args: Vec<String>,
    env: Vec<(String, String)>,
    ip: String,
    port: u16,
}

impl Server {
    /// Starts a server on SQLite, with a flylet inside.
    pub fn start(modules: &Modules) -> Server {
        Server::start_with(modules, &[], &[])
    }

    /// Starts a server whose Machines are those of a flylet apart, from an image of this name.
    pub fn on_flylet(modules: &Modules, flylet: &Flylet, image: &str) -> Server {
        Server::on_flylet_with(modules, flylet, &[("FLY_APP_NAME", "midge"), ("FLY_IMAGE_REF", image)])
    }

    /// Starts a server whose Machines are those of a flylet apart, with these variables beside those that lead to it.
    pub fn on_flylet_with(modules: &Modules, flylet: &Flylet, env: &[(&str, &str)]) -> Server {
        Server::on_flylet_at(modules, flylet, env, "127.0.0.1")
    }

    /// Starts such a server, which its hosts find by a name.
    pub fn on_flylet_at(modules: &Modules, flylet: &Flylet, env: &[(&str, &str)], name: &str) -> Server {
        let (url, token) = (flylet.url(), Flylet::TOKEN);
        let api = [("FLY_FLAPS_BASE_URL", url.as_str()), ("FLY_API_TOKEN", token)];
        let env = api.iter().chain(env).copied();
        let port = free_port();
        let url = format!("http://{name}:{port}");
        let args = ["--server-url", &url].map(str::to_owned).to_vec();
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Server::of(Settings { modules: modules.clone(), args, env, ip: LOOPBACK.to_owned(), port })
    }

    /// Starts a server with a flylet inside, and with further arguments and variables.
    pub fn start_with(modules: &Modules, args: &[&str], env: &[(&str, &str)]) -> Server {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Server::of(Settings {
            modules: modules.clone(),
            args,
            env,
            ip: LOOPBACK.to_owned(),
            port: free_port(),
        })
    }

    fn of(settings: Settings) -> Server {
        let files = Files::new();
        let client = settings.client();
        let process = settings.spawn(&files);
        let mut server = Server { process, settings, client, files };
        server.is_up();
        server
    }

    fn is_up(&mut self) {
        let url = self.url();
        self.process.says("where it listens", |output| output.contains(&url).then_some(()));
    }

    /// Returns its URL, without a slash at the end.
    pub fn url(&self) -> String {
        self.settings.url()
    }

    /// Starts it again at another address of this computer, on the same store, when it was killed.
    pub fn move_to(&mut self, ip: &str) {
        self.process.kill();
        self.settings.ip = ip.to_owned();
        self.client = self.settings.client();
        self.process = self.settings.spawn(&self.files);
        self.is_up();
    }

    /// Returns its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns where its database is.
    pub fn database(&self) -> PathBuf {
        self.files.path(DATABASE)
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, on the same port and store, when it has ended or was killed.
    pub fn start_again(&mut self) {
        self.process.kill();
        self.process = self.settings.spawn(&self.files);
        self.is_up();
    }

    /// Starts it again as another image.
    pub fn deploy(&mut self, image: &str) {
        let variable = self.settings.env.iter_mut().find(|(name, _)| name == "FLY_IMAGE_REF");
        variable.expect("it is on a flylet apart").1 = image.to_owned();
        self.start_again();
    }

    /// Returns a client of it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the `midge` command with arguments, for this server.
    pub fn midge(&self, args: &[&str]) -> Command {
        let mut command = midge(args);
        command.env("MIDGE_SERVER", self.url());
        command
    }

    /// Enqueues a job with args.
    pub fn enqueue(&self, module: &str, args: Value) -> JobId {
        self.send(&request(module, args))
    }

    /// Enqueues a job with args into a queue.
    pub fn enqueue_in(&self, queue: &str, module: &str, args: Value) -> JobId {
        self.send(&request(module, args).queue(QueueName::new(queue).unwrap()))
    }

    /// Enqueues a job.
    pub fn send(&self, request: &EnqueueRequest) -> JobId {
        block_on(self.client.enqueue(request)).unwrap().id
    }

    /// Returns a job as it is now.
    pub fn job(&self, id: JobId) -> JobView {
        self.detail(id).job
    }

    /// Returns a job and its attempts as they are now.
    pub fn detail(&self, id: JobId) -> JobDetail {
        block_on(self.client.job(id)).unwrap()
    }

    /// Waits until a job has ended.
    #[track_caller]
    pub fn ended(&self, id: JobId) -> JobDetail {
        let job = block_on(self.client.wait(id, Some(DEADLINE))).unwrap();
        assert!(job.state.is_ended(), "job {id} has not ended: {job:?}");
        self.detail(id)
    }

    /// Waits until a job has ended with a result.
    #[track_caller]
    pub fn result(&self, id: JobId) -> Bytes {
        let job = self.ended(id).job;
        assert_eq!(job.state, State::Completed, "{job:?}");
        block_on(self.client.result_bytes(id)).unwrap()
    }

    /// Enqueues a job and waits until it has ended with a result in JSON.
    #[track_caller]
    pub fn run(&self, module: &str, args: Value) -> Value {
        serde_json::from_slice(&self.result(self.enqueue(module, args))).unwrap()
    }

    /// Returns the log of the last attempt at a job.
    pub fn log(&self, id: JobId) -> Bytes {
        block_on(self.client.log(id, None)).unwrap()
    }

    /// Waits until a job runs, and returns it then.
    #[track_caller]
    pub fn running(&self, id: JobId) -> JobView {
        eventually("the job runs", || {
            let job = self.job(id);
            assert!(!job.state.is_ended(), "{job:?}");
            (job.state == State::Running).then_some(job)
        })
    }

    /// Returns the Machines that it lists, newest first.
    pub fn machines(&self) -> Vec<MachineView> {
        block_on(self.client.machines()).unwrap().machines
    }

    /// Returns its Machines that run, or will without anybody deciding it again.
    pub fn live_machines(&self) -> Vec<MachineView> {
        let live = ["creating", "starting", "up", "draining", "left", "resting"];
        self.machines().into_iter().filter(|machine| live.contains(&machine.state.as_str())).collect()
    }
}

const DATABASE: &str = "midge.db";
const LOOPBACK: &str = "127.0.0.1";

impl Settings {
    fn url(&self) -> String {
        format!("http://{}:{}", self.ip, self.port)
    }

    fn client(&self) -> Client {
        Client::new(&self.url()).unwrap().tries(20)
    }

    fn spawn(&self, files: &Files) -> Process {
        let mut command = midge(&["serve", "--modules"]);
        command.arg(self.modules.dir()).arg("--host-program").arg(host_program());
        command.arg("--listen").arg(format!("{}:{}", self.ip, self.port));
        if !self.args.iter().any(|arg| arg == "--memory") {
            command.arg("--db").arg(files.path(DATABASE));
        }
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        Process::start("midge serve", command)
    }
}

/// Runs `midge serve` with further arguments, where it is expected to refuse to start.
pub fn serve(modules: &Modules, args: &[&str]) -> Ran {
    let files = Files::new();
    let mut command = midge(&["serve", "--modules"]);
    command.arg(modules.dir()).arg("--host-program").arg(host_program());
    if !args.contains(&"--db") {
        command.arg("--db").arg(files.path(DATABASE));
    }
    if !args.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    command.args(args);
    run(command, b"")
}

/// Returns a request for a job with args.
pub fn request(module: &str, args: Value) -> EnqueueRequest {
    EnqueueRequest::new(ModuleName::new(module).unwrap()).args(&args).unwrap()
}

/// Returns a port that nobody listens on. Somebody might, before it is used, but ports are not given out twice soon.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running `midge flylet`.
pub struct Flylet {
    process: Process,
    port: u16,
    args: Vec<String>,
}

impl Flylet {
    /// The token that its API asks for.
    pub const TOKEN: &str = "flylet-token";

    /// Starts a flylet.
    pub fn start() -> Flylet {
        Flylet::start_with(&[])
    }

    /// Starts a flylet with further arguments.
    pub fn start_with(args: &[&str]) -> Flylet {
        Flylet::start_as(args, |command| command)
    }

    /// Starts a flylet with further arguments by a command that `wrap` makes of its own.
    pub fn start_as(args: &[&str], wrap: impl Fn(Command) -> Command) -> Flylet {
        let port = free_port();
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let process = Process::start("midge flylet", wrap(Flylet::command(port, &args)));
        let mut flylet = Flylet { process, port, args };
        flylet.is_up();
        flylet
    }

    fn command(port: u16, args: &[String]) -> Command {
        let listen = format!("127.0.0.1:{port}");
        let mut command = midge(&["flylet", "--listen", &listen, "--token", Flylet::TOKEN]);
        command.args(args);
        command
    }

    fn is_up(&mut self) {
        let url = self.url();
        self.process.says("where it listens", |output| output.contains(&url).then_some(()));
    }

    /// Returns its URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port, when it was killed.
    pub fn start_again(&mut self) {
        self.process.kill();
        self.process = Process::start("midge flylet", Flylet::command(self.port, &self.args));
        self.is_up();
    }

    /// Calls its API about its app, and returns the answer; nothing where that has none.
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let authorization = format!("Bearer {}", Flylet::TOKEN);
        let headers = [("Host", "127.0.0.1"), ("Authorization", authorization.as_str())];
        let url = format!("{}/v1/apps/midge/{path}", self.url());
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let reply = super::http(method, &url, &headers, &body);
        serde_json::from_slice(&reply.body).unwrap_or_default()
    }

    /// Returns how many Machines it has that are not destroyed.
    pub fn machines(&self) -> usize {
        let machines = self.call("GET", "machines", &Value::Null);
        machines.as_array().unwrap_or_else(|| panic!("{machines}")).len()
    }
}
