//! The requests of `essaim service create` and `service update` are those of the docker CLI for the same words.
//!
//! Both programs run against a server of this test that records what they send. The bodies are compared as JSON after
//! fields that mean nothing are removed (null, empty text, empty lists: Go writes some of them and leaves out others),
//! and after the lists whose order docker draws at random are sorted.
//!
//! Without the docker CLI the tests say so and pass.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use serde_json::{Value, json};

/// Command lines of `docker service …`; `␠` is a space inside a word.
const LINES: &[&str] = &[
    // Names and labels.
    "create -d alpine",
    "create -d --name web --label a=1 -l b --container-label c=d=e --hostname {{.Service.Name}} alpine sleep -x 5",
    "update -d --label-add a=2 --label-add new --label-rm old --container-label-add x=y --container-label-rm cl web",
    "update -d --hostname other web",
    // The program.
    "create -d --entrypoint sh␠-c␠'echo␠hi' alpine",
    "update -d --args -c␠\"sleep␠5\" --entrypoint /bin/sh web",
    "update -d --image alpine:3 web",
    "update -d --image docker.io/library/alpine --no-resolve-image web",
    "update -d --image missing:v1 web",
    "create -d registry.example:5000/team/app:v1",
    "create -d --no-resolve-image alpine",
    "create -d missing:v1",
    "create -d --env-file ENVFILE -e A=3 -e B -e ESSAIM_UNSET -e A=4 -e F=over alpine",
    "update -d --env-add A=9 --env-add C=1 --env-rm B web",
    "create -d -w /srv -u 1000:1000 --group docker --group 5 -t --init --read-only alpine",
    "create -d --init=false --read-only=false --tty=false alpine",
    "update -d -w /tmp -u root --group-add 7 --group-add 2 --group-rm wheel -t --init=false --read-only web",
    "update -d --tty=false --read-only=false web",
    "create -d --stop-signal SIGINT --stop-grace-period 1m30s alpine",
    "update -d --stop-signal SIGHUP --stop-grace-period 0s web",
    "create -d --cap-add net_admin --cap-add CAP_CHOWN --cap-drop chown --cap-drop all alpine",
    "create -d --cap-add ALL --cap-add chown alpine",
    "update -d --cap-add chown --cap-drop net_admin --cap-drop mknod web",
    "update -d --cap-add RESET web",
    "update -d --cap-add all --cap-drop reset web",
    "create -d --sysctl net.core.somaxconn=128 --sysctl a=b alpine",
    "update -d --sysctl-add net.core.somaxconn=256 --sysctl-rm a web",
    "create -d --ulimit nofile=1024:2048 --ulimit core=-1 --ulimit nproc=5 alpine",
    "update -d --ulimit-add nproc=9 --ulimit-rm nofile web",
    "create -d --oom-score-adj -500 alpine",
    "update -d --oom-score-adj 100 web",
    "create -d --isolation hyperv alpine",
    "update -d --isolation process web",
    "create -d --credential-spec file://spec.json alpine",
    "create -d --credential-spec registry://key alpine",
    "create -d --credential-spec config://site alpine",
    "update -d --credential-spec config://site web",
    "update -d --credential-spec file://x web",
    // Health.
    "create -d --health-cmd curl␠-f␠localhost --health-interval 5s --health-timeout 1s --health-retries 3 --health-start-period 1m --health-start-interval 500ms alpine",
    "create -d --health-interval 5s alpine",
    "create -d --no-healthcheck alpine",
    "update -d --health-cmd true --health-retries 2 --health-interval 9s --health-timeout 2s --health-start-period 3s web",
    "update -d --no-healthcheck web",
    "update -d --health-retries 1 unhealthy",
    // Names in the container.
    "create -d --dns 10.0.0.1 --dns 10.0.0.2 --dns-option ndots:1 --dns-search x --host a:10.0.0.9 --host b=::1 --host c:host-gateway alpine",
    "update -d --dns-add 9.9.9.9 --dns-rm 10.0.0.1 --dns-option-add timeout:1 --dns-option-rm ndots:1 --dns-search-add b --dns-search-rm a web",
    "update -d --host-add d:10.0.0.3 --host-rm a web",
    "update -d --host-rm a:10.0.0.8 web",
    // Resources.
    "create -d --limit-cpu 0.5 --limit-memory 64M --limit-pids 50 --reserve-cpu .1 --reserve-memory 32m alpine",
    "update -d --limit-cpu 1 --limit-memory 1.5g --limit-pids 0 --reserve-cpu 0.25 --reserve-memory 0 web",
    "create -d --generic-resource gpu=2 --generic-resource ssd=1 alpine",
    "update -d --generic-resource-add gpu=4 --generic-resource-rm fpga web",
    // Files.
    "create -d --mount type=bind,source=/srv,target=/srv,readonly --mount source=data,target=/data,volume-nocopy,volume-label=a=b alpine",
    "create -d --mount type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1777 --mount type=volume,src=v,dst=/v,volume-driver=local,\"volume-opt=o=a,b\",volume-opt=type=nfs alpine",
    "create -d --mount type=bind,src=/a,dst=/b,bind-propagation=rshared,bind-recursive=disabled,consistency=cached alpine",
    "create -d --mount type=bind,src=/a,dst=/b,readonly=true,bind-recursive=readonly,bind-propagation=rprivate alpine",
    "create -d --mount type=volume,src=v,dst=/v,volume-subpath=x,ro=false alpine",
    "create -d --mount type=npipe,src=a,dst=b alpine",
    "update -d --mount-add type=bind,source=/new,target=/old --mount-rm /gone web",
    "create -d --secret tok --secret source=db,target=/etc/db,uid=1,gid=2,mode=0400 alpine",
    "update -d --secret-add db --secret-rm tok web",
    "create -d --config site --config src=other,target=/o,mode=0x1ff alpine",
    "update -d --config-add source=other,target=/x --config-rm site web",
    // Where and how many.
    "create -d --constraint node.role==worker --constraint node.labels.a!=b --placement-pref spread=node.labels.zone --placement-pref spread=node.labels.rack --replicas-max-per-node 2 alpine",
    "update -d --constraint-add node.role==manager --constraint-rm node.labels.a==b --replicas-max-per-node 0 web",
    "update -d --placement-pref-add spread=node.labels.rack --placement-pref-rm spread=node.labels.zone web",
    "create -d --mode global alpine",
    "create -d --mode=replicated --replicas 0 alpine",
    "create -d --mode replicated-job --replicas 5 --max-concurrent 2 alpine true",
    "create -d --mode replicated-job --replicas 5 alpine true",
    "create -d --mode replicated-job alpine true",
    "create -d --mode global-job --restart-condition none alpine true",
    "update -d --replicas 7 web",
    "scale -d web=4",
    // Networks.
    "create -d --network back --network name=front,alias=db,alias=sql,driver-opt=a=b alpine",
    "update -d --network-add back --network-rm front web",
    "create -d -p 8080:80 -p 53:53/udp -p 9000 --publish published=8443,target=443,mode=host,protocol=sctp alpine",
    "create -d -p 8000-8002:80-82 alpine",
    "create -d -p 8000-8002:80/udp alpine",
    "update -d --publish-add 8000:80 web",
    "update -d --publish-add 8001:80 --publish-rm 80 web",
    "update -d --publish-rm 8000:80/tcp --publish-add published=1,target=2,mode=host web",
    "create -d --endpoint-mode dnsrr alpine",
    "update -d --endpoint-mode dnsrr web",
    // Restarts, updates, rollbacks.
    "create -d --restart-condition on-failure --restart-delay 2s --restart-max-attempts 3 --restart-window 10s alpine",
    "create -d --restart-delay 0s alpine",
    "update -d --restart-max-attempts 5 web",
    "update -d --restart-condition none --restart-window 1m --restart-delay 1s plain",
    "create -d --update-parallelism 2 --update-delay 1s --update-monitor 2s --update-failure-action rollback --update-max-failure-ratio 0.1 --update-order start-first alpine",
    "create -d --update-parallelism 0 --rollback-parallelism 3 --rollback-delay 3s --rollback-monitor 1m --rollback-failure-action continue --rollback-max-failure-ratio .25 --rollback-order start-first alpine",
    "update -d --update-parallelism 0 --update-order stop-first --rollback-monitor 9s web",
    "update -d --update-delay 4s plain",
    "update -d --rollback-delay 4s --rollback-failure-action continue plain",
    // Logs.
    "create -d --log-driver json-file --log-opt max-size=1m --log-opt tag alpine",
    "create -d --log-opt max-size=1m alpine",
    "update -d --log-driver none web",
    "update -d --log-opt max-size=9m web",
    // The registry.
    "create -d --with-registry-auth alpine",
    "create -d --with-registry-auth registry.example:5000/team/app:v1",
    "create -d --with-registry-auth unknown.example/app",
    "update -d --with-registry-auth --image registry.example:5000/team/app:v2 web",
    "update -d --with-registry-auth web",
    // Commands of their own.
    "update -d --force web",
    "update -d --rollback web",
    "rollback -d web",
    "update -d web",
];

