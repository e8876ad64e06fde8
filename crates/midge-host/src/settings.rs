//! What the command line and the environment say. Flags override the environment; the secret has no flag.
//!
//! Invariant: nothing else in the host reads the environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt;
use midge_engine::{Dir, Loaded};
use midge_protocol::manifest::{Folder, Wait};
use midge_protocol::{MachineName, ModuleName, Secret, limits, shown};

/// How long attempts may go on after SIGTERM. Fly kills a Machine 5 s after the signal unless told otherwise, and
/// midge tells it otherwise.
const GRACE_DEFAULT: Duration = Duration::from_secs(10);
/// Fly's own most for `kill_timeout`.
const GRACE_MAX: Duration = Duration::from_secs(300);

/// The variable that holds the Machine's secret.
pub const SECRET: &str = "MIDGE_SECRET";
/// The variables that hold a server's own secrets, of which no host has need.
pub const SERVER_SECRETS: [&str; 2] = ["FLY_API_TOKEN", "MIDGE_TOKEN"];

const HELP: &str = "\
Runs midge jobs: compiled WASI modules.

Usage: midge-host work                  claims jobs from a server and runs them
       midge-host run MODULE [OPTIONS]  runs one module by hand, from stdin to stdout

See `midge-host work --help` and `midge-host run --help`.
";

const WORK_HELP: &str = "\
Claims jobs from a server, runs them, waits for more, and leaves.

Usage: midge-host work [OPTIONS]

Options (and the variables that they override):
  --server URL     server to ask, http://HOST:PORT[/PREFIX]; or up to four ways to it, with commas between  [MIDGE_SERVER]
  --machine NAME   name of this Machine at the server        [MIDGE_MACHINE]
  --modules DIR    folder that `midge build` wrote           [MIDGE_MODULES]
  --places N       attempts that run at once, default 2      [MIDGE_PLACES]
  --wait TIME      seconds to wait for another job, or `forever`, default 10  [MIDGE_WAIT]
  --grace SECONDS  time to finish in after SIGTERM or SIGINT, default 10      [MIDGE_GRACE]
  -h, --help       this text

The Machine's secret is read from MIDGE_SECRET. If MIDGE_LEASH_FD is set, the host exits at once when that pipe ends.

Exits with 0 if it left as it should, 1 on an error, 2 on wrong usage, 3 if the server does not know this Machine any
more, 4 if the server speaks another protocol, 5 if the server is lost, 6 if the leash ended.
";

const RUN_HELP: &str = "\
Runs one module by hand, without a server: stdin is its input, stdout its result, stderr its log.

Usage: midge-host run MODULE [OPTIONS] [-- GUEST ARGS...]

Options:
  --modules DIR      folder that `midge build` wrote  [MIDGE_MODULES]
  --args JSON        the job's args, default null
  --env K=V          a variable that the guest sees; may be repeated
  --dir HOST::GUEST  a folder that the guest sees; may be repeated
  --read-only-dir HOST::GUEST  a folder in which it can only read; may be repeated
  --time-limit TIME  such as 500ms, 30s, 5m or 1h; default: the module's
  --memory-limit N   in bytes, or such as 64MiB or 1GiB; default: the module's
  --timings          at the end, write to stderr where the time of the start went, as a line of JSON
  -h, --help         this text

Exits with 0 if the guest completed, its own code if it exited with another, 1 for any other cause, 2 on wrong usage.
A signal ends it as it ends any program.
";

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Write this text to stdout and exit.
    Help(&'static str),
    /// Run the jobs of a server's queue until there are none.
    Work(WorkSettings),
    /// Run one module by hand.
    Run(RunSettings),
}

/// Settings of `midge-host work`.
#[derive(Debug)]
pub struct WorkSettings {
    /// The ways to the server, the first to be tried first.
    pub servers: Vec<ServerUrl>,
    pub machine: MachineName,
    pub secret: Secret,
    pub modules: PathBuf,
    pub places: u32,
    pub wait: Wait,
    pub grace: Duration,
    pub leash_fd: Option<u32>,
}

/// Settings of `midge-host run`.
#[derive(Debug)]
pub struct RunSettings {
    pub module: ModuleName,
    pub modules: PathBuf,
    pub args: String,
    pub env: Vec<(String, String)>,
    pub dirs: Vec<Dir>,
    pub time_limit: Option<Duration>,
    pub memory_limit: Option<u64>,
    /// Tell where the time of the start went.
    pub timings: bool,
    pub guest_args: Vec<String>,
}

/// The URL of a server, in the parts that a request over HTTP needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    /// Empty, or a path without a slash at its end.
    pub prefix: String,
    /// Host and port as they were written: the `Host` header.
    pub authority: String,
}

