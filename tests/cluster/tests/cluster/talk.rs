//! The talk of `docs/talk.md`: its commands are typed in order with the stock docker CLI, on three hosts with a Docker
//! Engine each, and what each section says is checked after it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use essaim_cluster_tests::harness::cli::{Said, shell};
use essaim_cluster_tests::harness::{Cluster, Container, GLANCE, Load, Seen, eventually, missing_for_engines};

/// The page that the test types.
const PAGE: &str = include_str!("../../../../docs/talk.md");

/// Commands of the page that end with an error, as the page says.
const FAILS: &[&str] = &["docker service update --image buggy:v2 front"];

/// A section of the page: its title, and its commands with the index of the machine they are typed on.
struct Section {
    title: &'static str,
    commands: Vec<(usize, &'static str)>,
}

/// What one run of the page has seen so far.
struct Talk {
    cluster: Cluster,
    token: String,
    /// Containers that an earlier section left, by the name of their service.
    before: BTreeMap<&'static str, BTreeSet<String>>,
}

fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in PAGE.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            sections.push(Section { title, commands: Vec::new() });
        } else if let Some((number, command)) = line.strip_prefix("node").and_then(|rest| rest.split_once("$ ")) {
            let number: usize = number.parse().expect("a prompt names a machine by its number");
            sections.last_mut().expect("commands follow a title").commands.push((number - 1, command));
        }
    }
    sections
}

#[test]
fn the_talk_goes_as_its_page_says() {
    if let Some(why) = missing_for_engines() {
        eprintln!("skipped: {why}");
        return;
    }
    let cluster = Cluster::of_strangers_with_engines(&["node1", "node2", "node3"]);
    let mut talk = Talk { cluster, token: String::new(), before: BTreeMap::new() };
    for Section { title, commands } in sections() {
        eprintln!("## {title}");
        let type_all = |talk: &mut Talk| commands.iter().for_each(|(at, command)| talk.type_in(*at, command));
        match title {
            "A cluster of three" => type_all(&mut talk),
            "A ping" => {
                type_all(&mut talk);
                talk.a_ping_is_heard();
            }
            "A web service of five" => {
                type_all(&mut talk);
                talk.answers("whoami", 5, "v1");
                talk.is_spread("whoami", 1, 2);
                talk.is_reached_everywhere(9999, 5, "v1");
            }
            "Updated while it is used" => {
                let client = Load::start(talk.port(1, 9999), Some(&talk.cluster.daemons[2].host), "whoami ");
                type_all(&mut talk);
                talk.answers("whoami", 5, "v2");
                let seen = client.stop();
                assert!(
                    seen.failures.is_empty(),
                    "{} of {} requests failed: {:?}",
                    seen.failures.len(),
                    seen.answered(),
                    seen.failures[0].1
                );
                assert!(
                    ["v1", "v2"].iter().all(|version| seen
                        .answers
                        .keys()
                        .any(|answer| answer.starts_with(&format!("whoami {version} ")))),
                    "{:?}",
                    seen.answers
                );
                talk.is_reached_everywhere(9999, 5, "v2");
            }
            "Back-ends with a limit, scaled to fifteen" => {
                type_all(&mut talk);
                talk.answers("back", 15, "v1");
                talk.has_limit("back", 64 << 20);
                talk.is_spread("back", 4, 6);
            }
            "Updated two at a time" => {
                let (settings, update) = (commands[0], commands[1]);
                talk.remember("back");
                talk.type_in(settings.0, settings.1);
                assert_eq!(talk.ids("back"), talk.before["back"], "settings of an update replace nothing");
                let fewest = talk.fewest_during("back", || talk.run(update.0, update.1));
                assert!(fewest >= 13, "{fewest} of 15 ran during an update of two at a time");
                talk.answers("back", 15, "v2");
                assert!(talk.ids("back").is_disjoint(&talk.before["back"]), "all were replaced");
            }
            "A front-end, and a version that is broken" => {
                talk.type_in(commands[0].0, commands[0].1);
                talk.answers("front", 2, "v1");
                talk.remember("front");
                talk.type_in(commands[1].0, commands[1].1);
                talk.update_is("front", "paused");
                assert_eq!(talk.kept("front"), 1, "one was replaced, and the other was left alone");
                talk.one_answers("front", "v1");
                talk.is_reached_everywhere(80, 1, "v1");
            }
            "Back to the version before" => {
                type_all(&mut talk);
                talk.update_is("front", "rollback_completed");
                talk.answers("front", 2, "v1");
                assert_eq!(talk.kept("front"), 1, "the one that was left alone was not replaced");
            }
            "Back by itself" => {
                talk.remember("front");
                type_all(&mut talk);
                talk.update_is("front", "rollback_completed");
                talk.answers("front", 2, "v1");
                assert_eq!(talk.kept("front"), 1, "the one that was left alone was not replaced");
            }
            "A machine is emptied, and used again" => {
                let (drain, rest) = commands.split_first().expect("it has commands");
                talk.type_in(drain.0, drain.1);
                talk.is_empty(1);
                for (service, count, version) in [("whoami", 5, "v2"), ("back", 15, "v2"), ("front", 2, "v1")] {
                    talk.answers(service, count, version);
                }
                rest.iter().for_each(|(at, command)| talk.type_in(*at, command));
                talk.answers("whoami", 9, "v2");
                assert!(talk.on("whoami", 1) >= 3, "the node that returned gets the new ones");
            }
            "One on every machine" => {
                let mut machines = vec![0, 1, 2];
                for (at, command) in commands {
                    talk.type_in(at, command);
                    if command == "docker swarm leave" {
                        eventually("the machine that left is empty", || talk.has_none(at));
                        machines.retain(|machine| *machine != at);
                    } else if command.starts_with("docker swarm join ") {
                        machines = vec![0, 1, 2];
                    }
                    talk.runs_on("watch", &machines);
                }
            }
            "The end" => {
                type_all(&mut talk);
                (0..3).for_each(|at| talk.is_empty(at));
            }
            other => panic!("the page has a section that the test does not know: {other}"),
        }
    }
}