/// Command lines that both programs refuse, before or after they asked the server.
const REFUSED: &[&str] = &[
    "create -d --mode global --replicas 2 alpine",
    "create -d --mode global-job --max-concurrent 2 alpine",
    "create -d --mode global --replicas-max-per-node 2 alpine",
    "create -d --max-concurrent 2 alpine",
    "create -d --mode replicated-job --update-delay 1s alpine",
    "create -d --no-healthcheck --health-cmd true alpine",
    "create -d --secret nosuch alpine",
    "create -d --config nosuch alpine",
    "create -d --network nosuch alpine",
    "create -d --secret a --secret source=b,target=a alpine",
    "create -d --mount type=bind,source=/a alpine",
    "create -d --mount target=/a,tmpfs-size=5 alpine",
    "create -d --ulimit nofile=2:1 alpine",
    "create -d --generic-resource gpu=uuid alpine",
    "create -d --placement-pref pack=x alpine",
    "create -d -p 127.0.0.1:80:80 alpine",
    "create -d --credential-spec x alpine",
    "create -d --host nothing alpine",
    "create -d --restart-delay 5 alpine",
    "create -d --env =x alpine",
    "update -d --rollback --force web",
    "update -d --replicas 2 agent",
    "update -d --generic-resource-rm nosuch web",
    "update -d --mount-add type=tmpfs,target=/a --mount-add type=tmpfs,target=/a web",
    "update -d --network-add front web",
    "update -d nosuch",
    "scale -d agent=2",
    "create -d",
    "update -d",
];

