//! The limit of open files: the daemon raises its own, and its children get back what it was.
//!
//! A daemon with a thousand published ports, or ten thousand connections, needs more than the 1,024 files that a machine
//! allows a process by default; how many it may ask for is the *hard* limit. Programs that use select(2) break when they
//! may open more than 1,024, which is why the default is so low: so no task inherits the raised one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;
use std::sync::OnceLock;

/// The soft limit with which this process was started. A limit belongs to the process, and so does this memory.
static BEFORE: OnceLock<u64> = OnceLock::new();

/// Raises the limit of this process to the most that it may ask for. Returns the limit.
pub fn raise_open_files() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    BEFORE.get_or_init(|| soft);
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// The limit that this process had before it was raised; `None` when it was not.
pub(crate) fn before() -> Option<u64> {
    BEFORE.get().copied()
}

/// Sets the limit of this process back. Makes two system calls and nothing else, so that it may stand between fork and
/// exec.
pub(crate) fn restore(soft: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_limit_can_be_given_back() {
        let soft = || getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, _)| soft);
        let first = soft().expect("known");
        let raised = raise_open_files().expect("it needs no privilege");
        assert_eq!((soft(), before()), (Ok(raised), Some(first)));
        // A second daemon in the process does not take the raised limit for the former one.
        raise_open_files().expect("raised");
        assert_eq!(before(), Some(first));
        restore(first).expect("it needs no privilege");
        assert_eq!(soft(), Ok(first));
    }
}
