//! What can be seen of a machine on which no daemon answers: the socket and who may open it, the daemon's port, its data
//! folder, and the machine itself. [`look`] collects, [`judge`] decides.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use essaim_docker::own::{Finding, Verdict};
use essaim_model::PortProtocol;
use essaim_node::machine::{clock_is_synchronised, folder};
use essaim_node::{MachineSockets, Sockets};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{Gid, Group, Uid, User};

/// Default UDP port of the cluster's traffic.
const PORT: u16 = 2377;

/// Usual socket of a Docker Engine.
const DOCKER: &str = "/var/run/docker.sock";

/// Files that a daemon should be allowed to open: see the daemon's own check of the same code.
const FILES_WARN: u64 = 65_536;

/// Free room of the data folder's disk below which a manager cannot be expected to work.
const DISK_FAIL: u64 = 256 << 20;

/// What was seen of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Local {
    /// Path of the socket.
    socket: String,
    /// Why nothing answered there.
    error: io::ErrorKind,
    /// Owner of the socket's file; `None` when there is no such file.
    owner: Option<Owner>,
    /// Name of the account that runs this command.
    account: String,
    /// Whether the daemon's port is free; otherwise the program that holds it, as far as the machine tells.
    port: Result<(), Option<String>>,
    /// Path of the data folder.
    data_dir: String,
    /// The data folder; `None` when there is none.
    data: Option<Data>,
    /// Files that a daemon which this account starts may open at most.
    files_max: Option<u64>,
    /// Whether the kernel says that its clock is kept in step.
    clock: Option<bool>,
    /// Whether there is a Docker Engine at its usual socket.
    has_docker: bool,
}

/// Owner and permissions of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    user: String,
    group: String,
    mode: u32,
}

/// A data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Data {
    owner: Owner,
    /// Whether a daemon has it locked; `None` when this account may not look.
    locked: Option<bool>,
    /// Bytes that can still be written to its disk.
    free_bytes: u64,
}

/// Looks at the machine; `error` is what opening the socket ended with.
pub(super) async fn look(socket: &Path, error: &io::Error, data_dir: &Path) -> Local {
    let data = data_dir.metadata().ok().map(|found| Data {
        owner: owner(&found),
        locked: lock(data_dir),
        free_bytes: folder(String::new(), data_dir).map_or(0, |it| it.free_bytes),
    });
    Local {
        socket: socket.display().to_string(),
        error: error.kind(),
        owner: socket.metadata().ok().map(|found| owner(&found)),
        account: user(Uid::effective()),
        port: port().await,
        data_dir: data_dir.display().to_string(),
        data,
        files_max: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(_, hard)| hard),
        clock: clock_is_synchronised(),
        has_docker: Path::new(DOCKER).exists(),
    }
}

fn owner(found: &std::fs::Metadata) -> Owner {
    let gid = Gid::from_raw(found.gid());
    let group = Group::from_gid(gid).ok().flatten().map_or_else(|| gid.to_string(), |group| group.name);
    Owner { user: user(Uid::from_raw(found.uid())), group, mode: found.mode() & 0o777 }
}

