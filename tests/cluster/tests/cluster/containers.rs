//! Services whose tasks are containers of a real Docker Engine: each setting of `docker service create` arrives, health
//! decides when a task runs, and no line of a log is lost or doubled.
//!
//! The cases are those of the moby engine's own integration tests of swarm mode, restated.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use essaim_cluster_tests::harness::cli::shell;
use essaim_cluster_tests::harness::{Cluster, Container, Dockerd, eventually, missing_for_engines, throughout};

/// Flags of every service: its containers end at once when they are stopped, and `docker` does not wait.
pub(super) const QUIET: &str = "-d --stop-signal SIGKILL --restart-delay 0s --no-resolve-image";

/// One host with a Docker Engine that is a cluster of its own; `None`, with a line on stderr, when this machine cannot
/// have it.
pub(super) fn alone() -> Option<Cluster> {
    if let Some(why) = missing_for_engines() {
        eprintln!("skipped: {why}");
        return None;
    }
    let cluster = Cluster::of_strangers_with_engines(&["n1"]);
    cluster.init(0);
    cluster.wait_ready(1);
    Some(cluster)
}

/// Creates a service with these flags, image and arguments; returns its id.
pub(super) fn create(cluster: &Cluster, name: &str, rest: &str) -> String {
    cluster.daemons[0].done(&format!("docker service create {QUIET} --name {name} {rest}")).trim().to_owned()
}

pub(super) fn running(cluster: &Cluster, service: &str) -> Vec<Container> {
    let all = cluster.containers(service).into_iter().map(|(_, one)| one);
    all.filter(|one| one.is_running).collect()
}

/// Waits until the service has exactly one running container, whose task runs; returns the container.
pub(super) fn only(cluster: &Cluster, service: &str) -> Container {
    cluster.wait_running(service, 1, &[]);
    eventually("one container runs", || match running(cluster, service).as_slice() {
        [one] => Ok(one.clone()),
        other => Err(format!("{other:?}")),
    })
}

/// What a command prints inside a container.
pub(super) fn inside(engine: &Dockerd, container: &Container, command: &str) -> String {
    let said = shell(&engine.socket, &format!("docker exec {} sh -c '{command}'", container.id), &[]);
    assert_eq!(said.code, 0, "{command}: {}{}", said.out, said.error);
    said.out.trim().to_owned()
}

#[test]
fn settings_of_a_service_arrive_in_its_containers() {
    let Some(cluster) = alone() else { return };
    let engine = &cluster.engines[0];
    let flags = [
        "--env GREETING=hello",
        "--hostname h-{{.Task.Slot}}",
        "--user alice",
        "--group wheel",
        "--workdir /tmp",
        "--read-only",
        "--mount type=tmpfs,destination=/scratch,tmpfs-size=1048576",
        "--init",
        "--host tower:10.1.2.3",
        "--sysctl net.ipv4.ip_default_ttl=77",
        "--ulimit nofile=128:256",
        "--cap-add NET_ADMIN",
        "--cap-drop MKNOD",
        "--limit-pids 50",
        "--limit-memory 64M",
        "--limit-cpu 0.5",
        "--label of=service",
        "--container-label of=container",
        "--log-driver json-file --log-opt max-size=1m",
        "alpine sleep 1000000",
    ];
    let service = create(&cluster, "all", &flags.join(" "));
    let container = only(&cluster, &service);
    let read = |command: &str| inside(engine, &container, command);
    assert_eq!(read("echo $GREETING"), "hello");
    assert_eq!(read("hostname"), "h-1", "a template of the host name is filled in");
    assert_eq!(read("id -un"), "alice");
    assert_eq!(read("pwd"), "/tmp");
    assert_eq!(
        read("cat /etc/hosts").lines().filter(|line| line.split_whitespace().eq(["10.1.2.3", "tower"])).count(),
        1
    );
    assert_eq!(read("cat /proc/sys/net/ipv4/ip_default_ttl"), "77");
    // The soft limit of a process is the engine's matter: some builds of runc raise it to the hard one when they start it.
    assert_eq!(read("ulimit -Hn"), "256");
    assert_eq!(read("touch /scratch/x && echo written"), "written");
    assert!(read("touch /tmp/x 2>&1 || true").contains("Read-only file system"));
    assert!(read("id -Gn").split(' ').any(|group| group == "wheel"));
    let seen = engine.inspect(&container.id).expect("it runs");
    let host = &seen["HostConfig"];
    assert_eq!(host["Init"], true);
    assert_eq!(host["CapAdd"], json!(["CAP_NET_ADMIN"]));
    assert_eq!(host["CapDrop"], json!(["CAP_MKNOD"]));
    assert_eq!(host["PidsLimit"], 50);
    assert_eq!(host["Memory"], 64 << 20);
    assert_eq!(host["NanoCpus"], 500_000_000);
    assert_eq!(host["Ulimits"], json!([{"Name": "nofile", "Soft": 128, "Hard": 256}]));
    assert_eq!(host["LogConfig"], json!({"Type": "json-file", "Config": {"max-size": "1m"}}));
    let labels = &seen["Config"]["Labels"];
    assert_eq!(labels["of"], "container", "labels of the service do not reach its containers");
    assert_eq!(labels["com.docker.swarm.service.name"], "all");
    assert_eq!(labels["com.docker.swarm.service.id"], service.as_str());
    let task = container.task.as_deref().expect("it has a task");
    assert_eq!(container.name, format!("all.1.{task}"), "`docker ps` reads as people know it");
}

