//! Test of the README's first command, `essaim dev`: the tasks of its demo service answer, and nothing is left behind.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use essaim_cluster_tests::harness::{PATIENCE, essaim_command, eventually, get_tcp, turn};

/// A running `essaim dev`, with the lines that it has printed.
struct Dev {
    child: Child,
    lines: Receiver<String>,
    runtime: tempfile::TempDir,
}

impl Dev {
    fn start(arguments: &[&str]) -> Self {
        let runtime = tempfile::tempdir().expect("there is room for a folder");
        let mut child = essaim_command()
            .arg("dev")
            .args(arguments)
            .env("XDG_RUNTIME_DIR", runtime.path())
            .env("TMPDIR", runtime.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().expect("its output was asked for"));
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, runtime }
    }

    /// Reads output until a line begins with `beginning`, ignoring indentation; returns all lines up to this one.
    fn until(&self, beginning: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    let found = line.trim_start().starts_with(beginning);
                    seen.push(line);
                    if found {
                        return seen;
                    }
                }
                Err(_) => panic!("{beginning:?} was never printed:\n{}", seen.join("\n")),
            }
        }
    }

    fn ask(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = essaim_command();
        let command: &mut Command =
            command.args(arguments).env("XDG_RUNTIME_DIR", self.runtime.path()).env("TMPDIR", self.runtime.path());
        let output = command.output().expect("the program can be started");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Sends SIGINT, as Ctrl-C does; returns the exit code and the runtime folder.
    fn end(mut self) -> (Option<i32>, tempfile::TempDir) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).expect("one's own child can be signalled");
        let status = self.child.wait().expect("one's own child can be waited for");
        (status.code(), self.runtime)
    }
}

/// Addresses on which the tasks listen, from the printed lines with `curl`.
fn tasks(lines: &[String]) -> Vec<SocketAddr> {
    let urls = lines.iter().filter_map(|line| line.trim_start().strip_prefix("curl http://"));
    urls.filter_map(|rest| rest.split_whitespace().next()?.parse().ok()).collect()
}

#[test]
fn the_demo_answers_and_leaves_nothing_behind() {
    let _turn = turn();
    let dev = Dev::start(&["--nodes", "3", "--demo"]);
    let lines = dev.until("Ctrl-C ends everything");
    let tasks = tasks(&lines);
    assert_eq!(tasks.len(), 3, "three tasks, each with an address to curl:\n{}", lines.join("\n"));
    for address in &tasks {
        let answer = get_tcp(*address, "/").expect("a task answers");
        assert_eq!(answer.status, 200);
        assert!(answer.text.contains("Service: whoami"), "{}", answer.text);
        assert!(answer.text.contains(&format!("Address: {address}")), "{}", answer.text);
    }
    let (code, runtime) = dev.end();
    assert_eq!(code, Some(0));
    for address in tasks {
        assert!(get_tcp(address, "/").is_err(), "a task outlived the demo");
    }
    let left: Vec<_> = walk(runtime.path());
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_killed_node_comes_back_from_another_terminal() {
    let _turn = turn();
    let dev = Dev::start(&["--nodes", "3", "--demo"]);
    let before = tasks(&dev.until("Ctrl-C ends everything"));
    let (done, said) = dev.ask(&["dev", "kill", "n3"]);
    assert!(done, "{said}");
    eventually("the node reads down", || {
        let (_, nodes) = dev.ask(&["node", "ls", "--format", "{{.Hostname}} {{.Status}}"]);
        if nodes.lines().any(|line| line == "n3 Down") { Ok(()) } else { Err(nodes) }
    });
    eventually("three tasks run on what is left", || {
        let (_, rows) =
            dev.ask(&["service", "ps", "whoami", "--format", "{{.Node}} {{.DesiredState}} {{.CurrentState}}"]);
        let running = rows.lines().filter(|row| row.contains(" Running Running ") && !row.starts_with("n3 ")).count();
        if running == before.len() { Ok(()) } else { Err(rows) }
    });
    let (done, said) = dev.ask(&["dev", "restart", "n3"]);
    assert!(done, "{said}");
    eventually("the node is ready again", || {
        let (_, nodes) = dev.ask(&["node", "ls", "--format", "{{.Hostname}} {{.Status}}"]);
        if nodes.lines().any(|line| line == "n3 Ready") { Ok(()) } else { Err(nodes) }
    });
    let (done, said) = dev.ask(&["dev", "kill", "n9"]);
    assert!(!done && said.contains("there is no node n9"), "{said}");
    assert_eq!(dev.end().0, Some(0));
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}
