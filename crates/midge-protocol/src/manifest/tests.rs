use super::*;
use crate::job::Backoff;

fn manifest(limits: AttemptLimits, retry: RetryPolicy, policy: QueuePolicy) -> Manifest {
    let entry = ModuleEntry {
        file: "a.cwasm".to_owned(),
        size: 0,
        sha256: String::new(),
        xxh3: String::new(),
        source_sha256: String::new(),
        queue: QueueName::default_queue(),
        limits,
        retry,
        env: Vec::new(),
        dirs: BTreeMap::new(),
        enqueues: BTreeSet::new(),
        http: Vec::new(),
        secrets: BTreeMap::new(),
    };
    Manifest {
        format: FORMAT,
        wasmtime: String::new(),
        config_hash: String::new(),
        cpu: String::new(),
        modules: [(ModuleName::new("a").unwrap(), entry)].into(),
        server: ServerPolicy::default(),
        prices: Prices::default(),
        queues: [(QueueName::default_queue(), policy)].into(),
        schedules: BTreeMap::new(),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
    }
}

fn declaring(declared: &[(&str, u32)], server: ServerPolicy) -> Manifest {
    let policy = |max_machines| QueuePolicy { max_machines, ..QueuePolicy::default() };
    let declared = declared.iter().map(|(name, max)| (QueueName::new(*name).unwrap(), policy(*max)));
    let good = manifest(AttemptLimits::default(), RetryPolicy::default(), QueuePolicy::default());
    Manifest { modules: BTreeMap::new(), server, queues: declared.collect(), ..good }
}

#[test]
fn a_manifest_with_a_number_out_of_bounds_says_which_and_what_it_may_be() {
    let good = || (AttemptLimits::default(), RetryPolicy::default(), QueuePolicy::default());
    let says = |(limits, retry, policy)| manifest(limits, retry, policy).check().map_err(|e| e.to_string());
    assert_eq!(says(good()), Ok(()));
    let (limits, retry, policy) = good();
    let error =
        says((limits, RetryPolicy { max_attempts: u32::MAX, ..retry.clone() }, policy.clone())).unwrap_err();
    assert_eq!(error, "`max_attempts` of module `a` is 4294967295, and may be from 1 to 1000");
    let error =
        says((AttemptLimits { time_ms: u64::MAX, ..limits }, retry.clone(), policy.clone())).unwrap_err();
    assert!(error.contains("from 1 to 86400000"), "{error}");
    let backoff = Backoff::Fixed { wait_ms: u64::MAX };
    let error = says((limits, RetryPolicy { backoff, ..retry.clone() }, policy.clone())).unwrap_err();
    assert!(error.starts_with("`wait_ms` of `backoff` of module `a` is "), "{error}");
    for policy in [
        QueuePolicy { max_machines: 1_001, ..policy.clone() },
        QueuePolicy { warm_machines: 5, ..policy.clone() },
        QueuePolicy { jobs_per_machine: 0, ..policy.clone() },
        QueuePolicy { max_jobs: u64::MAX, ..policy.clone() },
        QueuePolicy { wait: Wait::Millis(u64::MAX), ..policy },
    ] {
        assert!(
            says((limits, retry.clone(), policy.clone())).unwrap_err().contains("queue `default`"),
            "{policy:?}"
        );
    }
}

#[test]
fn a_manifest_whose_env_or_folders_cannot_be_given_says_which() {
    let good = manifest(AttemptLimits::default(), RetryPolicy::default(), QueuePolicy::default());
    let says = |change: &dyn Fn(&mut Manifest, &mut ModuleEntry)| {
        let mut bad = good.clone();
        let (name, mut entry) = bad.modules.pop_first().unwrap();
        change(&mut bad, &mut entry);
        bad.modules.insert(name, entry);
        bad.check().map_err(|error| error.to_string())
    };
    assert_eq!(says(&|_, _| ()), Ok(()));
    let large = || "x".repeat(limits::ENV_BYTES_MAX);
    assert!(says(&|bad, _| drop(bad.env.insert("A".into(), large()))).unwrap_err().contains("`A`"));
    let folder = |path: &str| Folder { path: path.into(), read_only: false };
    for (guest, path) in [("d", "/d"), ("/d/", "/d"), ("/d", "/d/.."), ("/d\0", "/d"), ("/d", "/\u{1b}d")] {
        let error = says(&|_, entry| drop(entry.dirs.insert(guest.into(), folder(path)))).unwrap_err();
        assert!(error.starts_with("module `a`: `/") || error.starts_with("module `a`: `d`"), "{error}");
    }
    let error = says(&|_, entry| entry.env.push("MIDGE_SECRET".into())).unwrap_err();
    assert!(error.starts_with("module `a`: `MIDGE_SECRET`"), "{error}");
}

