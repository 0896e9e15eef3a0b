//! Every setting lands where the engine expects it, and is refused by an engine that is too old for it.

use super::*;
use essaim_model::Image;
use essaim_model::service::{
    Capability, HealthCheck, HostEntry, Mounts, OomScoreAdj, Swap, Swappiness, Ulimit, Variable, VolumeOptions,
};
use essaim_model::{Labels, PortConfig, PortProtocol, PublishMode, TaskId};
use serde_json::{Value, json};

fn plain() -> Run {
    Run::new(TaskId::from_bits(1), "web.1.x", ContainerSpec::new(Image::from("web:1")))
}

fn with(change: impl FnOnce(&mut ContainerSpec)) -> Run {
    let mut run = plain();
    change(&mut run.container);
    run
}

/// The body as JSON, without the members that every body has.
fn shown(run: &Run, api: Api) -> Value {
    let mut body = serde_json::to_value(body(run, vec![], api, "bridge").expect("a body")).expect("JSON");
    let members = body.as_object_mut().expect("an object");
    assert_eq!(members.remove("Image"), Some(json!("web:1")));
    members.retain(|_, value| !value.is_null());
    let host = members.get_mut("HostConfig").and_then(Value::as_object_mut).expect("an object");
    assert_eq!(host.remove("NetworkMode"), Some(json!("bridge")));
    host.retain(|_, value| !value.is_null());
    if host.is_empty() {
        members.remove("HostConfig");
    }
    body
}

/// Checks what a setting adds to the body of a plain task.
fn check(change: impl FnOnce(&mut Run), expected: &Value) {
    let mut run = plain();
    change(&mut run);
    let (without, mut body) = (shown(&plain(), Api::NEWEST), shown(&run, Api::NEWEST));
    let members = body.as_object_mut().expect("an object");
    members.retain(|name, value| without.get(name) != Some(value));
    assert_eq!(&body, expected);
}

fn mounts(of: impl IntoIterator<Item = MountSource>) -> Mounts {
    let mount = |(at, source)| Mount::parse(&format!("/m{at}"), source).expect("a mount");
    Mounts::parse(of.into_iter().enumerate().map(mount).collect()).expect("mounts")
}

#[test]
fn a_plain_task_asks_for_its_image_and_nothing_else() {
    assert_eq!(shown(&plain(), Api::OLDEST), json!({ "Labels": {}, "StopTimeout": 10 }));
}

#[test]
fn a_port_in_host_mode_is_a_binding_on_every_address_of_the_machine() {
    let port = |target, published| {
        let (protocol, mode) = (PortProtocol::Tcp, PublishMode::Host);
        PortConfig { name: String::new(), protocol, target, published, mode }
    };
    check(
        |it| it.ports = vec![port(80, 8085), port(80, 8086)],
        &json!({
            "ExposedPorts": {"80/tcp": {}},
            "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8085"}, {"HostPort": "8086"}]}},
        }),
    );
}

#[test]
fn the_program_and_its_surroundings_are_those_of_the_spec() {
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    check(|it| it.container.command = words(&["/bin/sh", "-c"]), &json!({ "Entrypoint": ["/bin/sh", "-c"] }));
    check(|it| it.container.args = words(&["true"]), &json!({ "Cmd": ["true"] }));
    check(|it| it.container.hostname = Some("h".into()), &json!({ "Hostname": "h" }));
    check(|it| it.container.dir = Some("/srv".into()), &json!({ "WorkingDir": "/srv" }));
    check(|it| it.container.user = Some("1:2".into()), &json!({ "User": "1:2" }));
    check(|it| it.container.groups = words(&["audio"]), &json!({ "HostConfig": { "GroupAdd": ["audio"] } }));
    check(|it| it.container.init = Some(true), &json!({ "HostConfig": { "Init": true } }));
    check(|it| it.container.tty = true, &json!({ "Tty": true }));
    check(|it| it.container.open_stdin = true, &json!({ "OpenStdin": true }));
    check(|it| it.container.read_only = true, &json!({ "HostConfig": { "ReadonlyRootfs": true } }));
    check(|it| it.container.stop_signal = "SIGUSR1".parse().ok(), &json!({ "StopSignal": "SIGUSR1" }));
    let grace = Some(Duration::from_millis(1500));
    check(|it| it.container.stop_grace = grace, &json!({ "StopTimeout": 2 }));
    let marks = || Labels::from([("com.docker.swarm.task".to_owned(), String::new())]);
    check(|it| it.labels = marks(), &json!({ "Labels": { "com.docker.swarm.task": "" } }));
    let own = || Labels::from([("a".to_owned(), "1".to_owned()), ("com.docker.swarm.task".into(), "mine".into())]);
    let change = |it: &mut Run| (it.labels, it.container.labels) = (marks(), own());
    check(change, &json!({ "Labels": { "a": "1", "com.docker.swarm.task": "" } }));
}

