//! Contract with the stock docker CLI: its output against our daemons is compared with its recorded output against
//! Docker.
//!
//! `fixtures/` holds the command, exit code and output of recorded commands, one file each, under the recording's name.
//! A test runs the command (with a program in place of the recorded image) and compares the exit code and the output.
//! What differs from run to run is masked ([`words`]). A command that only reads is repeated until it fits, since a cluster
//! takes a moment to agree; a command that changes something is run once.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use essaim_cluster_tests::harness::{Cluster, Said, eventually, have};
use essaim_cluster_tests::words;

/// How a command's output is compared with the recording.
#[derive(Clone, Copy)]
struct Rule<'a> {
    /// Whether the command changes something, and is therefore run once.
    acts: bool,
    /// Words of the recording, each with the word that replaces it in our output.
    swaps: &'a [(&'a str, &'a str)],
    /// Whether the order of lines and the names of nodes are ignored, since the scheduler chooses the nodes.
    anywhere: bool,
    /// Text that both error messages contain; the rest is not compared, since ours also says which half of a token is
    /// wrong and what to do.
    says_more: Option<&'a str>,
}

const READ: Rule<'_> = Rule { acts: false, swaps: &[], anywhere: false, says_more: None };
const ACT: Rule<'_> = Rule { acts: true, ..READ };

/// Three daemons outside of any cluster, and the docker CLI.
struct Session {
    cluster: Cluster,
    config: TempDir,
}

impl Session {
    /// Starts the daemons; `None`, with a line on stderr, when this machine has no docker CLI.
    fn begin() -> Option<Self> {
        if !have("docker") {
            eprintln!("skipped: the contract with the stock docker CLI needs docker");
            return None;
        }
        let cluster = Cluster::of_strangers(&["node1", "node2", "node3"]);
        Some(Self { cluster, config: tempfile::tempdir().expect("there is room for a folder") })
    }

    /// Runs `docker` against the daemon with this number. Arguments are separated by single spaces; `␠` is a space
    /// inside an argument.
    fn docker(&self, at: usize, line: &str) -> Said {
        let socket = &self.cluster.daemons[at - 1].socket;
        let output = Command::new("docker")
            .arg("-H")
            .arg(format!("unix://{}", socket.display()))
            .args(line.split(' ').map(|word| word.replace('␠', " ")))
            .env("DOCKER_CONFIG", self.config.path())
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT")
            .stdin(Stdio::null())
            .output()
            .expect("docker can be started");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), error: text(&output.stderr) }
    }

    /// Runs a command and compares it with its recording.
    fn check(&self, name: &str, at: usize, line: &str, rule: Rule<'_>) -> Said {
        let recorded = recording(name);
        let expected = masked(&recorded, rule);
        let compare = |said: &Said| {
            let mut ours = masked(said, rule);
            if recorded.code == 0 {
                // When a command succeeds, stderr holds only Docker's words about the image in the registry, which we
                // do not ask.
                ours.error.clone_from(&expected.error);
            }
            if let Some(words) = rule.says_more
                && said.error.contains(words)
                && recorded.error.contains(words)
            {
                ours.error.clone_from(&expected.error);
            }
            if ours == expected {
                Ok(())
            } else {
                Err(format!("docker {line}\n--- recorded ({name})\n{}\n--- ours\n{}", shown(&expected), shown(&ours)))
            }
        };
        if rule.acts {
            let said = self.docker(at, line);
            compare(&said).unwrap_or_else(|difference| panic!("{difference}"));
            return said;
        }
        eventually("the text fits", || {
            let said = self.docker(at, line);
            compare(&said).map(|()| said)
        })
    }

    fn address(&self, at: usize) -> String {
        self.cluster.daemons[at - 1].host.address.ip().to_string()
    }

    fn token(&self, role: &str) -> String {
        self.docker(1, &format!("swarm join-token -q {role}")).out.trim().to_owned()
    }

    fn join(&self, token: &str) -> String {
        format!("swarm join --token {token} {}", self.cluster.daemons[0].host.address)
    }

    /// Forms a swarm of the three daemons with node1 as its only manager.
    fn swarm(&self) {
        self.check("013-swarm-init", 1, &format!("swarm init --advertise-addr {}", self.address(1)), ACT);
        let token = self.token("worker");
        self.check("022-join-worker", 2, &self.join(&token), ACT);
        self.check("023-join-worker-2", 3, &self.join(&token), ACT);
    }
}

