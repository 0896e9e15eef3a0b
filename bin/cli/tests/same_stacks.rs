//! The requests of `essaim stack deploy` are those of the docker CLI for the same compose files.
//!
//! Both programs run against a server of this test that records what they change: on an empty cluster, on one that has the
//! services already, and with `--prune`. Docker's order is that of its hash maps, so requests are compared sorted by what
//! they are about. Bodies are compared as they are.
//!
//! Without the docker CLI the tests say so and pass.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A file with what both programs know, in the short and the long forms of compose files of version 3.
const RICH: &str = r#"
version: "3.9"
x-env: &env {A: one, B: 2, C: 1.50, D: , HEX: 0x1F}
services:
  web:
    image: registry.example:5000/web:1
    entrypoint: /entry.sh --flag "two words"
    command: [serve, "--port", "80"]
    environment: *env
    env_file: web.env
    labels: [one=1, two]
    hostname: "{{.Task.Name}}"
    user: "1000:1000"
    working_dir: /srv
    init: true
    tty: true
    stdin_open: true
    read_only: true
    stop_signal: SIGINT
    stop_grace_period: 1m30s
    dns: [10.0.0.1, 10.0.0.2]
    dns_search: example.com
    extra_hosts: ["a:10.0.0.9", "b:10.0.0.8"]
    cap_add: [net_admin, CHOWN]
    cap_drop: [ALL]
    sysctls: {net.core.somaxconn: 128}
    ulimits: {nproc: 5, nofile: {soft: 10, hard: 20}}
    healthcheck: {test: curl -f localhost, interval: 5s, timeout: 1s, retries: 3, start_period: 10s}
    logging: {driver: json-file, options: {max-size: 1m}}
    ports:
      - 9000
      - "8080:80"
      - "5000-5002:5000-5002/udp"
      - {target: 443, published: 8443, protocol: tcp, mode: host}
    networks:
      front: {aliases: [www]}
      back:
    volumes:
      - data:/data
      - logs:/logs:nocopy
      - /etc/hosts:/hosts:ro
      - /anonymous
      - {type: bind, source: /srv, target: /srv, bind: {propagation: rslave}}
      - {type: tmpfs, target: /tmp, tmpfs: {size: 1048576}}
      - {type: volume, source: outside, target: /outside, read_only: true}
    secrets:
      - token
      - {source: key, target: /etc/key, uid: "5", gid: "6", mode: 0400}
    configs:
      - {source: site, target: /site}
      - shared
    deploy:
      mode: replicated
      replicas: 3
      endpoint_mode: dnsrr
      labels: {tier: front}
      update_config: {parallelism: 2, delay: 10s, failure_action: rollback, monitor: 5s, max_failure_ratio: 0.25, order: start-first}
      rollback_config: {parallelism: 0, order: stop-first}
      restart_policy: {condition: on-failure, delay: 5s, max_attempts: 3, window: 2m}
      resources:
        limits: {cpus: "0.50", memory: 50M, pids: 10}
        reservations:
          cpus: "0.25"
          memory: 20M
          generic_resources: [{discrete_resource_spec: {kind: ssd, value: 2}}]
      placement:
        constraints: [node.role == worker]
        preferences: [{spread: node.labels.zone}]
        max_replicas_per_node: 2
  agent:
    image: agent
    restart: on-failure:3
    deploy: {mode: global}
    networks: [hostnet]
  job:
    image: alpine:3
    healthcheck: {disable: true}
    deploy: {mode: replicated-job, replicas: 2}
  windows:
    image: alpine
    credential_spec: {config: site}
networks:
  front: {driver: overlay, attachable: true, driver_opts: {encrypted: ""}, labels: {a: b}, ipam: {config: [{subnet: 10.99.0.0/24}]}}
  back: {internal: true, name: own-name}
  hostnet: {external: true, name: host}
volumes:
  data: {labels: {a: b}}
  logs: {driver: local, driver_opts: {type: nfs, device: ":/x"}}
  outside: {external: true, name: company-data}
secrets:
  token: {file: ./web.env}
  key: {file: ./web.env, name: key-2, labels: {x: y}, template_driver: golang}
configs:
  site: {file: ./web.env}
  shared: {external: true, name: shared-config}