/// Reads this process's command line and environment.
pub fn of_this_process() -> Result<Command, lexopt::Error> {
    read(std::env::args_os().skip(1), |name| std::env::var(name).ok())
}

fn read(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Command, lexopt::Error> {
    let mut parser = lexopt::Parser::from_args(args);
    match parser.next()? {
        Some(Value(word)) if word == "work" => read_work(parser, env),
        Some(Value(word)) if word == "run" => read_run(parser, env),
        Some(Value(word)) => Err(format!("there is no command `{}`: use work or run", word.display()).into()),
        Some(Long("help") | Short('h')) => Ok(Command::Help(HELP)),
        Some(other) => Err(other.unexpected()),
        None => Err("say what to do: work or run".into()),
    }
}

fn read_work(
    mut parser: lexopt::Parser,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Command, lexopt::Error> {
    const NAMES: [(&str, &str); 6] = [
        ("server", "MIDGE_SERVER"),
        ("machine", "MIDGE_MACHINE"),
        ("modules", "MIDGE_MODULES"),
        ("places", "MIDGE_PLACES"),
        ("wait", "MIDGE_WAIT"),
        ("grace", "MIDGE_GRACE"),
    ];
    let mut flags = BTreeMap::new();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(Command::Help(WORK_HELP)),
            Long(flag) => match NAMES.iter().find(|(name, _)| *name == flag) {
                Some(&(name, _)) => drop(flags.insert(name, parser.value()?.string()?)),
                None => return Err(arg.unexpected()),
            },
            other => return Err(other.unexpected()),
        }
    }
    // A variable that is set to nothing is not set: that is how some platforms unset them.
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let setting = |name: &str| {
        let &(_, variable) = NAMES.iter().find(|(n, _)| *n == name).expect("only listed names are asked for");
        let flag = flags.get(name).map(|value| (format!("--{name}"), value.clone()));
        flag.or_else(|| env(variable).map(|value| (variable.to_owned(), value)))
    };
    let required = |name: &str| {
        setting(name).ok_or_else(|| format!("--{name} is missing, and so is MIDGE_{}", name.to_uppercase()))
    };
    let grace = parsed(setting("grace"), |text| seconds(text, GRACE_MAX))?.unwrap_or(GRACE_DEFAULT);
    Ok(Command::Work(WorkSettings {
        servers: parsed(Some(required("server")?), servers)?.expect("it was given"),
        machine: parsed(Some(required("machine")?), MachineName::from_str)?.expect("it was given"),
        secret: Secret::new(env(SECRET).ok_or("MIDGE_SECRET is missing")?),
        modules: required("modules")?.1.into(),
        places: parsed(setting("places"), places)?.unwrap_or(limits::JOBS_PER_MACHINE_DEFAULT),
        wait: parsed(setting("wait"), Wait::from_str)?.unwrap_or_default(),
        grace,
        leash_fd: parsed(env("MIDGE_LEASH_FD").map(|v| ("MIDGE_LEASH_FD".to_owned(), v)), u32::from_str)?,
    }))
}

fn read_run(
    mut parser: lexopt::Parser,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Command, lexopt::Error> {
    let (mut module, mut modules) = (None, env("MIDGE_MODULES").filter(|v| !v.is_empty()).map(PathBuf::from));
    let mut settings = RunSettings {
        module: ModuleName::new("none").expect("it is a plain name"),
        modules: PathBuf::new(),
        args: "null".to_owned(),
        env: Vec::new(),
        dirs: Vec::new(),
        time_limit: None,
        memory_limit: None,
        timings: false,
        guest_args: Vec::new(),
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(Command::Help(RUN_HELP)),
            Long("modules") => modules = Some(parser.value()?.into()),
            Long("args") => settings.args = parser.value()?.parse_with(json)?,
            Long("env") => settings.env.push(parser.value()?.parse_with(variable)?),
            Long("dir") => settings.dirs.push(parser.value()?.parse_with(dir)?),
            Long("read-only-dir") => {
                settings.dirs.push(Dir { read_only: true, ..parser.value()?.parse_with(dir)? });
            }
            Long("time-limit") => settings.time_limit = Some(parser.value()?.parse_with(duration)?),
            Long("memory-limit") => settings.memory_limit = Some(parser.value()?.parse_with(memory)?),
            Long("timings") => settings.timings = true,
            Value(name) if module.is_none() => {
                module = Some(name.parse_with(ModuleName::from_str)?);
                // `--` ends the options; whatever is behind it is the guest's.
                if let Some(raw) = parser.try_raw_args()
                    && raw.peek().is_some_and(|next| next == "--")
                {
                    settings.guest_args = parser.raw_args()?.skip(1).map(text).collect::<Result<_, _>>()?;
                }
            }
            Value(arg) => settings.guest_args.push(text(arg)?),
            other => return Err(other.unexpected()),
        }
    }
    settings.module = module.ok_or("say which module to run: midge-host run MODULE")?;
    settings.modules =
        modules.ok_or("say where the compiled modules are: --modules DIR, or MIDGE_MODULES")?;
    Ok(Command::Run(settings))
}