#[test]
fn the_last_value_of_a_variable_counts_and_one_without_value_removes_the_images() {
    let env = [("A", "1"), ("B", ""), ("A", "2"), ("GONE", ""), ("EMPTY", "")];
    let change = |it: &mut Run| {
        let variable = |text| Variable::parse(text).expect("a variable");
        it.container.env = ["A=1", "B=x", "GONE", "EMPTY="].map(variable).into();
        it.env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    };
    check(change, &json!({ "Env": ["B=", "A=2", "GONE", "EMPTY="] }));
}

#[test]
fn what_shapes_the_container_goes_into_its_host_config() {
    let host = |expected: Value| json!({ "HostConfig": expected });
    let sysctls = || Labels::from([("net.core.somaxconn".to_owned(), "9".to_owned())]);
    check(|it| it.container.sysctls = sysctls(), &host(json!({ "Sysctls": { "net.core.somaxconn": "9" } })));
    let cap = |text| vec![Capability::parse(text).expect("a capability")];
    check(|it| it.container.capability_add = cap("NET_ADMIN"), &host(json!({ "CapAdd": ["CAP_NET_ADMIN"] })));
    check(|it| it.container.capability_drop = cap("ALL"), &host(json!({ "CapDrop": ["ALL"] })));
    let limit = || vec![Ulimit::parse("nofile", 10, -1).expect("a limit")];
    let expected = host(json!({ "Ulimits": [{ "Name": "nofile", "Soft": 10, "Hard": -1 }] }));
    check(|it| it.container.ulimits = limit(), &expected);
    let score = OomScoreAdj::parse(-500).expect("a score");
    check(|it| it.container.oom_score_adj = score, &host(json!({ "OomScoreAdj": -500 })));
    check(|it| it.container.isolation = Isolation::Process, &host(json!({ "Isolation": "process" })));
    let lines = || vec![HostEntry::parse("10.0.0.9 a b").expect("hosts"), HostEntry::parse("::1 c").expect("hosts")];
    check(|it| it.container.hosts = lines(), &host(json!({ "ExtraHosts": ["a:10.0.0.9", "b:10.0.0.9", "c:::1"] })));
    let dns = || DnsConfig::parse(&["10.0.0.2".into()], vec!["lab".into()], vec!["ndots:1".into()]).expect("dns");
    let expected = host(json!({ "Dns": ["10.0.0.2"], "DnsSearch": ["lab"], "DnsOptions": ["ndots:1"] }));
    check(|it| it.container.dns = Some(dns()), &expected);
    let driver = || LogDriver { name: Some("local".into()), options: Labels::from([("max-file".into(), "2".into())]) };
    let expected = host(json!({ "LogConfig": { "Type": "local", "Config": { "max-file": "2" } } }));
    check(|it| it.log_driver = Some(driver()), &expected);
}