#[test]
fn a_swarm_is_made_joined_and_left_in_dockers_words() {
    let Some(session) = Session::begin() else { return };
    let check = |name: &str, at: usize, line: &str, rule: Rule<'_>| session.check(name, at, line, rule);
    check("005-node-ls-noswarm", 1, "node ls", READ);
    check("007-join-token-noswarm", 1, "swarm join-token worker", READ);
    check("009-leave-noswarm", 1, "swarm leave", ACT);
    session.swarm();
    check("014-swarm-init-again", 1, "swarm init", ACT);
    check("016-join-token-worker", 1, "swarm join-token worker", READ);
    check("017-join-token-manager", 1, "swarm join-token manager", READ);
    check("018-join-token-worker-q", 1, "swarm join-token -q worker", READ);
    let token = session.token("worker");
    check("024-join-again", 2, &session.join(&token), ACT);
    check("025-node-ls-on-worker", 2, "node ls", READ);
    check("027-node-ls", 1, "node ls", READ);
    check("051-join-token-rotate", 1, "swarm join-token --rotate worker", ACT);
    check("228-swarm-leave-worker", 3, "swarm leave", ACT);
    check(
        "021-join-garbage-token",
        3,
        &session.join("nonsense"),
        Rule { says_more: Some("Error response from daemon: invalid join token"), ..ACT },
    );
    check(
        "020-join-bad-token",
        3,
        &session.join(&of_another_authority(&token)),
        Rule { says_more: Some("remote CA does not match fingerprint"), ..ACT },
    );
    check(
        "053-join-with-old-token",
        3,
        &session.join(&token),
        Rule { says_more: Some("A valid join token is necessary to join this cluster"), ..ACT },
    );
    check("054-join-with-new-token", 3, &session.join(&session.token("worker")), ACT);
    // The node that left is listed as down, beside the ready node of the same name that joined after it.
    let old = check("056-node-ls-old-node-down", 1, "node ls", Rule { anywhere: true, ..READ }).out;
    let old = old
        .lines()
        .find(|line| line.contains("Down"))
        .and_then(|line| line.split(' ').next())
        .expect("a line has an id")
        .to_owned();
    let removed = session.docker(1, &format!("node rm {old}"));
    assert_eq!((removed.code, removed.out.trim()), (0, old.as_str()), "057-node-rm-down: {}", removed.error);
    check("027-node-ls", 1, "node ls", READ);
    check("066-swarm-leave-manager", 1, "swarm leave", ACT);
    check("228-swarm-leave-worker", 2, "swarm leave", ACT);
    check("229-swarm-leave-force", 1, "swarm leave --force", ACT);
    check("246-leave-2", 1, "swarm leave --force", ACT);
}