/// Parses a setting, and says in an error where its value came from.
fn parsed<T, E: Display>(
    setting: Option<(String, String)>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, lexopt::Error> {
    let Some((name, value)) = setting else { return Ok(None) };
    parse(&value).map(Some).map_err(|e| format!("{name}: {e}").into())
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<ServerUrl, String> {
        let wrong = |why: &str| format!("`{}` {why}: use http://HOST:PORT", shown::url(url));
        let rest = url.strip_prefix("http://").ok_or_else(|| {
            // Machines reach their server on a private network, which is encrypted already.
            wrong("is not an http URL")
        })?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains(['?', '#', ' ']) || authority.contains('@') {
            return Err(wrong("has more than host, port and path"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => v6.split_once(']').ok_or_else(|| wrong("has an unclosed `[`"))?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| wrong("has no valid port"))?,
            None if port.is_empty() => 80,
            None => return Err(wrong("has no valid port")),
        };
        if host.is_empty() {
            return Err(wrong("has no host"));
        }
        let path = path.trim_end_matches('/');
        let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
        Ok(ServerUrl { host: host.to_owned(), port, prefix, authority: authority.to_owned() })
    }
}

/// Reads the ways to a server: by its address, say, and by names that lead to it wherever it is.
fn servers(text: &str) -> Result<Vec<ServerUrl>, String> {
    let servers =
        text.split(',').map(|url| url.trim().parse()).collect::<Result<Vec<ServerUrl>, String>>()?;
    if servers.len() > limits::SERVER_URLS_MAX {
        return Err(format!("{} URLs, and there may be {}", servers.len(), limits::SERVER_URLS_MAX));
    }
    Ok(servers)
}

fn places(text: &str) -> Result<u32, String> {
    let most = limits::PLACES_MAX;
    text.parse().ok().filter(|n| (1..=most).contains(n)).ok_or(format!("`{text}` is not from 1 to {most}"))
}

fn seconds(text: &str, most: Duration) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    seconds.filter(|s| *s <= most).ok_or(format!("`{text}` is not from 0 to {} seconds", most.as_secs()))
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    let duration = number.parse::<f64>().ok().and_then(|n| Duration::try_from_secs_f64(n * unit).ok());
    let in_bounds = duration.filter(|d| !d.is_zero() && *d <= limits::TIME_LIMIT_MAX);
    in_bounds.ok_or_else(|| format!("`{text}` is not a time up to a day: use 500ms, 30s, 5m or 1h"))
}

fn memory(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit {
        "" => Some(0),
        "KiB" => Some(10),
        "MiB" => Some(20),
        "GiB" => Some(30),
        _ => None,
    };
    let bytes = shift.and_then(|shift| number.parse::<u64>().ok()?.checked_mul(1 << shift));
    let in_bounds = bytes.filter(|bytes| (1..=limits::MEMORY_LIMIT_MAX).contains(bytes));
    in_bounds.ok_or_else(|| format!("`{text}` is not a memory limit up to 4GiB: use bytes, KiB, MiB or GiB"))
}

fn json(text: &str) -> Result<String, String> {
    if text.len() > limits::ARGS_BYTES_MAX {
        return Err(format!("args of {} bytes, the limit is {}", text.len(), limits::ARGS_BYTES_MAX));
    }
    serde_json::from_str::<&serde_json::value::RawValue>(text)
        .map(|json| json.get().to_owned())
        .map_err(|e| format!("args that are not JSON: {e}"))
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or(format!("`{text}` is not K=V"))?;
    if name.starts_with("MIDGE_") || name.is_empty() {
        return Err(format!("`{name}` cannot be set: names that begin with MIDGE_ are midge's own"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn dir(text: &str) -> Result<Dir, String> {
    match text.split_once("::") {
        Some((host, guest)) if !host.is_empty() && !guest.is_empty() => {
            Ok(Dir { host: host.into(), guest: guest.to_owned(), read_only: false })
        }
        _ => Err(format!("`{text}` is not HOST::GUEST")),
    }
}

fn text(arg: OsString) -> Result<String, lexopt::Error> {
    arg.into_string().map_err(lexopt::Error::NonUnicodeValue)
}

/// Returns the one variable that the program which has the network is given too: the certificates that it trusts beside its own.
pub fn certificates() -> Option<(&'static str, OsString)> {
    const NAME: &str = "SSL_CERT_FILE";
    Some((NAME, std::env::var_os(NAME)?))
}

/// Returns the variables of this Machine that a module declares, those that are set.
pub fn guest_env(names: &[String]) -> Vec<(String, String)> {
    names.iter().filter_map(|name| Some((name.clone(), std::env::var(name).ok()?))).collect()
}

/// Returns the folders that a module declares.
pub fn dirs(module: &Loaded) -> Vec<Dir> {
    let dirs = module.entry.dirs.iter();
    let dir = |(guest, folder): (&String, &Folder)| Dir {
        host: folder.path.clone().into(),
        guest: guest.clone(),
        read_only: folder.read_only,
    };
    dirs.map(dir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        let value = match name {
            "MIDGE_SERVER" => "http://10.0.0.1:8080/app/",
            "MIDGE_MACHINE" => "m-1",
            "MIDGE_SECRET" => "hunter2",
            "MIDGE_MODULES" => "/modules",
            "MIDGE_WAIT" => "forever",
            "MIDGE_GRACE" => "",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn work(line: &str) -> WorkSettings {
        match read(words(line), env) {
            Ok(Command::Work(settings)) => settings,
            other => panic!("{other:?}"),
        }
    }

    fn run(line: &str) -> RunSettings {
        match read(words(line), env) {
            Ok(Command::Run(settings)) => settings,
            other => panic!("{other:?}"),
        }
    }

    fn error(line: &str) -> String {
        read(words(line), env).unwrap_err().to_string()
    }

    #[test]
    fn work_reads_the_environment_and_flags_override_it() {
        let settings = work("work");
        assert_eq!(settings.servers[0].prefix, "/app");
        assert_eq!((settings.wait, settings.places, settings.grace), (Wait::Forever, 2, GRACE_DEFAULT));
        let settings = work("work --wait 5 --places=4 --machine m-2");
        assert_eq!((settings.wait, settings.places), (Wait::Millis(5000), 4));
        assert_eq!(settings.machine.as_str(), "m-2");
    }

    #[test]
    fn what_is_wrong_or_missing_is_named_with_where_it_came_from() {
        assert!(error("work --places 0").contains("--places: `0`"));
        assert!(error("work --secret x").contains("--secret"));
        assert!(error("wrok").contains("`wrok`"));
        let missing = read(words("work"), |_| None).unwrap_err().to_string();
        assert_eq!(missing, "--server is missing, and so is MIDGE_SERVER");
    }

    #[test]
    fn there_may_be_a_few_ways_to_the_server() {
        let servers =
            work("work --server http://[fdaa::3]:7433,http://app.process.shop.internal:7433/midge").servers;
        assert_eq!((servers.len(), servers[1].prefix.as_str()), (2, "/midge"));
        let five = ["http://a:1"; 5].join(",");
        assert!(error(&format!("work --server {five}")).contains("5 URLs, and there may be 4"));
        assert!(error("work --server http://a:1,").contains("is not an http URL"));
    }

    #[test]
    fn a_server_url_may_be_v6_and_have_a_prefix_but_not_https() {
        let url: ServerUrl = "http://[fdaa::3]:8080".parse().unwrap();
        assert_eq!(
            (url.host.as_str(), url.port, url.authority.as_str()),
            ("fdaa::3", 8080, "[fdaa::3]:8080")
        );
        let url: ServerUrl = "http://app.internal/a/b/".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.prefix.as_str()), ("app.internal", 80, "/a/b"));
        for bad in ["https://x", "http://", "http://x:y", "http://x:1?q", "http://u@x", "x:80", "http://[::1"]
        {
            assert!(bad.parse::<ServerUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn run_takes_all_behind_the_dashes_for_the_guest() {
        let settings = run(
            "run resize --args {\"a\":1} --env K=V=W --dir .::/data --read-only-dir /fonts::/fonts --time-limit 1.5s -- --loud x",
        );
        assert_eq!((settings.module.as_str(), settings.args.as_str()), ("resize", "{\"a\":1}"));
        assert_eq!(settings.env, [("K".to_owned(), "V=W".to_owned())]);
        let dir = |host: &str, guest: &str, read_only| Dir {
            host: host.into(),
            guest: guest.to_owned(),
            read_only,
        };
        assert_eq!(settings.dirs, [dir(".", "/data", false), dir("/fonts", "/fonts", true)]);
        assert_eq!(settings.time_limit, Some(Duration::from_millis(1500)));
        assert_eq!(settings.guest_args, ["--loud", "x"]);
        assert_eq!(run("run resize -- --help").guest_args, ["--help"]);
    }

    #[test]
    fn limits_have_units_and_bounds() {
        assert_eq!(run("run m --memory-limit 64MiB").memory_limit, Some(64 << 20));
        for bad in [
            "run m --memory-limit 5GiB",
            "run m --memory-limit 1GB",
            "run m --time-limit 2d",
            "run m --args {",
        ] {
            assert!(read(words(bad), env).is_err(), "{bad}");
        }
    }
}