#[test]
fn privileges_become_options_of_the_security_modules() {
    let check = |privileges: Privileges, expected: &[&str]| {
        let expected = json!({ "HostConfig": { "SecurityOpt": expected } });
        check(|it| it.container.privileges = Some(privileges), &expected);
    };
    let selinux = SeLinux { disable: false, user: "u".into(), role: "r".into(), kind: "t".into(), level: "l".into() };
    let none = Privileges::default;
    check(
        Privileges { selinux: Some(selinux), ..none() },
        &["label=user:u", "label=role:r", "label=type:t", "label=level:l"],
    );
    let disable = SeLinux { disable: true, ..SeLinux::default() };
    check(Privileges { selinux: Some(disable), ..none() }, &["label=disable"]);
    check(Privileges { seccomp: Some(Seccomp::Unconfined), ..none() }, &["seccomp=unconfined"]);
    check(Privileges { seccomp: Some(Seccomp::Custom(b"{}".to_vec())), ..none() }, &["seccomp={}"]);
    check(Privileges { apparmor: Some(AppArmor::Disabled), ..none() }, &["apparmor=unconfined"]);
    check(Privileges { no_new_privileges: true, ..none() }, &["no-new-privileges=true"]);
    let file = CredentialSpec::File("a.json".into());
    check(Privileges { credential_spec: Some(file), ..none() }, &["credentialspec=file://a.json"]);
    let defaults = Privileges { seccomp: Some(Seccomp::Default), apparmor: Some(AppArmor::Default), ..none() };
    let run = with(|it| it.privileges = Some(defaults));
    assert_eq!(shown(&run, Api::NEWEST), shown(&plain(), Api::NEWEST));
}

#[test]
fn limits_bind_the_container_and_only_memory_is_reserved_at_the_engine() {
    let resources = |change: fn(&mut Resources), expected: Value| {
        check(|it| change(&mut it.resources), &json!({ "HostConfig": expected }));
    };
    const SHARE: Share = Share { nano_cpus: 500_000_000, memory_bytes: 64 << 20, pids: 7 };
    let limits = json!({ "NanoCpus": 500_000_000, "Memory": 64 << 20, "PidsLimit": 7 });
    resources(|it| it.limit = Some(SHARE), limits);
    resources(|it| it.reservation = Some(SHARE), json!({ "MemoryReservation": 64 << 20 }));
    // A service states the swap alone; the engine takes memory and swap together.
    let swap = |bytes| Swap::parse(bytes).expect("a limit");
    for (bytes, expected) in [(-1, -1), (0, 64 << 20), (1 << 20, 65 << 20)] {
        let mut run = plain();
        run.resources.limit = Some(Share { memory_bytes: 64 << 20, ..Share::default() });
        run.resources.swap = Some(swap(bytes));
        assert_eq!(shown(&run, Api::OLDEST)["HostConfig"]["MemorySwap"], json!(expected), "{bytes}");
    }
    resources(|it| it.swappiness = Swappiness::parse(60).ok(), json!({ "MemorySwappiness": 60 }));
}