/// What a client sent.
#[derive(Debug, Clone, PartialEq)]
struct Sent {
    method: String,
    path: String,
    body: Value,
    auth: Value,
}

#[derive(Clone, Default)]
struct Server {
    sent: Arc<Mutex<Vec<Sent>>>,
}

#[test]
fn both_programs_send_the_same() {
    let Some(stage) = Stage::begin() else { return };
    let mut wrong = String::new();
    for line in LINES {
        let (docker, theirs) = stage.run("docker", line);
        let (essaim, ours) = stage.run(env!("CARGO_BIN_EXE_essaim"), line);
        let said =
            |output: &Output| (output.status.code(), text(&output.stdout), text(&output.stderr).trim_end().to_owned());
        if said(&docker) != said(&essaim) {
            wrong += &format!("service {line}\n  docker: {:?}\n  essaim: {:?}\n", said(&docker), said(&essaim));
        }
        if docker.status.code() != Some(0) {
            wrong += &format!("service {line}\n  docker refuses it\n");
        }
        if theirs.len() != ours.len() {
            wrong += &format!("service {line}\n  docker: {}\n  essaim: {}\n", shown(&theirs), shown(&ours));
        }
        for (theirs, ours) in theirs.iter().zip(&ours) {
            let apart =
                |sent: &Sent| json!({"method": sent.method, "path": sent.path, "auth": sent.auth, "body": sent.body});
            let mut found = String::new();
            differences("", &apart(theirs), &apart(ours), &mut found);
            if !found.is_empty() {
                wrong += &format!("service {line}\n{found}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn both_programs_refuse_the_same() {
    let Some(stage) = Stage::begin() else { return };
    let mut wrong = String::new();
    for line in REFUSED {
        let (docker, theirs) = stage.run("docker", line);
        let (essaim, ours) = stage.run(env!("CARGO_BIN_EXE_essaim"), line);
        let posts = |sent: &[Sent]| sent.iter().filter(|one| one.method == "POST").count();
        if docker.status.success() || essaim.status.success() || posts(&theirs) + posts(&ours) != 0 {
            let said = |output: &Output| (output.status.code(), text(&output.stderr));
            wrong += &format!("service {line}\n  docker: {:?}\n  essaim: {:?}\n", said(&docker), said(&essaim));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Every flag of docker's help is in ours, with the same explanation; ours has a few more.
#[test]
fn the_help_has_dockers_flags_in_dockers_words() {
    let Some(stage) = Stage::begin() else { return };
    for (verb, more) in [
        ("create", &["--memory-swap", "--memory-swappiness", "--timeout", "--help", "-H"][..]),
        ("update", &["--memory-swap", "--memory-swappiness", "--timeout", "--help", "--host"][..]),
    ] {
        let line = format!("{verb} --help");
        let theirs = flags(&text(&stage.run("docker", &line).0.stdout));
        let ours = flags(&text(&stage.run(env!("CARGO_BIN_EXE_essaim"), &line).0.stdout));
        let find = |name: &str| ours.iter().find(|(ours, _)| ours == name);
        let mut wrong = String::new();
        for (name, words) in &theirs {
            match find(name) {
                Some((_, ours)) if ours == words => (),
                other => wrong += &format!("{name}: {words:?} became {other:?}\n"),
            }
        }
        for (name, _) in &ours {
            if !theirs.iter().any(|(theirs, _)| theirs == name) && !more.contains(&name.as_str()) {
                wrong += &format!("{name} is no flag of docker\n");
            }
        }
        assert!(wrong.is_empty() && theirs.len() > 60, "service {verb}: {wrong}");
    }
}

/// Flags of a help text, each with its explanation. docker names the kind of the value in lower case, ours in angle
/// brackets: that word is left out.
fn flags(help: &str) -> Vec<(String, String)> {
    let mut flags: Vec<(String, String)> = Vec::new();
    for line in help.lines().skip_while(|line| !line.starts_with("Options:")).skip(1) {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if trimmed.starts_with('-') && indent < 10 {
            let mut words = trimmed.split_whitespace().peekable();
            let mut name = words.next().unwrap_or("").to_owned();
            if name.ends_with(',') {
                name = words.next().unwrap_or("").to_owned();
            }
            let name = name.split(['=', '[']).next().unwrap_or("").to_owned();
            // Between a flag and its explanation stand two spaces or more; the kind of the value is before them.
            let after = trimmed.split_once(&name).map_or("", |(_, after)| after);
            let explained = match after.find("  ") {
                Some(at) => after[at..].trim(),
                None => "",
            };
            flags.push((name, explained.to_owned()));
        } else if let Some((_, words)) = flags.last_mut() {
            *words = format!("{words} {trimmed}").trim().to_owned();
        }
    }
    for (_, words) in &mut flags {
        *words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        // docker shows an empty list as the default of one flag, and of no other.
        *words = words.replace(" (default [])", "");
    }
    flags
}

/// A server, and a folder with docker's configuration.
struct Stage {
    folder: tempfile::TempDir,
    server: Server,
    _runtime: tokio::runtime::Runtime,
}

impl Stage {
    fn begin() -> Option<Self> {
        if Command::new("docker").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("skipped: the comparison with the stock docker CLI needs docker");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let auth = |pair: &str| base64::engine::general_purpose::STANDARD.encode(pair);
        let config = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": auth("me:secret")},
            "registry.example:5000": {"auth": auth("team:pa:ss")},
        }});
        std::fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
        std::fs::write(folder.path().join("env"), "# c\nA=1\nF=file\n  G=x y\nESSAIM_UNSET\nH\n").expect("written");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let server = Server::default();
        let socket = folder.path().join("socket");
        let app = Router::new().fallback(answer).with_state(server.clone());
        let listener = {
            let _guard = runtime.enter();
            tokio::net::UnixListener::bind(&socket).expect("a socket")
        };
        runtime.spawn(async move { axum::serve(listener, app).await });
        Some(Self { folder, server, _runtime: runtime })
    }

    fn run(&self, program: &str, line: &str) -> (Output, Vec<Sent>) {
        self.server.sent.lock().expect("no panic").clear();
        let folder = self.folder.path();
        let output = Command::new(program)
            .arg("-H")
            .arg(format!("unix://{}", folder.join("socket").display()))
            .arg("service")
            .args(line.split(' ').map(|word| word.replace('␠', " ").replace("ENVFILE", &path(folder, "env"))))
            .env("DOCKER_CONFIG", folder)
            .env("B", "from outside")
            .env("H", "from outside")
            .env("tag", "from outside")
            .env("COLUMNS", "300")
            .env_remove("ESSAIM_UNSET")
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT")
            .env_remove("ESSAIM_HOST")
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let sent = std::mem::take(&mut *self.server.sent.lock().expect("no panic"));
        (output, sent)
    }
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shown(sent: &[Sent]) -> String {
    sent.iter().map(|one| format!("{} {} {} {}\n", one.method, one.path, one.body, one.auth)).collect()
}

/// A line for each place at which two values differ.
fn differences(at: &str, theirs: &Value, ours: &Value, found: &mut String) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for name in theirs.keys().chain(ours.keys().filter(|name| !theirs.contains_key(*name))) {
                let get = |fields: &serde_json::Map<String, Value>| fields.get(name).cloned().unwrap_or_default();
                differences(&format!("{at}/{name}"), &get(theirs), &get(ours), found);
            }
        }
        (theirs, ours) if theirs != ours => *found += &format!("  {at}: docker {theirs}, essaim {ours}\n"),
        _ => (),
    }
}

/// Answers a request, and records it if it is one that counts: a change, or a question to a registry.
async fn answer(State(server): State<Server>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let whole = uri.path();
    let versioned = whole.strip_prefix("/v1.").and_then(|rest| rest.split_once('/'));
    let path = versioned.map_or_else(|| whole.to_owned(), |(_, rest)| format!("/{rest}"));
    if method == Method::POST || path.starts_with("/distribution/") {
        let mut query: Vec<_> = uri.query().unwrap_or("").split('&').collect();
        query.sort_unstable();
        let mut body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        prune("", &mut body);
        let auth = headers.get("X-Registry-Auth").map_or(Value::Null, |auth| {
            let auth = base64::engine::general_purpose::URL_SAFE.decode(auth.as_bytes()).expect("base64");
            serde_json::from_slice(&auth).expect("JSON")
        });
        let sent = Sent { method: method.to_string(), path: format!("{path}?{}", query.join("&")), body, auth };
        server.sent.lock().expect("no panic").push(sent);
    }
    let missing = |what: &str| (StatusCode::NOT_FOUND, json!({"message": format!("{what} not found")}));
    let named = |name: &str| json!({"ID": format!("id-of-{name}"), "Spec": {"Name": name}});
    let (status, answer) = match path.split('/').skip(1).collect::<Vec<_>>().as_slice() {
        ["_ping"] => {
            return ([("Api-Version", "1.50"), ("Ostype", "linux"), ("Swarm", "active/manager")], "OK").into_response();
        }
        ["distribution", name @ .., "json"] => match name.join("/").as_str() {
            name if name.starts_with("missing") => missing("manifest"),
            _ => (
                StatusCode::OK,
                json!({
                    "Descriptor": {"mediaType": "m", "digest": format!("sha256:{}", "0".repeat(64)), "size": 5},
                    "Platforms": [{"architecture": "amd64", "os": "linux"}, {"architecture": "arm", "os": "linux"}],
                }),
            ),
        },
        ["services", "create"] => (StatusCode::CREATED, json!({"ID": "the-id", "Warnings": ["a warning"]})),
        ["services", _, "update"] => (StatusCode::OK, json!({"Warnings": null})),
        ["services", name] => match service(name) {
            Some(service) => (StatusCode::OK, service),
            None => missing("service"),
        },
        ["secrets"] => (StatusCode::OK, json!([named("tok"), named("db"), named("database"), named("a"), named("b")])),
        ["configs"] => (StatusCode::OK, json!([named("site"), named("other")])),
        ["networks", name @ ("back" | "front")] => {
            (StatusCode::OK, json!({"Id": format!("id-of-{name}"), "Name": name}))
        }
        _ => missing(&path),
    };
    (status, [("Content-Type", "application/json")], answer.to_string()).into_response()
}

/// Services that updates change: `web` has something in every list, `plain` has nothing.
fn service(name: &str) -> Option<Value> {
    let file = |name: &str| json!({"Name": name, "UID": "0", "GID": "0", "Mode": 292});
    let mut spec = json!({
        "Name": name, "Labels": {},
        "TaskTemplate": {
            "ContainerSpec": {"Image": "alpine:latest", "Init": false, "DNSConfig": {}, "Isolation": "default"},
            "Resources": {"Limits": {}, "Reservations": {}}, "Placement": {}, "ForceUpdate": 2, "Runtime": "container",
        },
        "Mode": {"Replicated": {"Replicas": 3}}, "EndpointSpec": {"Mode": "vip"},
    });
    match name {
        "plain" => (),
        "agent" => spec["Mode"] = json!({"Global": {}}),
        "unhealthy" => spec["TaskTemplate"]["ContainerSpec"]["Healthcheck"] = json!({"Test": ["NONE"]}),
        "web" => {
            spec["Labels"] = json!({"old": "1", "a": "1"});
            spec["TaskTemplate"]["ContainerSpec"] = json!({
                "Image": "alpine:latest", "Labels": {"cl": "1"}, "Env": ["A=1", "B=2"], "Groups": ["wheel"], "Init": true,
                "TTY": true, "ReadOnly": true, "Hosts": ["10.0.0.8 a b", "10.0.0.7 a"], "StopGracePeriod": 1_000_000_000,
                "DNSConfig": {"Nameservers": ["10.0.0.1"], "Search": ["a"], "Options": ["ndots:1"]},
                "CapabilityAdd": ["CAP_NET_ADMIN"], "CapabilityDrop": ["CAP_CHOWN"], "Sysctls": {"a": "b", "c": "d"},
                "Ulimits": [{"Name": "core", "Hard": 1, "Soft": 1}, {"Name": "nofile", "Hard": 5, "Soft": 4}],
                "Mounts": [{"Type": "tmpfs", "Target": "/gone"}, {"Type": "bind", "Source": "/o", "Target": "/old"}],
                "Healthcheck": {"Test": ["CMD-SHELL", "false"], "Interval": 1_000_000_000},
                "Secrets": [{"File": file("tok"), "SecretID": "1", "SecretName": "tok"}],
                "Configs": [{"File": file("site"), "ConfigID": "id-of-site", "ConfigName": "site"}], "Isolation": "default",
            });
            spec["TaskTemplate"]["Resources"] = json!({
                "Limits": {"NanoCPUs": 1, "MemoryBytes": 67_108_864, "Pids": 9},
                "Reservations": {"MemoryBytes": 5, "GenericResources": [
                    {"DiscreteResourceSpec": {"Kind": "gpu", "Value": 1}}, {"DiscreteResourceSpec": {"Kind": "fpga", "Value": 1}},
                ]},
            });
            spec["TaskTemplate"]["RestartPolicy"] = json!({"Condition": "on-failure", "Delay": 1, "MaxAttempts": 2});
            spec["TaskTemplate"]["LogDriver"] = json!({"Name": "syslog", "Options": {"a": "b"}});
            spec["TaskTemplate"]["Placement"] = json!({
                "Constraints": ["node.labels.a==b"], "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.zone"}}],
                "MaxReplicas": 3,
            });
            spec["TaskTemplate"]["Networks"] = json!([{"Target": "id-of-front"}]);
            spec["UpdateConfig"] = json!({"Parallelism": 2, "Delay": 7, "FailureAction": "continue", "MaxFailureRatio": 0.5, "Order": "start-first"});
            spec["EndpointSpec"]["Ports"] =
                json!([{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8000, "PublishMode": "ingress"}]);
        }
        _ => return None,
    }
    Some(json!({"ID": format!("id-of-{name}"), "Version": {"Index": 7}, "Spec": spec}))
}

