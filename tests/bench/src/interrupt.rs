//! Clean-up of a run that is interrupted: no host, daemon or task is left behind.
//!
//! A signal cannot wait for a measurement to end, so a thread listens for it, removes everything that bears this
//! program's process id, and ends the program. A run that is killed outright is cleaned up by the next one.

use essaim_cluster_tests::harness::sweep;
use tokio::signal::unix::{SignalKind, signal};

/// Starts a thread that waits for SIGINT or SIGTERM, sweeps, and ends the program.
pub(crate) fn sweep_when_told_to_end() {
    std::thread::spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let code = runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return std::future::pending().await;
            };
            // The exit code of shells after a signal: 128 and its number.
            tokio::select! { _ = interrupt.recv() => 130, _ = terminate.recv() => 143 }
        });
        sweep::sweep(std::process::id());
        std::process::exit(code);
    });
}