#[test]
fn a_health_check_keeps_what_it_leaves_to_the_image() {
    let times = HealthTimes { interval: Some(Duration::from_secs(1)), ..HealthTimes::default() };
    let test = vec!["CMD-SHELL".into(), "true".into()];
    let health = HealthCheck::parse(&test, times, 2).expect("a check");
    let expected = json!({ "Healthcheck": { "Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000, "Retries": 2 } });
    check(|it| it.container.health = Some(health), &expected);
    let none = HealthCheck::parse(&["NONE".into()], HealthTimes::default(), 0).expect("a check");
    check(|it| it.container.health = Some(none), &json!({ "Healthcheck": { "Test": ["NONE"] } }));
}

#[test]
fn mounts_are_paths_of_the_host_volumes_memory_and_images() {
    let bind = BindOptions { propagation: Some(Propagation::RSlave), non_recursive: true, ..BindOptions::default() };
    let tmpfs = TmpfsOptions { size_bytes: Some(9), mode: Some(0o700), options: vec![vec!["noexec".into()]] };
    let all = mounts([
        MountSource::Bind { source: "/srv".into(), options: Some(bind) },
        MountSource::Tmpfs { options: Some(tmpfs) },
        MountSource::Image { source: "data:1".into(), subpath: Some("a".into()) },
    ]);
    let body = shown(&with(|it| it.mounts = all), Api::NEWEST);
    let bound = &body["HostConfig"]["Mounts"][0];
    assert_eq!((&bound["Type"], &bound["Source"], &bound["Target"]), (&json!("bind"), &json!("/srv"), &json!("/m0")));
    assert_eq!(bound["BindOptions"]["Propagation"], json!("rslave"));
    assert_eq!(bound["BindOptions"]["NonRecursive"], json!(true));
    let memory = &body["HostConfig"]["Mounts"][1];
    assert_eq!(memory["Type"], json!("tmpfs"));
    assert_eq!(memory["TmpfsOptions"], json!({ "SizeBytes": 9, "Mode": 0o700, "Options": [["noexec"]] }));
    let image = &body["HostConfig"]["Mounts"][2];
    assert_eq!((&image["Type"], &image["ImageOptions"]["Subpath"]), (&json!("image"), &json!("a")));
    let pipe = MountSource::NamedPipe { source: "pipe".into() };
    let refused = body_of(&with(|it| it.mounts = mounts([pipe])), Api::NEWEST);
    assert_eq!(refused, "mounts of type npipe are not supported yet");
}

#[test]
fn a_volume_is_created_as_its_options_say() {
    let driver = Driver { name: Some("local".into()), options: Labels::from([("type".into(), "tmpfs".into())]) };
    let options = VolumeOptions {
        no_copy: true,
        labels: Labels::from([("tier".into(), "db".into())]),
        subpath: Some("a/b".into()),
        driver: Some(driver),
    };
    let all = mounts([
        MountSource::Volume { source: Some("data".into()), options: Some(options) },
        MountSource::Volume { source: None, options: None },
    ]);
    let body = shown(&with(|it| it.mounts = all), Api::NEWEST);
    let expected = json!({
        "Type": "volume",
        "Source": "data",
        "Target": "/m0",
        "ReadOnly": false,
        "VolumeOptions": {
            "NoCopy": true,
            "Labels": { "tier": "db" },
            "Subpath": "a/b",
            "DriverConfig": { "Name": "local", "Options": { "type": "tmpfs" } },
        },
    });
    assert_eq!(body["HostConfig"]["Mounts"][0], expected);
    let anonymous = json!({ "Type": "volume", "Target": "/m1", "ReadOnly": false });
    assert_eq!(body["HostConfig"]["Mounts"][1], anonymous, "a new volume for each task");
}

fn body_of(run: &Run, api: Api) -> String {
    body(run, vec![], api, "bridge").expect_err("refused").to_string()
}

#[test]
fn a_setting_that_the_engine_is_too_old_for_is_refused_with_the_version_it_needs() {
    let bind = |options: BindOptions| {
        with(|it| it.mounts = mounts([MountSource::Bind { source: "/srv".into(), options: Some(options) }]))
    };
    let start_interval = HealthTimes { start_interval: Some(Duration::from_secs(1)), ..HealthTimes::default() };
    let health = HealthCheck::parse(&["CMD".into(), "a".into()], start_interval, 0).expect("a check");
    let options = TmpfsOptions { options: vec![vec!["noexec".into()]], ..TmpfsOptions::default() };
    let tmpfs = MountSource::Tmpfs { options: Some(options) };
    let image = MountSource::Image { source: "data:1".into(), subpath: None };
    let part = VolumeOptions { subpath: Some("a".into()), ..VolumeOptions::default() };
    let part = MountSource::Volume { source: Some("data".into()), options: Some(part) };
    for (run, setting, api) in [
        (with(|it| it.mounts = mounts([part])), "--mount volume-subpath", Api(45)),
        (with(|it| it.health = Some(health)), "--health-start-interval", Api(44)),
        (bind(BindOptions { create_mountpoint: true, ..BindOptions::default() }), "--mount bind-create-src", Api(42)),
        (
            bind(BindOptions { read_only_non_recursive: true, ..BindOptions::default() }),
            "--mount bind-recursive=writable",
            Api(44),
        ),
        (
            bind(BindOptions { read_only_force_recursive: true, ..BindOptions::default() }),
            "--mount bind-recursive=readonly",
            Api(44),
        ),
        (with(|it| it.mounts = mounts([tmpfs])), "--mount tmpfs-options", Api(46)),
        (with(|it| it.mounts = mounts([image])), "--mount type=image", Api(48)),
    ] {
        let older = Api(api.0 - 1);
        let words = format!(
            "{setting} needs Docker Engine {} (API {api}), and this node's engine speaks API {older}",
            api.release()
        );
        assert_eq!(body_of(&run, older), words);
        assert!(body(&run, vec![], api, "bridge").is_ok(), "{setting}");
    }
}
