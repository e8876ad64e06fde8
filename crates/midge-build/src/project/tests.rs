use midge_protocol::RegionName;
use midge_protocol::api::Unique;
use midge_protocol::job::Backoff;
use midge_protocol::manifest::{Destination, Idle, Keep, MachineSize, Missed, Rate, SecretSource, Wait};

use super::*;

mod again;
mod documents;
mod prices;
mod schedules;

fn parse(text: &str) -> Result<Project, ConfigError> {
    Project::parse(Path::new("app/midge.toml"), text)
}

const WHOLE: &str = r#"
[build]
out = "built"
cpu = "x86-64-v3"
rustc = "/opt/rust/bin/rustc"

[env]
LOG = "info"

[secrets.MAIL]
env = "MAIL_KEY"

[server]
max_machines = 12
only_declared_queues = false

[prices]
sizes = { "shared-cpu-1x:1024" = 6.70 }
shared_cpu = 2.19
performance_cpu = 33
memory_gib = 6.0
rootfs_gb = 0.15
rootfs_mb = 50
regions = { gru = 1.62 }

[queues.mail]
max_machines = 8
warm_machines = 1
ready_machines = 2
jobs_per_machine = 4
wait = "forever"
max_jobs = 1_000
max_running = 20
max_running_per_key = 2
rate = { jobs = 100, per = "1m" }
rate_per_key = { jobs = 5, per = "1s", burst = 3 }
keep_completed = "1h"
keep_discarded = "30d"
record = true
budget = { dollars_per_month = 20, at = "pause" }
size = { cpu_kind = "performance", cpus = 2, memory_mib = 4096 }
regions = ["ams", "eu", "any"]

[queues.single]
wait = 0.5
idle = "destroy"
boot_deadline = "30s"
max_age = "6h"
single_use = true
size = "shared-cpu-4x"

[modules.send]
package = "jobs/send"
bin = "sender"
queue = "mail"
time_limit = "700ms"
memory_limit = "64MiB"
max_attempts = 3
backoff = "200ms"
env = ["LOG", "SMTP_URL"]
enqueues = ["send"]
dirs = { "/data" = "/srv/data", "/fonts" = { path = "/usr/share/fonts", read_only = true } }
http = ["https://api.example.com", "https://*.example.com/v1/"]
secrets = { MAIL = ["https://api.example.com/send"] }

[modules.ready]
wasm = "ready.wasm"

[schedules.nightly]
module = "send"
queue = "single"
priority = -5
key = "acme"
expires_in = "6h"
tags = ["report", "night shift"]
meta = { by = "ops" }
unique = { by = ["module", "key"], states = ["waiting"], for = "1h", on_conflict = "replace" }
cron = "30 2 * * MON-FRI"
zone = "Europe/Berlin"
missed = "all"
missed_max = 7
jitter = "10m"
args = { to = ["a@b", -1, 1.5, true], nested = { x = 0x10 } }

[schedules.often]
module = "ready"
cron = "@hourly"
unique = true
"#;

#[test]
fn queues_of_a_pool_have_its_machines_and_limits_of_their_own() {
    let text = r#"
[pools.small]
max_machines = 3
ready_machines = 1
idle = "suspend"
size = { cpus = 2, memory_mib = 512 }
[queues.a]
pool = "small"
max_running = 7
[queues.b]
pool = "small"
[queues.c]
max_machines = 9
[modules.m]
package = "m"
memory_limit = "16MiB"
"#;
    let queues = parse(text).unwrap().queues;
    let (a, b, c) = (&queues["a"], &queues["b"], &queues["c"]);
    assert_eq!(
        (a.pool.as_ref().unwrap().as_str(), a.max_machines, a.size.as_ref().unwrap().cpus),
        ("small", 3, 2)
    );
    assert_eq!((a.max_running, b.max_running, c.pool.as_ref()), (Some(7), None, None));
    assert_eq!((a.of_pool(), b.idle), (b.of_pool(), Idle::Suspend));
}