#[test]
fn secrets_and_configs_are_files_of_the_container_and_no_secret_is_on_a_disk() {
    let Some(cluster) = alone() else { return };
    let engine = &cluster.engines[0];
    let daemon = &cluster.daemons[0];
    daemon.done("printf s3cr3t-of-the-test | docker secret create key -");
    daemon.done("printf '<h1>' | docker config create site -");
    let flags = "--secret source=key,target=token,uid=7,mode=0400 --config source=site,target=/etc/site \
                 --config site";
    let service = create(&cluster, "brings", &format!("{flags} alpine sleep 1000000"));
    let container = only(&cluster, &service);
    assert_eq!(inside(engine, &container, "cat /run/secrets/token"), "s3cr3t-of-the-test");
    assert_eq!(inside(engine, &container, "stat -c %u:%g:%a /run/secrets/token"), "7:0:400");
    assert_eq!(inside(engine, &container, "cat /etc/site /site"), "<h1><h1>");
    let refused = daemon.shell("docker secret rm key");
    assert!(refused.error.contains("secret 'key' is in use by the following service: brings"), "{}", refused.error);
    // The data of the daemon, of the engine and of its containers.
    let found = daemon.shell(&format!("grep -r -l s3cr3t-of-the-test {}", cluster.folder().display()));
    assert_eq!(found.out, "", "a secret is on the disk");
    // A file of a task is gone with the task.
    let source = engine.inspect(&container.id).expect("it runs")["Mounts"][0]["Source"].clone();
    let source = std::path::Path::new(source.as_str().expect("a path")).to_owned();
    assert!(source.exists());
    daemon.done("docker service rm brings");
    eventually("the files are gone", || if source.exists() { Err(source.display().to_string()) } else { Ok(()) });
    daemon.done("docker secret rm key && docker config rm site");
}

