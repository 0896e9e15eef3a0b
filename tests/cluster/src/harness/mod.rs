//! Daemons to break, and the means to look at them.
//!
//! [`hosts`] is where a daemon runs (an address of the loopback, or a network namespace), [`daemon`] one daemon,
//! [`cluster`] several that have joined, [`http`] how they are asked, [`processes`] what runs below them, [`events`]
//! what was heard while a test looked elsewhere, [`sweep`] what a killed program left behind.

pub mod cluster;
pub mod daemon;
pub mod events;
pub mod hosts;
pub mod http;
pub mod processes;
pub mod sweep;

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

pub use cluster::{Cluster, init_request, join_request, sleepers};
pub use daemon::Daemon;
pub use events::Events;
pub use hosts::{Host, Lab, missing_for_namespaces};
pub use http::get_tcp;
pub use processes::Process;

/// How long anything may take before a test gives up. Generous on purpose: how long it takes is a bench's to say.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// How often one looks.
pub const GLANCE: Duration = Duration::from_millis(10);

/// One cluster at a time on this machine, whatever runs the tests: five daemons that wait for a processor accuse each
/// other with good reason.
pub struct Turn {
    _lock: Flock<File>,
}

/// Waits for this test's turn.
pub fn turn() -> Turn {
    let path = std::env::temp_dir().join(format!("essaim-cluster-tests-{}.lock", nix::unistd::getuid()));
    let file = File::options().create(true).append(true).open(path).expect("the lock file can be opened");
    match Flock::lock(file, FlockArg::LockExclusive) {
        Ok(lock) => Turn { _lock: lock },
        Err((_, error)) => panic!("the lock file can be locked: {error}"),
    }
}

/// Looks until the answer is there, and fails with what was missing last.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(missing) if begun.elapsed() > PATIENCE => panic!("{what}: {missing}"),
            Err(_) => std::thread::sleep(GLANCE),
        }
    }
}

/// Looks for a while, and fails if it ever is otherwise.
pub fn throughout(span: Duration, mut look: impl FnMut()) {
    let begun = Instant::now();
    while begun.elapsed() < span {
        look();
        std::thread::sleep(GLANCE);
    }
}

/// The program under test.
pub fn essaim() -> PathBuf {
    find_essaim().unwrap_or_else(|why| panic!("{why}"))
}

/// The program under test, or what to do to have one.
pub fn find_essaim() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("ESSAIM_BIN") {
        return Ok(named.into());
    }
    // This program lies in target/<profile> or below; the one under test in target/<any profile>.
    let own = std::env::current_exe().expect("a program knows its own file");
    let deps = own.ancestors().find(|folder| folder.ends_with("deps"));
    let target = deps.unwrap_or(&own).ancestors().nth(2).expect("it lies in target/<profile>");
    let built = ["release", "debug"].map(|profile| target.join(profile).join("essaim"));
    let newest = built.into_iter().filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path))).max();
    newest.map(|(_, path)| path).ok_or_else(|| {
        format!(
            "there is no essaim in {}: run `cargo build --release --bin essaim`, or set ESSAIM_BIN",
            target.display()
        )
    })
}

/// A command of the program under test.
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