#[test]
fn a_whole_file_is_read() {
    let project = parse(WHOLE).unwrap();
    assert_eq!(project.out, Path::new("app/built"));
    assert_eq!((project.cpu, project.rustc), (Cpu::V3, Some("/opt/rust/bin/rustc".into())));
    assert_eq!(project.env["LOG"], "info");

    assert_eq!((project.server.max_machines, project.server.only_declared_queues), (Some(12), Some(false)));
    let mail = &project.queues["mail"];
    assert_eq!((mail.max_machines, mail.warm_machines, mail.ready_machines), (8, 1, 2));
    assert_eq!((mail.jobs_per_machine, mail.wait, mail.max_jobs), (4, Wait::Forever, 1_000));
    assert_eq!((mail.max_running, mail.max_running_per_key), (Some(20), Some(2)));
    assert!(mail.record && !project.queues["single"].record);
    assert_eq!(mail.rate, Some(Rate { jobs: 100, per_ms: 60_000, burst: 2 }), "as many as come in a second");
    assert_eq!(mail.rate_per_key, Some(Rate { jobs: 5, per_ms: 1_000, burst: 3 }));
    let keep =
        Keep { completed_ms: Some(3_600_000), cancelled_ms: None, discarded_ms: Some(30 * 86_400_000) };
    assert_eq!(mail.keep, keep);
    let size = |cpu_kind: &str, cpus, memory_mib| {
        Some(MachineSize { cpu_kind: cpu_kind.to_owned(), cpus, memory_mib })
    };
    assert_eq!(mail.size, size("performance", 2, 4096));
    assert_eq!(project.queues["single"].size, size("shared", 4, 1024));
    assert_eq!(mail.regions.iter().map(RegionName::as_str).collect::<Vec<_>>(), ["ams", "eu", "any"]);
    let single = &project.queues["single"];
    assert_eq!((single.wait, single.single_use, single.places()), (Wait::Millis(500), true, 1));
    assert_eq!((single.idle, mail.idle), (Idle::Destroy, Idle::Stop));
    assert_eq!((single.boot_deadline_ms, single.max_age_ms), (30_000, Some(21_600_000)));
    assert_eq!((mail.boot_deadline_ms, mail.max_age_ms), (120_000, None));

    let send = &project.modules["send"];
    let folder = PathBuf::from("app/jobs/send");
    assert_eq!(send.source, ModuleSource::Package { folder, bin: Some("sender".to_owned()) });
    assert_eq!((send.limits.time_ms, send.limits.memory_bytes), (700, 64 << 20));
    let backoff = Backoff::Exponential { base_ms: 200, cap_ms: 3_600_000 };
    assert_eq!((send.retry.max_attempts, &send.retry.backoff), (3, &backoff));
    assert_eq!(send.env.len(), 2);
    assert_eq!(send.enqueues, [ModuleName::new("send").unwrap()].into());
    let folder = |path: &str, read_only| Folder { path: path.to_owned(), read_only };
    assert_eq!(send.dirs["/data"], folder("/srv/data", false));
    assert_eq!(send.dirs["/fonts"], folder("/usr/share/fonts", true));
    let texts =
        |destinations: &[Destination]| destinations.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&send.http), ["https://api.example.com", "https://*.example.com/v1/"]);
    assert_eq!(texts(&send.secrets["MAIL"]), ["https://api.example.com/send"]);
    assert_eq!(project.secrets["MAIL"], SecretSource { env: "MAIL_KEY".to_owned() });
}