#[test]
fn templates_updates_and_rotations_of_secrets_and_configs_reach_the_container() {
    let Some(cluster) = alone() else { return };
    let (engine, daemon) = (&cluster.engines[0], &cluster.daemons[0]);
    daemon.done("printf first | docker secret create pw -");
    let template = r#"{{env "USER"}}:{{secret "pw"}}@{{.Service.Name}}"#;
    let id = daemon.done(&format!("printf '{template}' | docker secret create --template-driver golang url -"));
    daemon.done(
        r#"printf 'slot {{.Task.Slot}}: {{config "plain"}}' | docker config create --template-driver golang made -"#,
    );
    daemon.done("printf '{{.Node.ID}}' | docker config create plain -");
    assert_eq!(daemon.done(&format!("docker secret inspect --format '{{{{.Spec.Name}}}}' {}", &id[..12])), "url\n");
    let flags = "--env USER=me --secret pw --secret url --config plain --config source=made,target=/etc/made";
    let service = create(&cluster, "templated", &format!("{flags} --restart-delay 1s alpine sleep 1000000"));
    let first = only(&cluster, &service);
    assert_eq!(inside(engine, &first, "cat /run/secrets/url"), "me:first@templated");
    assert_eq!(inside(engine, &first, "cat /etc/made"), "slot 1: {{.Node.ID}}", "what is named is not expanded");

    // A template may name only what the task itself uses.
    daemon.done("docker service update -d --no-resolve-image --secret-rm pw templated");
    let words = r#"expanding secret "url" failed: secret target pw not found"#;
    eventually("the task is rejected with the name of the secret", || {
        let shown = daemon.done("docker service ps --no-trunc templated");
        if shown.contains(words) { Ok(()) } else { Err(shown) }
    });
    let second = updated(&cluster, &service, &first, "--secret-add pw");
    assert_eq!(inside(engine, &second, "cat /run/secrets/url"), "me:first@templated");

    let next = cluster.folder().join("next");
    std::fs::write(&next, "second").expect("a file");
    let (code, _, told) = daemon.essaim(&["secret", "rotate", "pw", next.to_str().expect("a path")]);
    assert_eq!((code, told.as_str()), (0, "templated moves to the new version by its update policy\n"));
    let third = eventually("the container is replaced", || match running(&cluster, &service).as_slice() {
        [one] if one.id != second.id => Ok(one.clone()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(inside(engine, &third, "cat /run/secrets/url /run/secrets/pw"), "me:second@templatedsecond");
    let refused = daemon.shell("docker secret rm pw");
    assert!(refused.error.contains("secret 'pw' is in use by the following service: templated"), "{}", refused.error);
    daemon.done("docker service rm templated");
    daemon.done("docker secret rm pw url && docker config rm made plain");
    assert_eq!(daemon.done("docker secret ls -q"), "", "the former version went with the last spec that named it");
}

#[test]
fn a_bind_mount_and_a_terminal_arrive() {
    let Some(cluster) = alone() else { return };
    let engine = &cluster.engines[0];
    let folder = tempfile::tempdir().expect("there is room for a folder");
    std::fs::write(folder.path().join("note"), "from the host").expect("it can be written");
    let mount = format!("--tty --mount type=bind,source={},destination=/host,readonly", folder.path().display());
    let service = create(&cluster, "bound", &format!("{mount} alpine sleep 1000000"));
    let container = only(&cluster, &service);
    assert_eq!(inside(engine, &container, "cat /host/note"), "from the host");
    assert!(inside(engine, &container, "touch /host/x 2>&1 || true").contains("Read-only file system"));
    assert_eq!(engine.inspect(&container.id).expect("it runs")["Config"]["Tty"], true);
}

/// Runs `docker service update` with these flags, and waits for the container that replaces `before`.
pub(super) fn updated(cluster: &Cluster, service: &str, before: &Container, flags: &str) -> Container {
    cluster.daemons[0].done(&format!("docker service update -d --no-resolve-image {flags} {service}"));
    eventually(&format!("{flags}: the container is replaced"), || match running(cluster, service).as_slice() {
        [one] if one.id != before.id => Ok(one.clone()),
        other => Err(format!("{other:?}")),
    })
}

#[test]
fn the_stop_signal_is_the_one_that_was_asked_for_and_can_be_updated() {
    let Some(cluster) = alone() else { return };
    let engine = &cluster.engines[0];
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let mount = format!("--mount type=bind,source={},destination=/host", folder.path().display());
    let script = "for signal in HUP USR1; do trap \"echo $signal >> /host/told; exit 0\" $signal; done; \
                  touch /host/ready; while true; do sleep 0.1; done";
    let rest = format!("--stop-signal SIGHUP --stop-grace-period 30s {mount} alpine sh -c '{script}'");
    let service = create(&cluster, "signal", &rest);
    let signal =
        |container: &Container| engine.inspect(&container.id).expect("it is there")["Config"]["StopSignal"].clone();
    let ready = || {
        eventually("the program handles signals", || match std::fs::remove_file(folder.path().join("ready")) {
            Ok(()) => Ok(()),
            Err(error) => Err(error.to_string()),
        });
    };
    let first = only(&cluster, &service);
    assert_eq!(signal(&first), "SIGHUP");
    ready();
    let second = updated(&cluster, &service, &first, "--stop-signal SIGUSR1");
    assert_eq!(signal(&second), "SIGUSR1");
    ready();
    cluster.daemons[0].done("docker service scale -d signal=0");
    eventually("each was told with its signal", || {
        let told = std::fs::read_to_string(folder.path().join("told")).unwrap_or_default();
        if told == "HUP\nUSR1\n" { Ok(()) } else { Err(told) }
    });
}

#[test]
fn name_servers_and_hosts_arrive_and_can_be_updated() {
    let Some(cluster) = alone() else { return };
    let engine = &cluster.engines[0];
    let flags = "--dns 1.2.3.4 --dns-search example.com --dns-option timeout:3 --host tower:10.1.2.3";
    let service = create(&cluster, "names", &format!("{flags} alpine sleep 1000000"));
    let first = only(&cluster, &service);
    let lines = |container: &Container, file: &str| -> Vec<String> {
        inside(engine, container, &format!("cat {file}")).lines().map(|line| line.trim().to_owned()).collect()
    };
    let has = |lines: &[String], words: &str| lines.iter().any(|line| line.split_whitespace().eq(words.split(' ')));
    let resolver = lines(&first, "/etc/resolv.conf");
    for words in ["nameserver 1.2.3.4", "search example.com", "options timeout:3"] {
        assert!(has(&resolver, words), "{words}: {resolver:?}");
    }
    let flags = "--dns-add 1.2.3.5 --dns-rm 1.2.3.4 --dns-search-add local.com --dns-search-rm example.com \
                 --dns-option-add ndots:3 --dns-option-rm timeout:3 --host-add moon:10.1.2.4 --host-rm tower:10.1.2.3";
    let second = updated(&cluster, &service, &first, flags);
    let resolver = lines(&second, "/etc/resolv.conf");
    for words in ["nameserver 1.2.3.5", "search local.com", "options ndots:3"] {
        assert!(has(&resolver, words), "{words}: {resolver:?}");
    }
    let hosts = lines(&second, "/etc/hosts");
    assert!(has(&hosts, "10.1.2.4 moon") && !has(&hosts, "10.1.2.3 tower"), "{hosts:?}");
}

#[test]
fn variables_of_a_file_come_before_those_of_the_command_line() {
    let Some(cluster) = alone() else { return };
    let file = tempfile::NamedTempFile::new().expect("there is room for a file");
    std::fs::write(file.path(), "VAR1=A\nVAR2=A\n").expect("it can be written");
    let flags = format!("--env VAR1=B --env-file {} --env VAR1=C --env VAR3=", file.path().display());
    let expected = json!(["VAR2=A", "VAR1=C", "VAR3="]);
    let by_docker = create(&cluster, "docker", &format!("{flags} alpine sleep 1000000"));
    let line = format!("--detach --stop-signal SIGKILL --name essaim {flags} alpine sleep 1000000");
    let arguments: Vec<_> = ["service", "create"].into_iter().chain(line.split(' ')).collect();
    let (code, by_essaim, error) = cluster.daemons[0].essaim(&arguments);
    assert_eq!(code, 0, "{error}");
    for service in [by_docker.as_str(), by_essaim.trim()] {
        let seen = cluster.daemons[0].get(&format!("/services/{service}"));
        assert_eq!(seen["Spec"]["TaskTemplate"]["ContainerSpec"]["Env"], expected);
        let container = only(&cluster, service);
        let read = inside(&cluster.engines[0], &container, "echo $VAR1 $VAR2 [$VAR3]");
        assert_eq!(read, "C A []", "the last value counts");
    }
}

/// docker's command line has no flags for swap that engines of API 1.41 know, so the request is sent as it is.
#[test]
fn swap_and_swappiness_arrive() {
    let Some(cluster) = alone() else { return };
    let memory = 64 << 20;
    let request = json!({
        "Name": "swaps",
        "TaskTemplate": {
            "ContainerSpec": {"Image": "alpine", "Command": ["sleep"], "Args": ["1000000"], "StopSignal": "SIGKILL"},
            "Resources": {"Limits": {"MemoryBytes": memory}, "SwapBytes": memory, "MemorySwappiness": 0},
        },
        "Mode": {"Replicated": {"Replicas": 1}},
    });
    let created = cluster.daemons[0].post("/services/create", Some(&request));
    let service = created["ID"].as_str().expect("an id");
    let container = only(&cluster, service);
    let host = cluster.engines[0].inspect(&container.id).expect("it runs")["HostConfig"].clone();
    let kernel = cluster.engines[0].ask("GET", "/info", None).json();
    assert_eq!(host["Memory"], memory);
    // A kernel that does not account for swap makes the engine drop these settings, with a warning.
    if kernel["SwapLimit"] == true {
        assert_eq!(host["MemorySwap"], 2 * memory);
        assert!(host["MemorySwappiness"] == 0 || host["MemorySwappiness"].is_null(), "{host}");
    }
    let seen = cluster.daemons[0].get(&format!("/services/{service}"));
    let resources = &seen["Spec"]["TaskTemplate"]["Resources"];
    assert_eq!((&resources["SwapBytes"], &resources["MemorySwappiness"]), (&json!(memory), &json!(0)));
}

#[test]
fn a_label_of_the_service_changes_no_container_and_other_settings_replace_it() {
    let Some(cluster) = alone() else { return };
    let engine = &cluster.engines[0];
    let service = create(&cluster, "web", "--label a=1 alpine sleep 1000000");
    let first = only(&cluster, &service);
    for (flags, labels) in [("--label-add b=2", json!({"a": "1", "b": "2"})), ("--label-rm a", json!({"b": "2"}))] {
        cluster.daemons[0].done(&format!("docker service update -d --no-resolve-image {flags} web"));
        assert_eq!(cluster.daemons[0].get("/services/web")["Spec"]["Labels"], labels);
    }
    throughout(Duration::from_secs(1), || assert_eq!(only(&cluster, &service), first));
    let second = updated(&cluster, &service, &first, "--limit-pids 100 --container-label-add c=3 --read-only");
    let seen = engine.inspect(&second.id).expect("it runs");
    let host = &seen["HostConfig"];
    assert_eq!((&host["PidsLimit"], &host["ReadonlyRootfs"]), (&json!(100), &json!(true)));
    assert_eq!(seen["Config"]["Labels"]["c"], "3");
    let third = updated(&cluster, &service, &second, "--limit-pids 0 --read-only=false");
    let host = engine.inspect(&third.id).expect("it runs")["HostConfig"].clone();
    assert!(host["PidsLimit"].is_null() || host["PidsLimit"] == 0, "{host}");
    assert_eq!(host["ReadonlyRootfs"], false);
}

#[test]
fn a_setting_that_is_not_there_yet_is_refused_in_words() {
    let Some(cluster) = alone() else { return };
    for (flags, word) in [("--publish 8080:80/sctp", "--publish"), ("--network other", "network")] {
        let said = cluster.daemons[0].shell(&format!("docker service create {QUIET} {flags} alpine sleep 1000000"));
        assert_ne!(said.code, 0, "{flags}: {}", said.out);
        assert!(said.error.contains(word), "{flags}: {}", said.error);
    }
    assert_eq!(cluster.daemons[0].get("/services"), json!([]));
}

#[test]
fn an_image_that_no_registry_can_have_is_refused_in_the_request() {
    let Some(cluster) = alone() else { return };
    for image in ["UPPER:v1", "alpine:v1@sha256:xx"] {
        let said = cluster.daemons[0].shell(&format!("docker service create {QUIET} {image}"));
        assert_ne!(said.code, 0, "{image}: {}", said.out);
        let words = format!("ContainerSpec: \"{image}\" is not a valid repository/tag");
        assert!(said.error.contains(&words), "{image}: {}", said.error);
    }
    assert_eq!(cluster.daemons[0].get("/services"), json!([]));
}

#[test]
fn an_image_that_is_nowhere_is_rejected_and_says_so() {
    let Some(cluster) = alone() else { return };
    let service = create(&cluster, "lost", "nosuch:v1");
    eventually("its task is rejected", || {
        let tasks = cluster.tasks(&service, &[])?;
        let found = tasks.iter().find(|task| task["Status"]["State"] == "rejected");
        let task = found.ok_or_else(|| format!("{tasks:?}"))?;
        let why = task["Status"]["Err"].as_str().unwrap_or("");
        if why.contains("nosuch:v1") { Ok(()) } else { Err(format!("it says {why:?}")) }
    });
}

#[test]
fn an_exit_code_and_a_want_of_memory_are_told() {
    let Some(cluster) = alone() else { return };
    let exits = create(&cluster, "exits", "--restart-condition none alpine sh -c 'exit 7'");
    let state = |service: &str, state: &str, code: i64| {
        eventually(&format!("{service} ends with {code}"), || {
            let tasks = cluster.tasks(service, &[])?;
            let task = tasks.first().ok_or("it has no task")?;
            let status = &task["Status"];
            let ended = status["State"] == state && status["ContainerStatus"]["ExitCode"].as_i64().unwrap_or(0) == code;
            if ended { Ok(status.clone()) } else { Err(status.to_string()) }
        })
    };
    let status = state(&exits, "failed", 7);
    assert_eq!(status["Err"], "task: non-zero exit (7)");
    let ends = create(&cluster, "ends", "--restart-condition none alpine true");
    state(&ends, "complete", 0);
    let starved = "--restart-condition none --limit-memory 8M alpine sh -c 'x=x; while true; do x=$x$x; done'";
    let starved = create(&cluster, "starved", starved);
    state(&starved, "failed", 137);
}

#[test]
fn a_task_runs_once_it_is_healthy_and_fails_when_it_is_not() {
    let Some(cluster) = alone() else { return };
    let engine = &cluster.engines[0];
    let check = "--health-cmd 'test -f /tmp/healthy' --health-interval 200ms --health-retries 2 --health-timeout 5s \
                 --health-start-period 60s";
    let service = create(&cluster, "checked", &format!("{check} alpine sleep 1000000"));
    let container = eventually("its container runs", || {
        running(&cluster, &service).first().cloned().ok_or_else(|| "it does not".to_owned())
    });
    throughout(Duration::from_secs(1), || {
        let tasks = cluster.tasks(&service, &[]).expect("the manager answers");
        assert_eq!((tasks.len(), &tasks[0]["Status"]["State"]), (1, &json!("starting")), "it is not healthy yet");
    });
    inside(engine, &container, "touch /tmp/healthy");
    cluster.wait_running(&service, 1, &[]);
    inside(engine, &container, "rm /tmp/healthy");
    let failed = eventually("its task fails", || {
        let tasks = cluster.tasks(&service, &[])?;
        let failed = tasks.iter().find(|task| task["Status"]["State"] == "failed").cloned();
        failed.ok_or_else(|| format!("{tasks:?}"))
    });
    assert_eq!(failed["Status"]["Err"].as_str().map(|why| why.contains("unhealthy container")), Some(true), "{failed}");
    eventually("it is stopped, and another one is started", || {
        let now = running(&cluster, &service);
        let replaced = now.len() == 1 && now[0].id != container.id;
        if replaced { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

#[test]
fn a_health_check_is_turned_off() {
    let Some(cluster) = alone() else { return };
    let service = create(&cluster, "plain", "--no-healthcheck alpine sleep 1000000");
    let container = only(&cluster, &service);
    let seen = cluster.engines[0].inspect(&container.id).expect("it runs");
    assert_eq!(seen["Config"]["Healthcheck"]["Test"], json!(["NONE"]));
}

#[test]
fn an_update_that_starts_first_keeps_the_old_until_the_new_is_healthy() {
    let Some(cluster) = alone() else { return };
    let engine = &cluster.engines[0];
    let check = "--update-order start-first --health-cmd 'test -f /tmp/healthy' --health-interval 200ms \
                 --health-start-period 60s";
    let service = create(&cluster, "web", &format!("{check} whoami:v1"));
    let first = eventually("its container runs", || {
        running(&cluster, &service).first().cloned().ok_or_else(|| "it does not".to_owned())
    });
    inside(engine, &first, "touch /tmp/healthy");
    cluster.wait_running(&service, 1, &[]);
    cluster.daemons[0].done("docker service update -d --no-resolve-image --image whoami:v2 web");
    let second = eventually("the next one is started", || {
        let now = running(&cluster, &service);
        now.iter().find(|one| one.id != first.id).cloned().ok_or_else(|| format!("{now:?}"))
    });
    throughout(Duration::from_secs(1), || {
        let now: BTreeSet<_> = running(&cluster, &service).into_iter().map(|one| one.id).collect();
        assert_eq!(
            now,
            BTreeSet::from([first.id.clone(), second.id.clone()]),
            "the old one runs until the new is healthy"
        );
    });
    inside(engine, &second, "touch /tmp/healthy");
    eventually("the old one goes", || {
        let now: Vec<_> = running(&cluster, &service).into_iter().map(|one| one.id).collect();
        if now == [second.id.clone()] { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

#[test]
fn scaling_leaves_the_containers_that_run_alone() {
    let Some(cluster) = alone() else { return };
    let service = create(&cluster, "web", "--replicas 2 whoami:v1");
    cluster.wait_running(&service, 2, &[]);
    let before = running(&cluster, &service);
    cluster.daemons[0].done("docker service scale -d web=5");
    cluster.wait_running(&service, 5, &[]);
    let after = running(&cluster, &service);
    assert!(before.iter().all(|one| after.contains(one)), "{before:?} became {after:?}");
}

#[test]
fn a_job_runs_its_containers_to_their_end() {
    let Some(cluster) = alone() else { return };
    let rest = "--mode replicated-job --replicas 3 --max-concurrent 2 alpine sh -c 'sleep 1; echo done'";
    let service = create(&cluster, "job", rest);
    eventually("three tasks are complete", || {
        let tasks = cluster.tasks(&service, &[])?;
        let complete = tasks.iter().filter(|task| task["Status"]["State"] == "complete").count();
        if complete == 3 { Ok(()) } else { Err(format!("{complete} of {}", tasks.len())) }
    });
    throughout(Duration::from_secs(1), || {
        assert_eq!(cluster.tasks(&service, &[]).expect("the manager answers").len(), 3, "none is started again");
    });
    let shown = || cluster.daemons[0].get("/services/job?status=true");
    let iteration = shown()["JobStatus"]["JobIteration"]["Index"].as_u64().unwrap_or(0);
    cluster.daemons[0].done("docker service update -d --no-resolve-image --force job");
    eventually("three more are complete, in another iteration", || {
        let tasks = cluster.tasks(&service, &[])?;
        let of = |task: &&serde_json::Value| task["JobIteration"]["Index"].as_u64().is_some_and(|it| it > iteration);
        let complete = tasks.iter().filter(of).filter(|task| task["Status"]["State"] == "complete").count();
        if complete == 3 { Ok(()) } else { Err(format!("{complete} of {}", tasks.len())) }
    });
    assert!(shown()["JobStatus"]["JobIteration"]["Index"].as_u64().is_some_and(|it| it > iteration));
    let everywhere = create(&cluster, "everywhere", "--mode global-job alpine echo done");
    eventually("one is complete on the only node", || {
        let tasks = cluster.tasks(&everywhere, &[])?;
        let all = tasks.len() == 1 && tasks[0]["Status"]["State"] == "complete";
        if all { Ok(()) } else { Err(format!("{tasks:?}")) }
    });
}

#[test]
fn a_container_that_somebody_restarts_is_replaced_and_does_not_run_beside_its_replacement() {
    let Some(cluster) = alone() else { return };
    let engine = &cluster.engines[0];
    let service = create(&cluster, "web", "whoami:v1");
    let first = only(&cluster, &service);
    let ask =
        |id: &str, what: &str| assert_eq!(engine.ask("POST", &format!("/containers/{id}/{what}"), None).status, 204);
    ask(&first.id, "restart?t=1");
    let other_than = |before: &Container| match running(&cluster, &service).as_slice() {
        [one] if one.id != before.id => Ok(one.clone()),
        other => Err(format!("{other:?}")),
    };
    let second = eventually("its replacement alone runs", || other_than(&first));
    // A container whose task ended long ago, for its managers too.
    throughout(Duration::from_secs(1), || assert_eq!(other_than(&first).as_ref(), Ok(&second)));
    ask(&first.id, "start");
    eventually("it is stopped again", || other_than(&first));
    throughout(Duration::from_secs(1), || assert_eq!(other_than(&first).as_ref(), Ok(&second)));
    assert!(engine.container(&first.id).is_some_and(|one| !one.is_running), "it stays for its log");
}

#[test]
fn a_node_that_leaves_takes_its_tasks_along_and_no_other_container() {
    let Some(cluster) = alone() else { return };
    let engine = &cluster.engines[0];
    let foreign = engine.start_foreign("mine");
    let service = create(&cluster, "web", "--replicas 2 whoami:v1");
    cluster.wait_running(&service, 2, &[]);
    cluster.daemons[0].done("docker swarm leave --force");
    eventually("only the container of nobody's cluster is left", || {
        let left = engine.containers();
        let only = left.iter().all(|one| one.id == foreign && one.is_running) && left.len() == 1;
        if only { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

/// Lines of `docker service logs`, without the name of the task in front, sorted.
fn logged(cluster: &Cluster, arguments: &str) -> Result<Vec<String>, String> {
    let said = cluster.daemons[0].shell(&format!("docker service logs --raw {arguments}"));
    if said.code != 0 {
        return Err(said.error);
    }
    let mut lines: Vec<_> = said.out.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.sort_unstable();
    Ok(lines)
}

#[test]
fn every_line_of_a_log_comes_once() {
    let Some(cluster) = alone() else { return };
    let expected: Vec<_> = (0..6).map(|number| format!("line {number}")).collect();
    let script = "for i in $(seq 0 5); do echo line $i; done; sleep 1000000";
    for (name, flags) in [("plain", ""), ("terminal", "--tty")] {
        let service = create(&cluster, name, &format!("{flags} alpine sh -c '{script}'"));
        cluster.wait_running(&service, 1, &[]);
        eventually("six lines are read", || {
            let lines = logged(&cluster, name)?;
            if lines == expected { Ok(()) } else { Err(format!("{lines:?}")) }
        });
    }
    assert_eq!(logged(&cluster, "--tail 2 plain").expect("it answers"), expected[4..]);
    assert_eq!(logged(&cluster, "--tail 0 plain").expect("it answers"), Vec::<String>::new());
    let since = logged(&cluster, "--since 2000-01-01T00:00:00Z plain").expect("it answers");
    assert_eq!(since, expected);
    assert_eq!(logged(&cluster, "--since 2100-01-01T00:00:00Z plain").expect("it answers"), Vec::<String>::new());
    // With the task's name, and of one task by its id.
    let named = cluster.daemons[0].done("docker service logs plain");
    assert!(named.lines().all(|line| line.starts_with("plain.1.")), "{named}");
    let tasks = cluster.daemons[0].done("docker service ps -q --no-trunc plain");
    assert_eq!(logged(&cluster, tasks.trim()).expect("it answers"), expected);
    // What is followed ends with the reader.
    let followed = cluster.daemons[0].shell("timeout 3 docker service logs --raw -f plain");
    assert_eq!(followed.out.lines().count(), 6, "{followed:?}");
}

/// As in docker, the details of a line are the ids of its node, service and task, and what the log driver keeps with it.
#[test]
fn the_details_of_a_line_are_where_it_comes_from_and_what_its_driver_keeps() {
    let Some(cluster) = alone() else { return };
    let flags =
        "--container-label of=web --env STAGE=test --log-driver json-file --log-opt labels=of --log-opt env=STAGE";
    let service = create(&cluster, "web", &format!("{flags} alpine sh -c 'echo hello; sleep 1000000'"));
    let container = only(&cluster, &service);
    let task = container.task.expect("it has a task");
    let node = cluster.node("n1", &[]).expect("it is there")["ID"].as_str().expect("an id").to_owned();
    eventually("the line is read", || {
        let lines = logged(&cluster, "--details web")?;
        let [line] = lines.as_slice() else { return Err(format!("{lines:?}")) };
        let (details, words) = line.split_once(' ').unwrap_or((line, ""));
        let details: BTreeSet<_> = details.split(',').map(str::to_owned).collect();
        let expected = [
            format!("com.docker.swarm.node.id={node}"),
            format!("com.docker.swarm.service.id={service}"),
            format!("com.docker.swarm.task.id={task}"),
            "STAGE=test".into(),
            "of=web".into(),
        ];
        if (words, details) == ("hello", expected.into()) { Ok(()) } else { Err(line.clone()) }
    });
    // Without --raw the ids are in the name of the task, and only the rest is printed.
    let named = cluster.daemons[0].done("docker service logs --details web");
    assert_eq!(named, format!("web.1.{}@n1    | STAGE=test,of=web hello\n", &task[..12]));
    assert!(logged(&cluster, "web").expect("it answers") == ["hello"], "without details there are none");
}

#[test]
fn a_log_whose_container_was_removed_says_so_and_does_not_hang() {
    let Some(cluster) = alone() else { return };
    let service = create(&cluster, "gone", "--restart-condition none alpine sh -c 'echo hello'");
    let ended = eventually("its container ends", || {
        let tasks = cluster.tasks(&service, &[])?;
        let complete = tasks.iter().any(|task| task["Status"]["State"] == "complete");
        let all = cluster.containers(&service);
        let found = all.into_iter().map(|(_, one)| one).find(|one| complete && !one.is_running);
        found.ok_or_else(|| format!("{tasks:?}"))
    });
    assert_eq!(logged(&cluster, "gone").expect("it answers"), ["hello"]);
    shell(&cluster.engines[0].socket, &format!("docker rm {}", ended.id), &[]);
    let task = ended.task.expect("it has a task");
    for reader in ["gone".to_owned(), task.clone(), format!("-f {task}")] {
        let said = cluster.daemons[0].shell(&format!("timeout 20 docker service logs {reader}"));
        assert!(said.code == 0 && said.error.contains("no log of this task any more"), "{reader}: {said:?}");
    }
    // A reader that follows a service waits for the next tasks of the service.
    let said = cluster.daemons[0].shell("timeout 3 docker service logs -f gone");
    assert!(said.code == 124 && said.error.contains("no log of this task any more"), "{said:?}");
}

#[test]
fn the_log_of_an_ended_task_stays_while_service_ps_shows_it_and_nothing_is_left_of_a_removed_service() {
    let Some(cluster) = alone() else { return };
    let engine = &cluster.engines[0];
    let foreign = engine.start_foreign("mine");
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let mount = format!("--mount type=bind,source={},destination=/host", folder.path().display());
    let script = "echo x >> /host/attempts; echo I am $HOSTNAME; exit 3";
    let service = create(&cluster, "fails", &format!("--restart-max-attempts 8 {mount} alpine sh -c '{script}'"));
    // Nine attempts, of which the cluster remembers six.
    let tasks = eventually("the attempts are spent", || {
        let attempts = std::fs::read_to_string(folder.path().join("attempts")).unwrap_or_default().lines().count();
        let tasks = cluster.tasks(&service, &[])?;
        let ended = tasks.iter().filter(|task| task["Status"]["State"] == "failed").count();
        let is_over = (attempts, tasks.len(), ended) == (9, 6, 6);
        if is_over { Ok(tasks) } else { Err(format!("{attempts} attempts, {ended} of {} have failed", tasks.len())) }
    });
    let remembered: BTreeSet<_> = tasks.iter().filter_map(|task| task["ID"].as_str().map(str::to_owned)).collect();
    eventually("the containers are those of the tasks that are remembered", || {
        let kept: BTreeSet<_> = cluster.containers(&service).into_iter().filter_map(|(_, one)| one.task).collect();
        if kept == remembered { Ok(()) } else { Err(format!("{kept:?} are kept, and {remembered:?} are shown")) }
    });
    let shown = cluster.daemons[0].done("docker service ps -q --no-trunc fails");
    assert_eq!(shown.lines().count(), 6, "{shown}");
    for task in shown.lines() {
        let lines = logged(&cluster, task).expect("it answers");
        assert!(lines.len() == 1 && lines[0].starts_with("I am "), "{task}: {lines:?}");
    }
    let lasts = create(&cluster, "lasts", "--replicas 3 whoami:v1");
    cluster.wait_running(&lasts, 3, &[]);
    cluster.daemons[0].done("docker service rm fails lasts");
    eventually("`docker ps -a` shows only what is not ours", || {
        let left = engine.containers();
        let only = left.iter().all(|one| one.id == foreign && one.is_running) && left.len() == 1;
        if only { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

#[test]
fn lines_of_many_writers_are_neither_lost_nor_doubled_while_they_are_followed() {
    let Some(cluster) = alone() else { return };
    let script = "for i in $(seq 1 500); do echo $HOSTNAME $i; done; echo end >&2; sleep 1000000";
    let service = create(&cluster, "chatty", &format!("--replicas 3 alpine sh -c '{script}'"));
    cluster.wait_running(&service, 3, &[]);
    eventually("all lines are read", || {
        let said = cluster.daemons[0].shell("timeout 5 docker service logs --raw -f chatty");
        let lines: Vec<_> = said.out.lines().collect();
        let distinct: BTreeSet<_> = lines.iter().collect();
        let ends = said.error.lines().filter(|line| line.trim() == "end").count();
        let all = (lines.len(), distinct.len(), ends) == (1500, 1500, 3);
        if all { Ok(()) } else { Err(format!("{} lines, {} distinct, {ends} ends", lines.len(), distinct.len())) }
    });
}
