//! `essaim exec`: a program in a task on another node, with its streams, its exit code and a terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use nix::pty::openpty;
use nix::unistd::ttyname;
use parking_lot::Mutex;

use essaim_cluster_tests::harness::{Cluster, Daemon, eventually, find_essaim, missing_for_engines};

#[test]
fn a_program_runs_in_a_process_on_another_node_with_its_streams_exit_code_and_terminal() {
    let cluster = Cluster::of_strangers(&["n1", "n2"]);
    reaches_another_node(&cluster, "sleep 1000000");
}

#[test]
fn a_program_runs_in_a_container_on_another_node_with_its_streams_exit_code_and_terminal() {
    if let Some(why) = missing_for_engines() {
        eprintln!("skipped: {why}");
        return;
    }
    let cluster = Cluster::of_strangers_with_engines(&["n1", "n2"]);
    reaches_another_node(&cluster, "alpine sleep 1000000");
}

/// `program` is the image and the arguments of a service.
fn reaches_another_node(cluster: &Cluster, program: &str) {
    cluster.init(0);
    cluster.join(1, 0, "Worker");
    cluster.wait_ready(1);
    let here = &cluster.daemons[0];
    let flags = "-d --no-resolve-image --constraint node.hostname==n2 --stop-signal SIGKILL";
    let service = here.done(&format!("docker service create {flags} --name far {program}")).trim().to_owned();
    cluster.wait_running(&service, 1, &[]);

    let exec = |script: &str| here.essaim(&["exec", "far.1", "--", "sh", "-c", script]);
    assert_eq!(exec("echo out; echo err >&2; exit 7"), (7, "out\n".into(), "err\n".into()));
    let many = exec("head -c 3000000 /dev/zero");
    assert_eq!((many.0, many.1.len()), (0, 3_000_000), "{}", many.2);
    let (code, said, error) = here.essaim(&["exec", "far", "--", "no-such-program"]);
    // Docker Engine 20.10 writes the reason to the program's output and says 126, newer ones say 127.
    let words = format!("{said}{error}");
    assert!((126..=127).contains(&code) && words.contains("no-such-program"), "{code}: {words}");
    let (code, _, error) = here.essaim(&["exec", "near", "--", "true"]);
    assert!(code == 1 && error.contains("near"), "{code}: {error}");

    let mut terminal = Terminal::open(here, &["exec", "-it", "far.1", "--", "sh"]);
    terminal.resize(40, 100);
    terminal.types("echo begun\n");
    terminal.says("begun\r\n");
    eventually("the program sees the size of the terminal", || terminal.answers("stty size", "40 100"));
    terminal.resize(50, 120);
    eventually("the program sees the new size", || terminal.answers("stty size", "50 120"));
    terminal.types("sleep 1000000\n");
    terminal.says("sleep 1000000");
    eventually("the program was interrupted", || {
        // Ctrl-C. It interrupts nothing while the shell still reads the line.
        terminal.types("\u{3}");
        terminal.answers("echo after $?", "after 130")
    });
    // These bytes look like the head of a frame of a gigabyte and more.
    terminal.types("printf '\\001\\000\\000\\000\\177\\177\\177\\177'; echo whole\n");
    terminal.says("\u{1}\0\0\0\u{7f}\u{7f}\u{7f}\u{7f}whole\r\n");
    terminal.types("exit 5\n");
    assert_eq!(terminal.ends(), Some(5));
}

/// An `essaim` command in a terminal of its own.
struct Terminal {
    child: Child,
    keys: File,
    path: PathBuf,
    said: Arc<Mutex<String>>,
}

impl Terminal {
    fn open(daemon: &Daemon, arguments: &[&str]) -> Self {
        let pty = openpty(None, None).expect("a terminal");
        let path = ttyname(&pty.slave).expect("a path");
        let end = || Stdio::from(pty.slave.try_clone().expect("another descriptor"));
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(find_essaim().expect("the program"))
            .arg("--host")
            .arg(format!("unix://{}", daemon.socket.display()))
            .args(arguments)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("the program can be started");
        let keys = File::from(pty.master);
        let mut screen = keys.try_clone().expect("another descriptor");
        let said = Arc::new(Mutex::new(String::new()));
        let saying = Arc::clone(&said);
        // Ends when the last program has closed the terminal.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = screen.read(&mut bytes) {
                saying.lock().push_str(&String::from_utf8_lossy(&bytes[..len]));
            }
        });
        Self { child, keys, path, said }
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = ["rows", &rows.to_string(), "cols", &columns.to_string()];
        let status = Command::new("stty").arg("-F").arg(&self.path).args(size).status();
        assert!(status.expect("stty can be started").success());
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal is open");
    }

    fn says(&self, words: &str) {
        eventually(&format!("the terminal shows {words:?}"), || {
            let said = self.said.lock();
            if said.contains(words) { Ok(()) } else { Err(said.clone()) }
        });
    }

    /// Types a command and looks whether this line is on the screen, now or after an earlier attempt.
    fn answers(&mut self, command: &str, line: &str) -> Result<(), String> {
        self.types(&format!("{command}\n"));
        std::thread::sleep(std::time::Duration::from_millis(200));
        let said = self.said.lock();
        if said.contains(&format!("{line}\r\n")) { Ok(()) } else { Err(said.clone()) }
    }

    /// Waits for the end of the command; returns its exit code.
    fn ends(&mut self) -> Option<i32> {
        eventually("the command ends", || match self.child.try_wait().expect("it is a child") {
            Some(status) => Ok(status.code()),
            None => Err(self.said.lock().clone()),
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