#[test]
fn a_module_enqueues_those_that_the_project_has() {
    let declares = |list: &str| {
        parse(&format!("[modules.a]\nwasm = \"a\"\nenqueues = {list}\n[modules.resize]\nwasm = \"b\""))
    };
    let enqueues = |list| declares(list).map(|project| project.modules["a"].enqueues.len());
    assert_eq!((enqueues("[]").unwrap(), enqueues(r#"["a", "resize", "a"]"#).unwrap()), (0, 2));
    for (list, says) in [
        (r#"["resise"]"#, "there is no module `resise` to enqueue: did you mean `resize`?"),
        (r#"["mail"]"#, "there is no module `mail` to enqueue: add a section [modules.mail]"),
        (r#""resize""#, "a list of modules in quotes"),
        ("[1]", "a list of modules in quotes"),
    ] {
        let error = declares(list).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// What is said about what a module reaches, and where.
const WRONG_REACH: &[(&str, &str)] = &[
    (
        "http = \"https://a.example\"",
        "3: `http` must be a list of destinations, such as [\"https://api.example.com\"]",
    ),
    ("http = [\"a.example\"]", "3: `a.example` does not begin with `https://` or `http://`: write it as"),
    ("secrets = { KEY = [] }", "3: `KEY` goes nowhere"),
    ("secrets = { key = [\"https://a.example\"] }", "3: `key` is not a secret name: use 1 to 63 of A-Z"),
    (
        "secrets = { KYE = [\"https://a.example\"] }\n[secrets.KEY]\nenv = \"K\"",
        "3: there is no secret `KYE`: did you mean `KEY`?",
    ),
    (
        "secrets = { KEY = [\"https://a.example\"] }",
        "3: there is no secret `KEY`: add a section [secrets.KEY]",
    ),
    (
        "secrets = { KEY = [\"https://a.example\"] }\nenv = [\"K\"]\n[secrets.KEY]\nenv = \"K\"",
        "4: `K` holds the secret `KEY`, which guests are not to see",
    ),
    (
        "http = [\"https://b.example\"]\nsecrets = { KEY = [\"https://a.example\"] }\n[secrets.KEY]\nenv = \"K\"",
        "4: `KEY` may go to https://a.example, where no request may: add that to `http`",
    ),
    (
        "http = [\"https://*.a.example/v1/\"]\nsecrets = { KEY = [\"https://x.a.example/v2\"] }\n[secrets.KEY]\nenv = \"K\"",
        "4: `KEY` may go to https://x.a.example/v2, where no request may",
    ),
    ("[secrets.KEY]", "3: a secret needs `env`"),
    ("[secrets.KEY]\nenv = \"a b\"", "4: `a b` is not a name for env"),
    ("[secrets.KEY]\nvalue = \"x\"", "4: unknown key `value` in [secrets.KEY]"),
    ("[secrets.KEY]\nenv = \"K\"\n[env]\nK = \"x\"", "4: `K` holds the secret `KEY` and is in [env]"),
];

#[test]
fn what_is_wrong_with_a_module_s_reach_is_told_with_its_line_and_what_to_do() {
    for (text, expected) in WRONG_REACH {
        let message = parse(&format!("[modules.a]\nwasm = \"a\"\n{text}")).unwrap_err().to_string();
        assert!(message.starts_with(&format!("app/midge.toml:{expected}")), "{text}\n{message}");
    }
    let many = vec!["\"https://a.example\""; 101].join(", ");
    let message = parse(&format!("[modules.a]\nwasm = \"a\"\nhttp = [{many}]")).unwrap_err().to_string();
    assert!(message.contains("101 destinations, with those of its secrets: 100 are the most"), "{message}");
}

#[test]
fn a_module_needs_only_what_it_is_made_from() {
    let project = parse("[modules.ready]\nwasm = \"ready.wasm\"\n").unwrap();
    assert_eq!((project.out, project.cpu), ("app/target/midge".into(), Cpu::V2));
    let ready = &project.modules["ready"];
    assert_eq!(ready.source, ModuleSource::Wasm("app/ready.wasm".into()));
    assert_eq!(ready.queue, QueueName::default_queue());
    assert_eq!((ready.limits, &ready.retry), (AttemptLimits::default(), &RetryPolicy::default()));
}

/// Malformed files, and what is said about each.
const MALFORMED: &[(&str, &str)] = &[
    ("", "1: it names no module: add a section like [modules.hello]"),
    ("[modules", "1: this is not TOML"),
    ("[module.a]\nwasm = \"a\"", "1: unknown key `module`: did you mean `modules`?"),
    ("[build]\ntarget = \"x\"", "2: unknown key `target` in [build]: the keys are out, cpu, rustc"),
    ("[server]\nmax_machines = 0", "2: `max_machines` must be a whole number from 1 to 5000, not `0`"),
    (
        "[server]\nonly_declared = true",
        "2: unknown key `only_declared` in [server]: did you mean `only_declared_queues`?",
    ),
    ("[queues.a]\njobs_max = 1", "2: unknown key `jobs_max` in [queues.a]: did you mean `max_jobs`?"),
    (
        "[queues.a]\nmachines_max = 1",
        "2: unknown key `machines_max` in [queues.a]: did you mean `max_machines`?",
    ),
    (
        "[queues.a]\nkeep_completed = \"59s\"",
        "2: `keep_completed` must be a number with its unit in quotes, from \"1m\" to \"3650d\", not `\"59s\"`",
    ),
    (
        "[queues.a]\nkeep_discarded = \"forever\"",
        "2: `keep_discarded` must be a number with its unit in quotes, from \"1m\" to \"3650d\", not `\"forever\"`",
    ),
    (
        "[queues.a]\nkeep_canceled = \"1d\"",
        "2: unknown key `keep_canceled` in [queues.a]: did you mean `keep_cancelled`?",
    ),
    ("[queues.a]\nmax_running = 0", "2: `max_running` must be a whole number from 1 to 4294967295, not `0`"),
    (
        "[queues.a]\nmax_running_per_key = -1",
        "2: `max_running_per_key` must be a whole number from 1 to 4294967295, not `-1`",
    ),
    (
        "[queues.a]\nrate = { jobs = 0, per = \"1s\" }",
        "2: `jobs` must be a whole number from 1 to 4294967295, not `0`",
    ),
    (
        "[queues.a]\nrate = { jobs = 1, per = \"0s\" }",
        "2: `per` must be a duration such as \"1s\", \"5m\" or \"1h\", from 1ms to 720h, not `\"0s\"`",
    ),
    (
        "[queues.a]\nrate = { jobs = 1 }",
        "2: `rate` needs `jobs` and `per`, such as { jobs = 10, per = \"1s\" }",
    ),
    (
        "[queues.a]\nrate = { jobs = 1, every = \"1s\" }",
        "2: unknown key `every` in [queues.a.rate]: the keys are jobs, per, burst",
    ),
    (
        "[queues.a]\nrate_per_key = { jobs = 2_000, per = \"1ms\" }",
        "2: `jobs` must be at most 1000 in that time: leave the rate out where there is none",
    ),
    ("[queues.a]\nrate = \"10/s\"", "2: `rate` must be such as { jobs = 10, per = \"1s\" }, not `\"10/s\"`"),
    (
        "[queues.a]\nrate_per_key = 5",
        "2: `rate_per_key` must be such as { jobs = 10, per = \"1s\" }, not `5`",
    ),
    (
        "[queues.a]\nsize = \"small\"",
        "2: `small` is not a size: use Fly's name of one, such as `shared-cpu-2x` or `performance-1x`, or one with its memory, such as `shared-cpu-1x:1024`",
    ),
    (
        "[queues.a]\nsize = 2",
        "2: `size` must be such as \"shared-cpu-2x\" or { cpus = 2, memory_mib = 1024 }, not `2`",
    ),
    ("[queues.a]\nregions = \"ams\"", "2: `regions` must be such as [\"ams\", \"fra\"], not `\"ams\"`"),
    ("[queues.a]\nregions = []", "2: `regions` must be 1 to 16 names, such as [\"ams\", \"fra\"]"),
    ("[queues.a]\nregions = [\"ams\", \"ams\"]", "2: `ams` is among the regions twice"),
    (
        "[queues.a]\nregions = [\"Amsterdam\"]",
        "2: `Amsterdam` is not a region: use 2 to 16 of a-z and 0-9, such as `ams`, `eu` or `any`",
    ),
    (
        "[modules.a]\nwasm = \"a\"\nattempts_max = 3",
        "3: unknown key `attempts_max` in [modules.a]: did you mean `max_attempts`?",
    ),
    (
        "[queues.mail]\n\nmax_machine = 4",
        "3: unknown key `max_machine` in [queues.mail]: did you mean `max_machines`?",
    ),
    (
        "[queues.a.size]\nmemory_mb = 1",
        "2: unknown key `memory_mb` in [queues.a.size]: did you mean `memory_mib`?",
    ),
    (
        "[modules.a]\nwasm = \"a\"\ntimelimit = 1",
        "3: unknown key `timelimit` in [modules.a]: did you mean `time_limit`?",
    ),
    ("build = 1", "1: `build` must be a section like [build], not `1`"),
    (
        "[build]\ncpu = \"native\"",
        "2: `cpu` must be one of \"x86-64-v2\" and \"x86-64-v3\", not `\"native\"`",
    ),
    ("[build]\nout = 1", "2: `out` must be a string in quotes, not `1`"),
    ("[env]\nA = 1", "2: `A` must be a string in quotes, not `1`"),
    ("[env]\nMIDGE_SECRET = \"x\"", "2: `MIDGE_SECRET`: names that begin with MIDGE_ are midge's own"),
    ("[env]\n\"A B\" = \"x\"", "2: `A B` is not a name for env: use letters, digits and `_`"),
    ("[queues.Mail]", "1: `Mail` is not a queue name"),
    ("[queues.a]\nmax_machines = 0", "2: `max_machines` must be a whole number from 1 to 1000, not `0`"),
    ("[queues.a]\nmax_machines = -1", "2: `max_machines` must be a whole number from 1 to 1000, not `-1`"),
    (
        "[queues.a]\nmax_machines = \"4\"",
        "2: `max_machines` must be a whole number from 1 to 1000, not `\"4\"`",
    ),
    ("[queues.a]\nwarm_machines = 5", "2: `warm_machines` must be a whole number from 0 to 4, not `5`"),
    (
        "[queues.a]\nwait = \"soon\"",
        "2: `wait` must be seconds from 0 to 86400, or \"forever\", not `\"soon\"`",
    ),
    ("[queues.a]\nwait = 86_401", "2: `wait` must be seconds from 0 to 86400"),
    ("[queues.a]\npool = \"smal\"\n[pools.small]", "2: there is no pool `smal`: did you mean `small`?"),
    ("[queues.a]\npool = \"b\"", "2: there is no pool `b`: add a section [pools.b]"),
    (
        "[queues.a]\npool = \"b\"\nmax_machines = 2\n[pools.b]",
        "3: `max_machines` is the pool's, which all of its queues share: say it in [pools.b]",
    ),
    ("[pools.b]\nmax_running = 2", "2: unknown key `max_running` in [pools.b]"),
    ("[pools.b]", "1: no queue is in pool `b`: say `pool = \"b\"` in [queues.NAME]"),
    ("[pools.a]\n[queues.a]\npool = \"a\"", "1: pool `a` has the name of a queue"),
    (
        "[queues.a]\nmax_age = \"59s\"",
        "2: `max_age` must be a number with its unit in quotes, from \"1m\" to \"30d\", not `\"59s\"`",
    ),
    (
        "[queues.a]\nidle = \"sleep\"",
        "2: `idle` must be \"stop\", \"suspend\" or \"destroy\", not `\"sleep\"`",
    ),
    ("[queues.a]\nidle = \"suspend\"", "2: `idle` is \"suspend\", and the queue keeps no Machine ready"),
    (
        "[queues.a]\nready_machines = 1\nidle = \"suspend\"\nsize = { cpus = 2, memory_mib = 2_304 }",
        "3: `idle` is \"suspend\", and Fly suspends no Machine with more than 2048 MiB",
    ),
    ("[queues.a]\nrecord = \"all\"", "2: `record` must be true or false, not `\"all\"`"),
    ("[queues.a]\nsingle_use = 1", "2: `single_use` must be true or false, not `1`"),
    ("[queues.a]\nsingle_use = true\njobs_per_machine = 2", "3: a `single_use` Machine runs one job only"),
    (
        "[queues.a]\nsize = { cpu_kind = \"fast\" }",
        "2: `cpu_kind` must be \"shared\" or \"performance\", not \"fast\"",
    ),
    ("[queues.a]\nsize = { cpus = 3 }", "2: `cpus` of shared must be one of 1, 2, 4, 6, 8, not 3"),
    (
        "[queues.a]\nsize = { memory_mib = 1000 }",
        "2: `memory_mib` with 1 shared CPUs must be from 256 to 2048, in steps of 256, not 1000",
    ),
    ("[modules.\"a.b\"]\nwasm = \"a\"", "1: `a.b` is not a module name"),
    (
        "[modules.a]\nmax_attempts = 1",
        "1: a module needs `package` (the folder of a cargo package) or `wasm` (a file)",
    ),
    ("[modules.a]\npackage = \"a\"\nwasm = \"a\"", "3: a module has either `package` or `wasm`, not both"),
    ("[modules.a]\nwasm = \"a\"\nbin = \"a\"", "3: `bin` names a program of a `package`: it has none here"),
    ("[modules.a]\nwasm = \"a\"\nqueue = \"a b\"", "3: `a b` is not a queue name"),
    (
        "[modules.a]\nwasm = \"a\"\nqueue = \"mial\"\n[queues.mail]",
        "3: queue `mial` is not declared: did you mean `mail`? If not, add a section [queues.mial]",
    ),
    (
        "[modules.a]\nwasm = \"a\"\nqueue = \"defualt\"",
        "3: queue `defualt` is not declared: did you mean `default`?",
    ),
    (
        "[modules.a]\nwasm = \"a\"\ntime_limit = 5",
        "3: `time_limit` must be a number with its unit in quotes, from \"1ms\" to \"1d\", not `5`",
    ),
    (
        "[modules.a]\nwasm = \"a\"\ntime_limit = \"25h\"",
        "3: `time_limit` must be a number with its unit in quotes, from \"1ms\" to \"1d\", not `\"25h\"`",
    ),
    (
        "[modules.a]\nwasm = \"a\"\nmemory_limit = \"1KiB\"",
        "3: `memory_limit` must be a number with its unit in quotes, from \"64KiB\" to \"4GiB\", not `\"1KiB\"`",
    ),
    (
        "[modules.a]\nwasm = \"a\"\nmemory_limit = \"1GiB\"",
        "3: 2 jobs at once with 1GiB each do not fit a Machine of queue `default`, which has 1024 MiB (128 of them for the host): set `size.memory_mib` of the queue to 2176 or more",
    ),
    (
        "[queues.a]\njobs_per_machine = 8\n[modules.a]\nwasm = \"a\"\nqueue = \"a\"",
        "3: 8 jobs at once with 256MiB each do not fit a Machine of queue `a`",
    ),
    (
        "[modules.a]\nwasm = \"a\"\nmax_attempts = 0",
        "3: `max_attempts` must be a whole number from 1 to 1000, not `0`",
    ),
    (
        "[modules.a]\nwasm = \"a\"\nbackoff = \"2h\"",
        "3: `2h` is no backoff: 2h is above the usual cap of 1h: name one, such as `2h..30d`",
    ),
    (
        "[modules.a]\nwasm = \"a\"\nenv = \"LOG\"",
        "3: `env` must be a list of names in quotes, like [\"LOG\"], not `\"LOG\"`",
    ),
    (
        "[modules.a]\nwasm = \"a\"\nenv = [\"MIDGE_SECRET\"]",
        "3: `MIDGE_SECRET`: names that begin with MIDGE_",
    ),
    (
        "[modules.a]\nwasm = \"a\"\ndirs = { \"/a\" = \"../b\" }",
        "3: `../b` is not a path such as `/srv/data`: it begins with `/`, does not end with one",
    ),
    (
        "[modules.a]\nwasm = \"a\"\ndirs = { \"/a\" = 5 }",
        "3: `/a` must be a path in quotes, or { path = \"/srv/data\", read_only = true }, not `5`",
    ),
    (
        "[modules.a]\nwasm = \"a\"\ndirs = { \"/a\" = { path = \"/b\", readonly = true } }",
        "3: unknown key `readonly` in [modules.a.dirs./a]: did you mean `read_only`?",
    ),
    ("[modules.a]\nwasm = \"a\"\ndirs = { \"/a\" = { read_only = true } }", "3: a folder needs a `path`"),
    (
        "[modules.a]\nwasm = \"a\"\ndirs = { \"/a\" = { path = \"b\" } }",
        "3: `b` is not a path such as `/srv/data`",
    ),
    (
        "[modules.a]\nwasm = \"a\"\ndirs = { \"/d\" = \"/d\", \"/d/\" = \"/e\" }",
        "3: `/d/` is not a path such as `/srv/data`",
    ),
    ("[modules.a]\nwasm = \"a\"\ndirs = { d = \"/d\" }", "3: `d` is not a path such as `/srv/data`"),
    (
        "[modules.a]\nwasm = \"a\"\ndirs = { \"/a/..\" = \"/d\" }",
        "3: `/a/..` is not a path such as `/srv/data`",
    ),
    (
        "[modules.a]\nwasm = \"a\"\ndirs = { \"/\\u0000d\" = \"/d\" }",
        "3: `/\u{fffd}d` holds a character that cannot be seen: leave it out",
    ),
    (
        "[modules.a]\nwasm = \"a\"\ndirs = { \"/d\" = \"/\\u001b[2Jd\" }",
        "3: `/\u{fffd}[2Jd` holds a character that cannot be seen: leave it out",
    ),
    ("[env]\nA = \"\\u0000\"", "2: the value of `A` holds a zero byte"),
    ("[modules.a]\nwasm = \"a\"\nwasm = \"b\"", "3: this is not TOML: duplicate key"),
];

#[test]
fn every_mistake_is_told_with_its_line_and_what_is_expected() {
    for (text, expected) in MALFORMED {
        let message = parse(text).unwrap_err().to_string();
        assert!(message.starts_with(&format!("app/midge.toml:{expected}")), "{text}\n{message}");
    }
}

#[test]
fn env_that_no_host_could_be_started_with_is_refused() {
    let text = format!("[env]\nA = \"x\"\nB = \"{}\"\n[modules.a]\nwasm = \"a\"", "x".repeat(128 * 1024));
    let message = parse(&text).unwrap_err().to_string();
    assert!(message.starts_with("app/midge.toml:3: with `B` the env is larger than 128 KiB"), "{message}");
}

#[test]
fn a_queue_that_is_not_declared_and_looks_like_no_other_has_the_default_policy() {
    let project = parse("[modules.a]\nwasm = \"a\"\nqueue = \"night\"\n[queues.mail]\n").unwrap();
    assert_eq!(project.modules["a"].queue.as_str(), "night");
}

#[test]
fn a_missing_file_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let message = Project::read(folder.path()).unwrap_err().to_string();
    assert!(message.contains("midge.toml`: run `midge new NAME`"), "{message}");
}

#[test]
fn a_file_that_does_not_end_is_refused() {
    let message = Project::read(Path::new("/dev/zero")).unwrap_err().to_string();
    assert_eq!(message, "cannot read `/dev/zero`: it is larger than 1 MiB");
}