#[test]
fn nodes_are_shown_and_changed_in_dockers_words() {
    let Some(session) = Session::begin() else { return };
    let check = |name: &str, line: &str, rule: Rule<'_>| session.check(name, 1, line, rule);
    session.swarm();
    check("027-node-ls", "node ls", READ);
    check("028-node-ls-q", "node ls -q", READ);
    check("029-node-ls-json", "node ls --format json", READ);
    check("030-node-ls-filter-role", "node ls --filter role=worker", READ);
    check("031-node-ls-filter-name", "node ls --filter name=node2", READ);
    check("032-node-ls-bad-filter", "node ls --filter color=red", READ);
    check("033-node-ls-tls", "node ls --format {{.Hostname}}␠{{.TLSStatus}}␠{{.ManagerStatus}}", READ);
    check("036-node-inspect-missing", "node inspect nope", READ);
    check("037-node-promote", "node promote node2", ACT);
    check("038-node-ls-promoted", "node ls", READ);
    check("039-node-promote-already", "node promote node2", ACT);
    check("040-node-update-role-manager", "node update --role manager node3", ACT);
    check("041-node-ls-3-managers", "node ls", READ);
    check("043-node-demote", "node demote node3", ACT);
    check("038-node-ls-promoted", "node ls", READ);
    check("044-node-demote-two", "node demote node2 node3", ACT);
    check("027-node-ls", "node ls", READ);
    check("045-node-demote-last", "node demote node1", ACT);
    check("046-node-update-label-add", "node update --label-add disk=ssd --label-add zone=a node2", ACT);
    check("047-node-update-label-rm", "node update --label-rm zone node2", ACT);
    check("048-node-update-pause", "node update --availability pause node3", ACT);
    check("049-node-update-active", "node update --availability active node3", ACT);
    check("050-node-rm-ready", "node rm node3", ACT);
    // Only the labels before each colon of `--pretty` are compared: the values describe another machine.
    let labels = |text: &str| -> Vec<String> {
        let ours = ["Plugins", "Log", "Network", "Volume", "Labels", "- disk=ssd"];
        let lines = text.lines().filter_map(|line| line.split_once(':').map(|(label, _)| label.trim().to_owned()));
        lines.filter(|label| !ours.contains(&label.as_str())).collect()
    };
    let pretty = session.docker(1, "node inspect --pretty node2");
    assert_eq!(
        labels(&pretty.out),
        labels(&recording("035-node-inspect-pretty").out),
        "035-node-inspect-pretty\n{}",
        pretty.out
    );
    let own = session.docker(1, "node inspect self --pretty");
    assert_eq!(own.code, 0, "{}", own.error);
    assert!(own.out.contains("Manager Status:") && own.out.contains("node1"), "{}", own.out);
}

