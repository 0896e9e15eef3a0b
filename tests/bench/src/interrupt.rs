//! A run that is broken off leaves no host, daemon or task behind.
//!
//! Whoever is told to end cannot wait for a measurement: a thread listens, removes all that bears this program's id, and
//! ends it. What a run leaves that is killed outright, the next one removes.

use essaim_cluster_tests::harness::sweep;
use tokio::signal::unix::{SignalKind, signal};

/// Listens from now on.
pub(crate) fn sweep_when_told_to_end() {
    std::thread::spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let code = runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return std::future::pending().await;
            };
            // As a shell says it: 128 and the number of the signal.
            tokio::select! { _ = interrupt.recv() => 130, _ = terminate.recv() => 143 }
        });
        sweep::sweep(std::process::id());
        std::process::exit(code);
    });
}
