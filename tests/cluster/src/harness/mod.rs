//! Test harness: starts daemons, breaks them, and observes them from outside.
//!
//! - [`hosts`]: where a daemon runs, an address of the loopback or a network namespace.
//! - [`daemon`]: one daemon; [`cluster`]: several daemons that have joined.
//! - [`dockerd`]: one Docker Engine; [`images`]: the images that its containers run.
//! - [`cli`]: the stock docker CLI against a daemon.
//! - [`load`]: a client without a pause.
//! - [`http`]: requests to a daemon; [`events`]: events that are collected while a test does something else.
//! - [`processes`]: the processes below a daemon or on a host.
//! - [`sweep`]: removal of what a killed test program left behind.

pub mod cli;
pub mod cluster;
pub mod daemon;
pub mod dockerd;
pub mod events;
pub mod hosts;
pub mod http;
pub mod images;
pub mod load;
pub mod processes;
pub mod sweep;

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

pub use cli::Said;
pub use cluster::{Cluster, init_request, join_request, sleepers};
pub use daemon::Daemon;
pub use dockerd::{Container, Dockerd, missing_for_engines};
pub use events::Events;
pub use hosts::{Host, Lab, missing_for_namespaces};
pub use http::get_tcp;
pub use load::{Load, Seen};
pub use processes::Process;

/// Upper bound on every wait before a test gives up. It is generous on purpose: durations are measured by the bench,
/// not by the tests.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// Time between two looks at something that a test waits for.
pub const GLANCE: Duration = Duration::from_millis(10);

/// Guard of a machine-wide lock that lets one cluster run at a time, whatever runs the tests: five daemons that wait
/// for a processor accuse each other with good reason.
pub struct Turn {
    _lock: Flock<File>,
}

/// Takes the lock; waits while another test has it.
pub fn turn() -> Turn {
    let path = std::env::temp_dir().join(format!("essaim-cluster-tests-{}.lock", nix::unistd::getuid()));
    let file = File::options().create(true).append(true).open(path).expect("the lock file can be opened");
    match Flock::lock(file, FlockArg::LockExclusive) {
        Ok(lock) => Turn { _lock: lock },
        Err((_, error)) => panic!("the lock file can be locked: {error}"),
    }
}

/// Calls `look` again and again until it succeeds; after [`PATIENCE`], panics with its last error.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    within(PATIENCE, what, look)
}

/// Calls `look` again and again until it succeeds; after this much patience, panics with its last error.
pub fn within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(missing) if begun.elapsed() > patience => panic!("{what}: {missing}"),
            Err(_) => std::thread::sleep(GLANCE),
        }
    }
}

/// Calls `look`, which asserts that something holds, again and again for the whole span.
pub fn throughout(span: Duration, mut look: impl FnMut()) {
    let begun = Instant::now();
    while begun.elapsed() < span {
        look();
        std::thread::sleep(GLANCE);
    }
}

/// Path of the program under test; panics when there is none.
pub fn essaim() -> PathBuf {
    find_essaim().unwrap_or_else(|why| panic!("{why}"))
}

/// Path of the program under test, or an explanation of how to build it.
pub fn find_essaim() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("ESSAIM_BIN") {
        return Ok(named.into());
    }
    // The test program lies in target/<profile> or below, the program under test in a target/<profile>.
    let own = std::env::current_exe().expect("a program knows its own file");
    let deps = own.ancestors().find(|folder| folder.ends_with("deps"));
    let target = deps.unwrap_or(&own).ancestors().nth(2).expect("it lies in target/<profile>");
    // Benches are built for release, and measure what is packaged.
    let is_bench = own.starts_with(target.join("release"));
    let profiles: &[_] = if is_bench { &["dist"] } else { &["dist", "release", "debug"] };
    let built = profiles.iter().map(|profile| target.join(profile).join("essaim"));
    let newest = built.filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path))).max();
    newest.map(|(_, path)| path).ok_or_else(|| {
        format!(
            "there is no essaim in {}: run `cargo build --profile {} --bin essaim`, or set ESSAIM_BIN",
            target.display(),
            if is_bench { "dist" } else { "release" }
        )
    })
}

/// A command that runs the program under test, without the environment variables that name a daemon.
pub fn essaim_command() -> Command {
    let mut command = Command::new(essaim());
    command.env_remove("DOCKER_HOST").env_remove("ESSAIM_HOST");
    command
}

/// Whether a program is on the PATH.
pub fn have(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}