#[test]
fn services_are_run_in_dockers_words() {
    let Some(session) = Session::begin() else { return };
    let check = |name: &str, line: &str, rule: Rule<'_>| session.check(name, 1, line, rule);
    const PROGRAM: &[(&str, &str)] = &[("alpine:latest", "sleep:latest"), ("whoami:latest", "essaim:latest")];
    let whoami = "service create --name whoami --stop-grace-period 1s --replicas 5 essaim whoami";
    session.swarm();
    check("093-service-create-ping", "service create --replicas 1 --name helloworld sleep 100000", ACT);
    check("094-service-create-detach", "service create -d --name ping2 sleep 100000", ACT);
    check("095-service-create-dup", "service create -d --name ping2 sleep 100000", ACT);
    check("097-service-create-whoami", whoami, ACT);
    check(
        "103-service-create-global",
        "service create --mode global --name agent --constraint node.platform.os==linux sleep 100000",
        ACT,
    );
    check(
        "105-service-create-unsatisfiable",
        "service create -d --name never --constraint node.labels.disk==tape sleep 100000",
        ACT,
    );
    check("106-service-ps-unsatisfiable", "service ps --no-trunc never", Rule { swaps: PROGRAM, ..READ });
    check("113-service-create-bad-name", "service create -d --name bad␠name sleep", ACT);
    // Which constraint is wrong, and the operators beyond Swarm's.
    let more = Rule { says_more: Some("constraint expected one operator from ==, !="), ..ACT };
    check("116-service-create-bad-constraint", "service create -d --name badc --constraint foo sleep", more);
    check("125-service-ps", "service ps whoami", Rule { swaps: PROGRAM, anywhere: true, ..READ });
    check("126-service-ps-json", "service ps whoami --format json", Rule { swaps: PROGRAM, anywhere: true, ..READ });
    check("128-service-ps-missing", "service ps nope", READ);
    check("133-service-inspect-missing", "service inspect nope", READ);
    check("136-service-scale-global", "service scale agent=2", ACT);
    const SCALED: &[(&str, &str)] = &[("back", "whoami"), ("15", "7"), ("6", "4")];
    check("134-service-scale", "service scale whoami=7", Rule { swaps: SCALED, ..ACT });
    check("137-service-scale-detach", "service scale -d whoami=4", Rule { swaps: SCALED, ..ACT });
    check(
        "141-service-update-config",
        "service update --constraint-add node.platform.os==linux whoami",
        Rule { swaps: SCALED, ..ACT },
    );
    let list = session.docker(1, "service ls").out;
    let head =
        |text: &str| text.lines().next().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(head(&list), head(&recording("120-service-ls").out), "120-service-ls");
    for row in [
        "agent global 3/3 sleep:latest",
        "helloworld replicated 1/1 sleep:latest",
        "never replicated 0/1 sleep:latest",
        "whoami replicated 4/4 essaim:latest",
    ] {
        eventually("120-service-ls", || {
            let list = session.docker(1, "service ls").out;
            let squeezed = list.split_whitespace().collect::<Vec<_>>().join(" ");
            if squeezed.contains(row) { Ok(()) } else { Err(format!("{row:?} is not in\n{list}")) }
        });
    }
    check("162-service-logs-missing", "service logs nope", READ);
    // A log line begins with the task and its node, padded to the same width in all lines.
    let line = eventually("158-service-logs", || {
        let said = session.docker(1, "service logs --tail 5 whoami");
        said.out.lines().next().map(str::to_owned).ok_or(said.error)
    });
    let (source, text) = line.split_once("    | ").unwrap_or_else(|| panic!("158-service-logs: {line:?}"));
    assert!(source.starts_with("whoami.") && source.contains("@node"), "{line}");
    assert!(text.contains("whoami listens on http://127."), "{line}");
    check("048-node-update-pause", "node update --availability drain node3", ACT);
    eventually("nothing is left on node3", || {
        let left = session.cluster.daemons[2].tasks().len();
        if left == 0 { Ok(()) } else { Err(format!("{left} tasks are there")) }
    });
    check("221-service-rm-all", "service rm agent whoami", ACT);
}

/// JSON for other clients than the CLI: every recorded field is there and has the recorded type.
#[test]
fn every_recorded_field_is_there() {
    // A cluster of one node: the recorded node is a manager, and the first of a list sorted by id must be one as well.
    let cluster = Cluster::on_loopback(1, 1);
    let service = cluster.create("web", 1);
    cluster.wait_running(&service, 1, &[]);
    let shapes: Value =
        serde_json::from_str(&std::fs::read_to_string(fixtures().join("shapes.json")).expect("a fixture is there"))
            .expect("a fixture is JSON");
    // Fields that only containers, their networks or an image have.
    let except = [
        "Plugins",
        "DefaultAddrPool",
        "Network",
        "Init",
        "StopGracePeriod",
        "Platforms",
        "Isolation",
        "PID",
        "DNSConfig",
    ];
    for (path, shape) in shapes.as_object().into_iter().flatten() {
        let path = path.trim_start_matches("GET ");
        let found = cluster.daemons[0].get(path);
        let found = if found.is_array() { found[0].clone() } else { found };
        let mut missing = Vec::new();
        compare(shape, &found, path, &except, &mut missing);
        assert!(missing.is_empty(), "{path}: {missing:?} of {found:#}");
    }
}