/// Fields whose empty, zero or false value means something.
const TELLING: &[&str] = &[
    "Init",
    "Replicas",
    "MaxConcurrent",
    "TotalCompletions",
    "MaxAttempts",
    "Window",
    "StopGracePeriod",
    "Replicated",
    "Global",
    "ReplicatedJob",
    "GlobalJob",
    "Runtime",
];

/// Lists whose order docker draws at random.
const UNORDERED: &[&str] = &["Env", "Secrets", "Configs", "GenericResources", "Ports"];

fn prune(name: &str, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                prune(name, value);
            }
            fields.sort_keys();
            fields.retain(|name, value| {
                let empty = match value {
                    Value::Null | Value::Bool(false) => true,
                    Value::Number(number) => number.as_f64() == Some(0.0),
                    Value::String(text) => text.is_empty(),
                    Value::Array(items) => items.is_empty(),
                    Value::Object(fields) => fields.is_empty(),
                    Value::Bool(true) => false,
                };
                !empty || TELLING.contains(&name.as_str()) && !value.is_null()
            });
        }
        Value::Array(items) => {
            items.iter_mut().for_each(|item| prune("", item));
            if UNORDERED.contains(&name) {
                items.sort_by_key(Value::to_string);
            }
        }
        _ => (),
    }
}