impl Talk {
    /// Types a command on a machine, and checks that it ends as the page says.
    fn type_in(&mut self, at: usize, command: &str) {
        let said = self.run(at, command);
        if command.starts_with("TOKEN=") {
            self.token = self.run(at, "docker swarm join-token -q worker").out.trim().to_owned();
        }
        let fails = FAILS.contains(&command);
        assert_eq!(said.code != 0, fails, "node{}$ {command}\n{}{}", at + 1, said.out, said.error);
        // A node that joins is seen by the others a moment later.
        if command.starts_with("docker swarm join") && !command.contains("join-token") {
            let daemon = &self.cluster.daemons[at];
            eventually("it is ready", || {
                let nodes = self.cluster.nodes()?;
                let is_ready = |node: &&Value| {
                    node["Description"]["Hostname"] == daemon.name.as_str() && node["Status"]["State"] == "ready"
                };
                nodes.iter().find(is_ready).map(drop).ok_or_else(|| format!("{} is not", daemon.name))
            });
        }
    }

    fn run(&self, at: usize, command: &str) -> Said {
        if command.starts_with("curl ") {
            // On the machine itself, whose network is its own.
            let mut shell = self.cluster.daemons[at].host.command("sh");
            let output = shell.args(["-c", command]).env("no_proxy", "*").output().expect("sh can be started");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            return Said {
                code: output.status.code().unwrap_or(-1),
                out: text(&output.stdout),
                error: text(&output.stderr),
            };
        }
        shell(&self.cluster.daemons[at].socket, command, &[("TOKEN", &self.token)])
    }

    fn id(&self, service: &str) -> String {
        self.run(0, &format!("docker service inspect --format '{{{{.ID}}}}' {service}")).out.trim().to_owned()
    }

    /// The running containers of a service, each with the index of its machine.
    fn containers(&self, service: &str) -> Vec<(usize, Container)> {
        let all = self.cluster.containers(&self.id(service)).into_iter();
        all.filter(|(_, container)| container.is_running).collect()
    }

    fn ids(&self, service: &str) -> BTreeSet<String> {
        self.containers(service).into_iter().map(|(_, container)| container.id).collect()
    }

    fn remember(&mut self, service: &'static str) {
        let ids = self.ids(service);
        self.before.insert(service, ids);
    }

    /// Number of remembered containers that still run.
    fn kept(&self, service: &'static str) -> usize {
        self.ids(service).intersection(&self.before[service]).count()
    }

    fn on(&self, service: &str, at: usize) -> usize {
        self.containers(service).iter().filter(|(engine, _)| *engine == at).count()
    }