fn compare(shape: &Value, found: &Value, at: &str, except: &[&str], missing: &mut Vec<String>) {
    match shape {
        Value::Object(fields) => {
            for (name, shape) in fields.iter().filter(|(name, _)| !except.contains(&name.as_str())) {
                let at = format!("{at}/{name}");
                match found.get(name) {
                    Some(found) => compare(shape, found, &at, except, missing),
                    None => missing.push(at),
                }
            }
        }
        Value::Array(items) => match (items.first(), found.get(0)) {
            (Some(shape), Some(found)) => compare(shape, found, at, except, missing),
            (Some(_), None) => missing.push(at.to_owned()),
            (None, _) => (),
        },
        Value::String(kind) => {
            let fits = match kind.as_str() {
                "text" => found.is_string(),
                "number" => found.is_number(),
                "bool" => found.is_boolean(),
                _ => true,
            };
            if !fits {
                missing.push(format!("{at} as {kind}"));
            }
        }
        _ => (),
    }
}

/// The same token with the digest of a certificate authority that does not exist.
fn of_another_authority(token: &str) -> String {
    let mut parts: Vec<String> = token.split('-').map(str::to_owned).collect();
    // Only the last digit is changed, so that the number stays in the range of a digest.
    let other = if parts[2].ends_with('0') { "1" } else { "0" };
    let last = parts[2].len() - 1;
    parts[2].replace_range(last.., other);
    parts.join("-")
}

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Reads a recording. Its file holds `$ command`, `exit N`, then `-- stdout` and `-- stderr`, each followed by its
/// lines.
fn recording(name: &str) -> Said {
    let path = fixtures().join(format!("{name}.txt"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut said = Said { code: 0, out: String::new(), error: String::new() };
    let mut section = 0;
    for line in text.lines().skip(1) {
        match line {
            "-- stdout" => section = 1,
            "-- stderr" => section = 2,
            _ if section == 0 => {
                said.code = line.trim_start_matches("exit ").parse().expect("a recording has an exit code")
            }
            _ => {
                let stream = if section == 1 { &mut said.out } else { &mut said.error };
                stream.push_str(line);
                stream.push('\n');
            }
        }
    }
    said
}

fn shown(said: &Said) -> String {
    format!("exit {}\n{}{}", said.code, said.out, said.error)
}

fn masked(said: &Said, rule: Rule<'_>) -> Said {
    let text = |text: &str| {
        let swapped = words::map_pieces(&words::masked(text), |piece| swapped(piece, rule));
        let mut lines: Vec<_> = swapped.lines().collect();
        if rule.anywhere {
            lines.sort_unstable();
        }
        lines.join("\n") + "\n"
    };
    Said { code: said.code, out: text(&said.out), error: text(&said.error) }
}

/// The piece of a recording or of our output, as the rule replaces it.
fn swapped(piece: &str, rule: Rule<'_>) -> String {
    if rule.anywhere && ["node1", "node2", "node3"].contains(&piece.trim_end_matches(['.', ':'])) {
        return "<node>".to_owned();
    }
    let ours = rule.swaps.iter().find(|(recorded, _)| *recorded == piece).map(|(_, ours)| *ours);
    ours.unwrap_or(piece).to_owned()
}

#[test]
fn words_of_the_recording_are_swapped_and_the_order_of_lines_is_ignored_where_a_rule_says_so() {
    let said = |text: &str| Said { code: 0, out: text.to_owned(), error: String::new() };
    let rule = Rule { swaps: &[("whoami:latest", "essaim:latest")], anywhere: true, ..READ };
    let text = "whoami:latest@sha256:0dad on node3\na on node1";
    assert_eq!(masked(&said(text), rule).out, "a on <node>\nessaim:latest on <node>\n");
    assert_eq!(masked(&said(text), READ).out, "whoami:latest on node3\na on node1\n");
}

#[test]
fn every_recording_can_be_read() {
    for entry in std::fs::read_dir(fixtures()).expect("the fixtures are there").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(".txt") {
            let said = recording(name);
            assert!(!said.out.is_empty() || !said.error.is_empty(), "{name} says nothing");
        }
    }
}