fn user(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// Whether a daemon has locked the data folder.
fn lock(data_dir: &Path) -> Option<bool> {
    match File::open(data_dir.join("lock")) {
        Ok(file) => Some(matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}

async fn port() -> Result<(), Option<String>> {
    let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    match UdpSocket::bind(at) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(MachineSockets::default().holders(vec![(PortProtocol::Udp, at)]).await.pop().flatten())
        }
        _ => Ok(()),
    }
}

/// Judges what was seen.
pub(super) fn judge(seen: &Local) -> Vec<Finding> {
    let mut findings = vec![daemon(seen), port_finding(seen), data_finding(seen)];
    if let Some(most) = seen.files_max {
        let found = format!("a daemon that {} starts may open {most} files", seen.account);
        findings.push(if most < FILES_WARN {
            let next = "raise the limit: `LimitNOFILE=1048576` in the daemon's unit, or `ulimit -n` before it starts";
            finding("D105", "open files", Verdict::Warn, found, next)
        } else {
            finding("D105", "open files", Verdict::Ok, found, "")
        });
    }
    if let Some(is_synchronised) = seen.clock {
        let next = "run chrony or systemd-timesyncd";
        findings.push(if is_synchronised {
            finding("D107", "clock", Verdict::Ok, "the clock is synchronised", "")
        } else {
            finding("D107", "clock", Verdict::Warn, "the clock is not synchronised", next)
        });
    }
    findings.push(if seen.has_docker {
        finding("D101", "engine", Verdict::Ok, format!("a Docker Engine has its socket at {DOCKER}"), "")
    } else {
        let found = format!("there is no Docker Engine at {DOCKER}");
        let next = "tasks would run as programs of this machine; for containers, install and start Docker Engine";
        finding("D101", "engine", Verdict::Skip, found, next)
    });
    findings.sort_by(|a, b| (b.verdict, &a.code).cmp(&(a.verdict, &b.code)));
    findings
}

fn finding(code: &str, check: &str, verdict: Verdict, found: impl Into<String>, next: impl Into<String>) -> Finding {
    let (code, check, node) = (code.into(), check.into(), "here".into());
    Finding { code, check, verdict, node, found: found.into(), next: next.into() }
}

fn daemon(seen: &Local) -> Finding {
    let Local { socket, account, .. } = seen;
    let is_locked = seen.data.as_ref().and_then(|data| data.locked) == Some(true);
    let (found, next) = match (seen.error, &seen.owner) {
        (io::ErrorKind::PermissionDenied, Some(Owner { user, group, mode })) => (
            format!("{account} may not open {socket}: it is {user}'s and the group {group}'s (mode {mode:04o})"),
            format!("use sudo, or `sudo usermod -aG {group} {account}` and log in again"),
        ),
        (io::ErrorKind::PermissionDenied, None) => {
            (format!("{account} may not look at {socket}"), "use sudo, or an account that may".to_owned())
        }
        (_, Some(_)) => (
            format!("nobody answers at {socket}: its daemon has ended without removing it"),
            "`systemctl start essaim`, or `essaim daemon`; its journal says why it ended".to_owned(),
        ),
        (_, None) if is_locked => (
            format!("there is no socket at {socket}, and a daemon runs on {}", seen.data_dir),
            "name its socket: `essaim -H unix:///PATH doctor`, or ESSAIM_HOST".to_owned(),
        ),
        (_, None) => (
            format!("no daemon runs: there is no socket at {socket}"),
            "`systemctl start essaim`, or `essaim daemon`; if one runs, name its socket with -H or ESSAIM_HOST"
                .to_owned(),
        ),
    };
    finding("D001", "daemon", Verdict::Fail, found, next)
}

fn port_finding(seen: &Local) -> Finding {
    let held = |by: String| {
        let found = format!("UDP port {PORT} is held by {by}");
        let next = "if that is no daemon of yours, stop it, or start the daemon with another --listen-addr";
        finding("D002", "own port", Verdict::Warn, found, next)
    };
    match &seen.port {
        Ok(()) => finding("D002", "own port", Verdict::Ok, format!("UDP port {PORT} is free"), ""),
        Err(holder) => held(holder.clone().unwrap_or_else(|| "another program".to_owned())),
    }
}

fn data_finding(seen: &Local) -> Finding {
    let path = &seen.data_dir;
    let check = |verdict, found: String, next: String| finding("D003", "data folder", verdict, found, next);
    let Some(Data { owner: Owner { user, mode, .. }, free_bytes, .. }) = &seen.data else {
        return check(Verdict::Skip, format!("there is no {path}: no daemon has run with it"), String::new());
    };
    if mode & 0o077 != 0 {
        let found = format!("{path} is open to others (mode {mode:04o}), and has keys");
        return check(Verdict::Fail, found, format!("`chmod 700 {path}`"));
    }
    if *free_bytes < DISK_FAIL {
        let found = format!("{path}: {} MiB are free", free_bytes >> 20);
        return check(Verdict::Fail, found, format!("free some room on the file system of {path}"));
    }
    let found = format!("{path} is {user}'s alone, {} MiB are free", free_bytes >> 20);
    check(Verdict::Ok, found, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which a daemon has never run, and nothing is wrong.
    fn fresh() -> Local {
        Local {
            socket: "/run/essaim/essaim.sock".into(),
            error: io::ErrorKind::NotFound,
            owner: None,
            account: "ada".into(),
            port: Ok(()),
            data_dir: "/var/lib/essaim".into(),
            data: None,
            files_max: Some(1 << 20),
            clock: Some(true),
            has_docker: true,
        }
    }

    fn owned(mode: u32) -> Owner {
        Owner { user: "root".into(), group: "docker".into(), mode }
    }

    fn data(mode: u32, locked: bool, free_bytes: u64) -> Option<Data> {
        Some(Data { owner: owned(mode), locked: Some(locked), free_bytes })
    }

    /// The findings that are not well: verdict, found, what to do.
    fn wrong(seen: &Local) -> Vec<(Verdict, String, String)> {
        let wrong = judge(seen).into_iter().filter(|it| it.verdict != Verdict::Ok && it.verdict != Verdict::Skip);
        wrong.map(|it| (it.verdict, it.found, it.next)).collect()
    }

    #[test]
    fn the_daemon_that_does_not_answer_is_told_by_what_is_in_its_place() {
        let of = |error, owner, data| {
            let seen = Local { error, owner, data, ..fresh() };
            let (verdict, found, next) = wrong(&seen).remove(0);
            assert_eq!(verdict, Verdict::Fail);
            format!("{found} | {next}")
        };
        let absent = of(io::ErrorKind::NotFound, None, None);
        assert!(absent.starts_with("no daemon runs: there is no socket at /run/essaim/essaim.sock"), "{absent}");
        let left = of(io::ErrorKind::ConnectionRefused, Some(owned(0o660)), None);
        assert!(left.contains("has ended without removing it"), "{left}");
        let elsewhere = of(io::ErrorKind::NotFound, None, data(0o700, true, 1 << 40));
        assert!(elsewhere.contains("a daemon runs on /var/lib/essaim") && elsewhere.contains("-H"), "{elsewhere}");
        assert_eq!(
            of(io::ErrorKind::PermissionDenied, Some(owned(0o660)), None),
            "ada may not open /run/essaim/essaim.sock: it is root's and the group docker's (mode 0660) | use sudo, or \
             `sudo usermod -aG docker ada` and log in again"
        );
    }

    #[test]
    fn a_held_port_an_open_folder_a_full_disk_a_low_limit_and_a_free_running_clock_are_named() {
        assert_eq!(wrong(&fresh()).len(), 1, "the daemon alone");
        let of = |seen: Local| wrong(&seen).remove(1).1;
        assert_eq!(
            of(Local { port: Err(Some("dockerd (pid 7)".into())), ..fresh() }),
            "UDP port 2377 is held by dockerd (pid 7)"
        );
        assert!(of(Local { data: data(0o755, false, 1 << 40), ..fresh() }).contains("open to others (mode 0755)"));
        assert_eq!(of(Local { data: data(0o700, false, 9 << 20), ..fresh() }), "/var/lib/essaim: 9 MiB are free");
        assert_eq!(of(Local { files_max: Some(1024), ..fresh() }), "a daemon that ada starts may open 1024 files");
        assert_eq!(of(Local { clock: Some(false), ..fresh() }), "the clock is not synchronised");
    }

    #[tokio::test]
    async fn a_folder_without_a_daemon_is_looked_at_without_changing_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("essaim.sock");
        let seen = look(&socket, &io::ErrorKind::NotFound.into(), folder.path()).await;
        assert_eq!((seen.owner, seen.data.and_then(|data| data.locked)), (None, Some(false)));
        assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 0);
    }
}