    /// What a container's web server answers.
    fn answer(&self, at: usize, container: &Container) -> Result<String, String> {
        let engine = &self.cluster.engines[at];
        let inspected = engine.inspect(&container.id).ok_or("it is gone")?;
        let ip = inspected["NetworkSettings"]["IPAddress"].as_str().and_then(|ip| ip.parse().ok());
        let address = SocketAddr::new(ip.ok_or("it has no address")?, 80);
        let mut get = engine.host.command("curl");
        let output = get.args(["-sS", "--noproxy", "*", "-m", "5"]).arg(format!("http://{address}/")).output();
        let output = output.map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Waits until exactly this many containers of a service run, and all answer with this version.
    fn answers(&self, service: &str, count: usize, version: &str) {
        eventually(&format!("{count} of {service} answer as {version}"), || {
            let running = self.containers(service);
            let texts: Result<Vec<_>, _> = running.iter().map(|(at, container)| self.answer(*at, container)).collect();
            let texts = texts?;
            let all = texts.len() == count && texts.iter().all(|text| text.starts_with(&format!("whoami {version} ")));
            if all { Ok(()) } else { Err(format!("{texts:?}")) }
        });
        // The host name is the container's own, so each container has answered for itself.
        let running = self.containers(service);
        let hosts: BTreeSet<_> = running.iter().filter_map(|(at, one)| self.answer(*at, one).ok()).collect();
        assert_eq!(hosts.len(), count, "{hosts:?}");
    }

    /// Address of a published port on a machine.
    fn port(&self, at: usize, port: u16) -> SocketAddr {
        SocketAddr::new(self.cluster.daemons[at].host.address.ip(), port)
    }

    /// Checks that a published port of each machine leads another machine to this many containers of one version.
    fn is_reached_everywhere(&self, port: u16, count: usize, version: &str) {
        for at in 0..3 {
            let client = &self.cluster.daemons[(at + 1) % 3].host;
            eventually(&format!("port {port} of node{} leads to {count} of {version}", at + 1), || {
                let load = Load::start(self.port(at, port), Some(client), "whoami ");
                std::thread::sleep(Duration::from_millis(500));
                let Seen { answers, failures, .. } = load.stop();
                let all = answers.keys().all(|answer| answer.starts_with(&format!("whoami {version} ")));
                if failures.is_empty() && all && answers.len() == count {
                    Ok(())
                } else {
                    Err(format!("{answers:?} {failures:?}"))
                }
            });
        }
    }

    fn one_answers(&self, service: &str, version: &str) {
        eventually(&format!("one of {service} answers as {version}"), || {
            let running = self.containers(service);
            let texts = running.iter().filter_map(|(at, container)| self.answer(*at, container).ok());
            let found = texts.into_iter().any(|text| text.starts_with(&format!("whoami {version} ")));
            if found { Ok(()) } else { Err(format!("{running:?}")) }
        });
    }

    fn is_spread(&self, service: &str, least: usize, most: usize) {
        let counts: Vec<_> = (0..3).map(|at| self.on(service, at)).collect();
        assert!(counts.iter().all(|count| (least..=most).contains(count)), "{service} is spread as {counts:?}");
    }

    fn has_limit(&self, service: &str, bytes: u64) {
        for (at, container) in self.containers(service) {
            let seen = self.cluster.engines[at].inspect(&container.id).expect("it runs");
            assert_eq!(seen["HostConfig"]["Memory"], bytes);
            assert_eq!(seen["HostConfig"]["MemoryReservation"], bytes);
        }
    }

    fn a_ping_is_heard(&self) {
        eventually("the ping is heard from the manager", || {
            let said = self.run(0, "docker service logs --tail 3 ping");
            let heard = said.out.contains("64 bytes from 127.0.0.1");
            if heard { Ok(()) } else { Err(format!("{}{}", said.out, said.error)) }
        });
        assert_eq!(self.containers("ping").len(), 1);
    }

    fn update_is(&self, service: &str, state: &str) {
        eventually(&format!("the update of {service} is {state}"), || {
            let format = "{{.UpdateStatus.State}}: {{.UpdateStatus.Message}}";
            let said = self.run(0, &format!("docker service inspect --format '{format}' {service}"));
            if said.out.starts_with(&format!("{state}:")) { Ok(()) } else { Err(said.out) }
        });
    }

    /// The smallest number of running containers of a service while a command runs.
    fn fewest_during(&self, service: &str, run: impl FnOnce() -> Said + Send) -> usize {
        let id = self.id(service);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (id, done) = (&id, &done);
            let watch = scope.spawn(move || {
                let mut fewest = usize::MAX;
                while !done.load(Ordering::Relaxed) {
                    let running = self.cluster.containers(id).iter().filter(|(_, one)| one.is_running).count();
                    fewest = fewest.min(running);
                    std::thread::sleep(GLANCE);
                }
                fewest
            });
            let said = run();
            done.store(true, Ordering::Relaxed);
            assert_eq!(said.code, 0, "{}{}", said.out, said.error);
            watch.join().expect("a watch does not panic")
        })
    }

    /// Whether a machine has no running container of a service.
    fn has_none(&self, at: usize) -> Result<(), String> {
        let left: Vec<_> = self.cluster.engines[at].containers().into_iter().filter(|one| one.is_running).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    }

    fn is_empty(&self, at: usize) {
        eventually(&format!("node{} runs nothing", at + 1), || self.has_none(at));
    }

    fn runs_on(&self, service: &str, machines: &[usize]) {
        eventually(&format!("{service} runs on {machines:?}"), || {
            let mut on: Vec<_> = self.containers(service).into_iter().map(|(at, _)| at).collect();
            on.sort_unstable();
            if on == machines { Ok(()) } else { Err(format!("it runs on {on:?}")) }
        });
    }
}