"#;

/// Files of the compose crate that the docker CLI understands in the same way.
const FILES: &[&str] = &["anchors", "kafka", "minimal", "traefik", "voting", "wordpress/docker-compose.yaml"];

/// What a client sent: method and path with query, and body.
type Sent = (String, Value);

#[derive(Clone, Default)]
struct Server {
    /// What changed something.
    sent: Arc<Mutex<Vec<Sent>>>,
    /// Services that are there.
    services: Arc<Mutex<Vec<Value>>>,
}

#[test]
fn both_programs_deploy_the_same() {
    if Command::new("docker").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: the comparison with the stock docker CLI needs docker");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("config.json"), "{}").expect("written");
    std::fs::write(folder.path().join("web.env"), "FROM_FILE=1\nB=file\n").expect("written");
    std::fs::write(folder.path().join("rich.yml"), RICH).expect("written");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../compose/fixtures/files");
    let mut files: Vec<PathBuf> = vec![folder.path().join("rich.yml")];
    for name in FILES {
        let path = fixtures.join(name);
        files.push(if path.is_dir() { path.join("compose.yml") } else { path });
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = Server::default();
    let listener = {
        let _guard = runtime.enter();
        tokio::net::UnixListener::bind(folder.path().join("socket")).expect("a socket")
    };
    let app = Router::new().fallback(answer).with_state(server.clone());
    runtime.spawn(async move { axum::serve(listener, app).await });
    let deploy = |program: &str, file: &Path, more: &[&str]| {
        server.sent.lock().expect("no panic").clear();
        let output = run(program, folder.path(), file, more);
        let mut sent = std::mem::take(&mut *server.sent.lock().expect("no panic"));
        sent.sort_by_key(|(what, body)| (what.clone(), body["Name"].to_string()));
        assert!(output.status.success(), "{program} {}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
        sent
    };
    let mut wrong = String::new();
    for file in &files {
        server.services.lock().expect("no panic").clear();
        let made = deploy("docker", file, &[]);
        let mut rounds: Vec<(&[&str], Vec<Sent>)> = vec![(&[], made.clone())];
        // The services are there now, one among them that is in no file.
        let specs = made.iter().filter(|(what, _)| what.contains("/services/create")).map(|(_, spec)| spec.clone());
        let mut there: Vec<Value> = specs.collect();
        there.push(json!({"Name": "x_old", "Labels": {"com.docker.stack.namespace": "x"}, "TaskTemplate": {"ContainerSpec": {"Image": "old"}}, "Mode": {"Replicated": {}}}));
        let services = there.into_iter().enumerate().map(|(at, mut spec)| {
            spec["TaskTemplate"]["ForceUpdate"] = json!(3);
            json!({"ID": format!("id-{at}"), "Version": {"Index": 7}, "Spec": spec})
        });
        let services: Vec<_> = services.collect();
        for more in
            [&["--resolve-image", "changed"][..], &["--resolve-image", "never"], &["--prune", "--with-registry-auth"]]
        {
            server.services.lock().expect("no panic").clone_from(&services);
            rounds.push((more, deploy("docker", file, more)));
        }
        for (at, (more, theirs)) in rounds.into_iter().enumerate() {
            *server.services.lock().expect("no panic") = if at == 0 { Vec::new() } else { services.clone() };
            let ours = deploy(env!("CARGO_BIN_EXE_essaim"), file, more);
            // With --resolve-image changed or never, this docker forgets the platforms of an image that it keeps, and so
            // replaces all tasks. Ours keeps them with it.
            // And the long form of a port has no protocol with docker when none is written, which means tcp.
            let forgets = more.contains(&"changed") || more.contains(&"never");
            let plain = |sent: Vec<Sent>| -> Vec<Sent> {
                let sent = sent.into_iter().map(|(what, mut body)| {
                    if let Some(Value::Object(placement)) =
                        body.pointer_mut("/TaskTemplate/Placement").filter(|_| forgets)
                    {
                        placement.remove("Platforms");
                    }
                    for port in
                        body.pointer_mut("/EndpointSpec/Ports").and_then(Value::as_array_mut).into_iter().flatten()
                    {
                        if let Some(port) = port.as_object_mut() {
                            port.entry("Protocol").or_insert_with(|| "tcp".into());
                        }
                    }
                    (what, body)
                });
                sent.collect()
            };
            let (theirs, ours) = (plain(theirs), plain(ours));
            for (what, body) in theirs.iter().filter(|sent| !ours.contains(sent)) {
                wrong += &format!("{} {more:?}\n- docker: {what} {body}\n", file.display());
            }
            for (what, body) in ours.iter().filter(|sent| !theirs.contains(sent)) {
                wrong += &format!("{} {more:?}\n+ essaim: {what} {body}\n", file.display());
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn run(program: &str, folder: &Path, file: &Path, more: &[&str]) -> Output {
    Command::new(program)
        .arg("-H")
        .arg(format!("unix://{}", folder.join("socket").display()))
        .args(["stack", "deploy", "-d", "-c"])
        .arg(file)
        .args(more)
        .arg("x")
        .env("DOCKER_CONFIG", folder)
        .env_remove("DOCKER_HOST")
        .env_remove("DOCKER_CONTEXT")
        .env_remove("ESSAIM_HOST")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Answers a request, and records it if it changes something or asks a registry.
async fn answer(State(server): State<Server>, method: Method, uri: Uri, body: Bytes) -> Response {
    let whole = uri.path();
    let versioned = whole.strip_prefix("/v1.").and_then(|rest| rest.split_once('/'));
    let path = versioned.map_or_else(|| whole.to_owned(), |(_, rest)| format!("/{rest}"));
    if method == Method::POST || method == Method::DELETE || path.starts_with("/distribution/") {
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let query = uri.query().unwrap_or("");
        server.sent.lock().expect("no panic").push((format!("{method} {path}?{query}"), body));
    }
    let missing = (StatusCode::NOT_FOUND, json!({"message": format!("{path} not found")}));
    let named = |names: &[&str]| -> Value {
        names
            .iter()
            .map(|name| json!({"ID": format!("id-of-{name}"), "Version": {"Index": 4}, "Spec": {"Name": name}}))
            .collect()
    };
    let (status, answer) = match path.split('/').skip(1).collect::<Vec<_>>().as_slice() {
        ["_ping"] => {
            return ([("Api-Version", "1.50"), ("Ostype", "linux"), ("Swarm", "active/manager")], "OK").into_response();
        }
        ["info"] => (StatusCode::OK, json!({"Swarm": {"ControlAvailable": true, "LocalNodeState": "active"}})),
        ["distribution", "agent:latest", "json"] => missing,
        ["distribution", ..] => (
            StatusCode::OK,
            json!({
                "Descriptor": {"mediaType": "m", "digest": format!("sha256:{}", "0".repeat(64)), "size": 5},
                "Platforms": [{"architecture": "amd64", "os": "linux"}],
            }),
        ),
        ["services"] => (StatusCode::OK, Value::Array(server.services.lock().expect("no panic").clone())),
        ["services", "create"] => (StatusCode::CREATED, json!({"ID": "the-id"})),
        ["services", _, "update"] => (StatusCode::OK, json!({"Warnings": null})),
        ["services", _] if method == Method::DELETE => (StatusCode::OK, json!({})),
        // Running, so that what depends on a service need not wait.
        ["tasks"] => (StatusCode::OK, json!([{"Status": {"State": "running"}}])),
        ["networks"] => (StatusCode::OK, json!([])),
        ["networks" | "secrets" | "configs", "create"] => (StatusCode::CREATED, json!({"ID": "made", "Id": "made"})),
        ["networks", name] => (StatusCode::OK, json!({"Id": name, "Name": name, "Scope": "swarm"})),
        ["secrets"] => (StatusCode::OK, named(&["x_token", "key-2"])),
        ["configs"] => (StatusCode::OK, named(&["x_site", "shared-config"])),
        // One of the secrets is there already.
        ["secrets", "x_token"] => (StatusCode::OK, named(&["x_token"])[0].clone()),
        ["secrets", _, "update"] => (StatusCode::OK, json!({})),
        _ => missing,
    };
    (status, [("Content-Type", "application/json")], answer.to_string()).into_response()
}