#[test]
fn a_folder_reads_as_it_is_written_and_one_that_can_be_written_is_its_path() {
    let read = |json: &str| serde_json::from_str::<Folder>(json).unwrap();
    for (json, read_only) in [(r#""/srv/data""#, false), (r#"{"path":"/srv/data","read_only":true}"#, true)] {
        let folder = read(json);
        assert_eq!(folder, Folder { path: "/srv/data".into(), read_only });
        assert_eq!(serde_json::to_string(&folder).unwrap(), json);
    }
    assert!(!read(r#"{"path":"/srv/data"}"#).read_only);
    assert!(serde_json::from_str::<Folder>(r#"{"read_only":true}"#).is_err());
}

#[test]
fn a_server_has_twenty_machines_or_what_its_queues_were_given_or_what_it_is_told() {
    let max = |declared: &[(&str, u32)], told| {
        let server = ServerPolicy { max_machines: told, ..ServerPolicy::default() };
        declaring(declared, server).max_machines()
    };
    assert_eq!(max(&[], None), 20);
    assert_eq!(max(&[("a", 4), ("b", 4)], None), 20);
    assert_eq!(max(&[("a", 40), ("b", 4)], None), 44, "nobody declares a number to be given less");
    assert_eq!(max(&[("a", 40)], Some(3)), 3);
    assert_eq!(max(&[], Some(u32::MAX)), limits::SERVER_MACHINES_MAX);
}

#[test]
fn a_manifest_that_declares_queues_is_meant_to_have_declared_all() {
    let only = |declared: &[(&str, u32)], told| {
        let server = ServerPolicy { only_declared_queues: told, ..ServerPolicy::default() };
        declaring(declared, server).only_declared_queues()
    };
    assert!(only(&[("a", 1)], None) && only(&[], Some(true)));
    assert!(!only(&[], None) && !only(&[("a", 1)], Some(false)));
    let declares = declaring(&[("a", 1)], ServerPolicy::default());
    let knows = |name| declares.knows_queue(&QueueName::new(name).unwrap());
    assert!(knows("a") && knows("default") && !knows("b"));
}

#[test]
fn a_wait_reads_as_it_is_written() {
    for text in ["forever", "600", "0.5", "0"] {
        assert_eq!(text.parse::<Wait>().unwrap().to_string(), text);
    }
    assert!("-1".parse::<Wait>().is_err());
    assert!("soon".parse::<Wait>().is_err());
    assert!("NaN".parse::<Wait>().is_err());
}

#[test]
fn a_pool_counts_once_against_the_server_and_its_queues_say_one_thing_of_it() {
    let name = |name: &str| QueueName::new(name).unwrap();
    let pooled = |max_machines| QueuePolicy {
        pool: Some(name("small")),
        max_machines,
        max_running: Some(max_machines),
        ..QueuePolicy::default()
    };
    let of = |queues: &[(&str, QueuePolicy)]| Manifest {
        queues: queues.iter().map(|(queue, policy)| (name(queue), policy.clone())).collect(),
        ..declaring(&[], ServerPolicy::default())
    };
    let alike = QueuePolicy { max_running: None, ..pooled(30) };
    let good = of(&[("a", pooled(30)), ("b", alike), ("c", QueuePolicy::default())]);
    assert_eq!((good.check(), good.max_machines()), (Ok(()), 34));
    assert_eq!((good.served_as(&name("a")).as_str(), good.served_as(&name("c")).as_str()), ("small", "c"));
    assert_eq!(good.queues_served_as(&name("small")), [name("a"), name("b")]);
    assert_eq!(good.queues_served_as(&name("c")), [name("c")]);
    let pool = good.queue(&name("small"));
    assert_eq!((pool.max_machines, pool.max_running, pool.pool), (30, None, None));
    for (bad, says) in [
        (
            of(&[("a", pooled(3)), ("b", pooled(4))]),
            "queue `b` says something else of the Machines of pool `small`",
        ),
        (
            of(&[("a", pooled(3)), ("small", QueuePolicy::default())]),
            "its pool has the name of queue `small`",
        ),
    ] {
        assert!(bad.check().unwrap_err().to_string().contains(says));
    }
}
