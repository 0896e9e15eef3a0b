//! Secrets and configs of host processes, on real daemons: where they are, and where they are not.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use essaim_cluster_tests::harness::{Cluster, essaim_command, eventually};

/// The data of the secret, and those of its next version.
const FIRST: &str = "first-s3cr3t-of-the-test";
const SECOND: &str = "second-s3cr3t-of-the-test";

/// Files below a folder, without the sockets and fifos.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path(), found),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => (),
        }
    }
}

/// Files below a folder that contain one of these texts.
fn holding(folder: &Path, texts: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(folder, &mut found);
    found.retain(|path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        texts.iter().any(|text| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
    });
    found
}

#[test]
fn a_secret_reaches_a_process_on_another_node_rotates_and_is_in_no_file_log_or_answer() {
    let mut cluster = Cluster::of_strangers(&["n1", "n2"]);
    cluster.init(0);
    cluster.join(1, 0, "Worker");
    cluster.wait_ready(1);
    let here = &cluster.daemons[0];
    here.done(&format!("printf {FIRST} | docker secret create key -"));
    here.done(
        "printf 'for {{.Service.Name}}: {{secret \"key\"}}' | docker config create --template-driver golang site -",
    );
    // The task says where its files are and whether they are right, and never what is in them.
    let script = format!(
        "test $(cat $ESSAIM_SECRETS/key) = {FIRST:.5}{} && echo first; test $(cat $ESSAIM_SECRETS/key) = \
         {SECOND:.6}{} && echo second; cut -c 1-9 $ESSAIM_FILES/etc/site; echo at $ESSAIM_FILES; sleep 1000000",
        "-s3'c'r3t-of-the-test", "-s3'c'r3t-of-the-test"
    );
    let script = script.replace('$', "\\$");
    let flags = "-d --no-resolve-image --constraint node.hostname==n2 --secret source=key,mode=0400 --config \
                 source=site,target=/etc/site --update-monitor 1s";
    let service =
        here.done(&format!("docker service create {flags} --name reads sh -c \"{script}\"")).trim().to_owned();
    cluster.wait_running(&service, 1, &[]);
    let here = &cluster.daemons[0];
    let logs = |words: &[&str]| {
        eventually("the log of the service", || {
            let logs = here.done("docker service logs --raw reads 2>&1");
            if words.iter().all(|word| logs.contains(word)) { Ok(logs) } else { Err(logs) }
        })
    };
    let logs_of_first = logs(&["first", "for reads", "at /"]);
    assert!(!logs_of_first.contains("second"), "{logs_of_first}");
    let folder = PathBuf::from(logs_of_first.lines().find_map(|line| line.strip_prefix("at ")).expect("a folder"));
    assert_eq!(std::fs::read_to_string(folder.join("run/secrets/key")).expect("it is there"), FIRST);
    let site = std::fs::read_to_string(folder.join("etc/site")).expect("it is there");
    assert_eq!(site, format!("for reads: {FIRST}"));

    // A new version moves the service, and a rollback goes back.
    let next = cluster.folder().join("next");
    std::fs::write(&next, SECOND).expect("a file");
    let (code, id, told) = here.essaim(&["secret", "rotate", "key", next.to_str().expect("a path")]);
    std::fs::remove_file(&next).expect("it is there");
    assert_eq!((code, told.as_str()), (0, "reads moves to the new version by its update policy\n"), "{id}");
    logs(&["second"]);
    let is_gone = |path: &Path| if path.exists() { Err(path.display().to_string()) } else { Ok(()) };
    eventually("the files of the former task are gone", || is_gone(&folder));
    assert_eq!(here.done("docker secret inspect key --format '{{.ID}}'").trim(), id.trim());
    eventually("the update is complete", || {
        let state = here.done("docker service inspect reads --format '{{.UpdateStatus.State}}'");
        if state.trim() == "completed" { Ok(()) } else { Err(state) }
    });
    here.done("docker service rollback -d reads");
    eventually("the first version is read again", || {
        let logs = here.done("docker service logs --raw reads 2>&1");
        if logs.matches("first").count() == 2 { Ok(()) } else { Err(logs) }
    });

    // Nothing of it is in an answer, a journal or a file, and the keys of the nodes are their own.
    let secrets = [FIRST, SECOND];
    for line in [
        "docker secret ls; docker secret inspect key; docker service inspect reads; docker service ps --no-trunc reads",
        "docker events --since 1h --until 0s",
        "docker inspect $(docker service ps -q reads)",
        "docker secret create --template-driver x odd /dev/null",
    ] {
        let said = here.shell(line);
        assert!(!secrets.iter().any(|secret| said.out.contains(secret) || said.error.contains(secret)), "{line}");
    }
    let journal = here.essaim(&["journal"]);
    assert!(journal.1.contains("secret key was rotated") && !secrets.iter().any(|it| journal.1.contains(it)));
    assert_eq!(holding(cluster.folder(), &secrets), Vec::<PathBuf>::new(), "a secret is on the disk");
    let mut kept = Vec::new();
    files(cluster.folder(), &mut kept);
    let keys =
        kept.iter().filter(|path| std::fs::read(path).is_ok_and(|it| it.windows(11).any(|it| it == b"PRIVATE KEY")));
    let mut count = 0;
    for key in keys {
        count += 1;
        let mode = std::fs::metadata(key).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", key.display());
    }
    println!("{count} files with private keys, each for its owner alone");

    // What a killed daemon left is removed when it returns.
    // Only the task that runs has its files, whichever line of the log is its own.
    let folder = eventually("the task that runs says where its files are", || {
        let logs = here.done("docker service logs --raw reads 2>&1");
        let mut folders = logs.lines().filter_map(|line| line.strip_prefix("at ")).map(PathBuf::from);
        folders.find(|folder| folder.exists()).ok_or(logs)
    });
    let worker = &mut cluster.daemons[1];
    worker.kill_host();
    assert!(folder.exists(), "nobody was there to remove it");
    worker.restart();
    eventually("the files of the lost task are gone", || is_gone(&folder));
}

#[test]
fn a_daemon_that_is_killed_leaves_no_core_dump() {
    let folder = tempfile::tempdir().expect("a folder");
    let dumped = |program: &str, ready: &dyn Fn() -> bool| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("ulimit -c unlimited; exec {program}")]).current_dir(folder.path());
        let mut child =
            shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a shell");
        eventually(program, || if ready() { Ok(()) } else { Err("not ready".to_owned()) });
        kill(Pid::from_raw(child.id() as i32), Signal::SIGABRT).expect("one's own child can be signalled");
        child.wait().expect("it ends").core_dumped()
    };
    let socket = folder.path().join("essaim.sock");
    let daemon = format!(
        "{} daemon --engine process --data-dir {2}/data --socket {1} --listen-addr 127.0.0.1:0",
        essaim_command().get_program().display(),
        socket.display(),
        folder.path().display()
    );
    assert!(!dumped(&daemon, &|| socket.exists()), "the daemon's memory was written to a disk");
    let begun = std::time::Instant::now();
    if !dumped("sleep 1000", &|| begun.elapsed().as_millis() > 200) {
        eprintln!("this machine dumps no program's memory, so the daemon's was not tested");
    }
}
