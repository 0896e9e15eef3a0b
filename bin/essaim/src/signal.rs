//! Signals that end the daemon, and what each means for its tasks.
//!
//! A service manager sends SIGTERM before it starts the daemon again: tasks keep running, and the other nodes are told
//! to expect the daemon back. On SIGTERM while the machine goes down, and on SIGINT (Ctrl-C), the tasks end with the
//! daemon.

use essaim_node::Farewell;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// Upper bound on the wait for systemd's answer whether the machine goes down.
const ASK_DEADLINE: Duration = Duration::from_millis(500);

/// Waits for the signal that ends the daemon, and returns how the daemon is to end.
pub(crate) async fn farewell() -> std::io::Result<Farewell> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {
            let stops = machine_stops().await;
            Ok(if stops { Farewell::Stopping } else { Farewell::Restarting })
        }
        _ = interrupt.recv() => Ok(Farewell::Stopping),
    }
}

/// Whether systemd is shutting the machine down; `false` without systemd.
async fn machine_stops() -> bool {
    if !Path::new("/run/systemd/system").exists() {
        return false;
    }
    let asked = Command::new("systemctl").arg("is-system-running").output();
    match tokio::time::timeout(ASK_DEADLINE, asked).await {
        Ok(Ok(output)) => output.stdout.starts_with(b"stopping"),
        _ => false,
    }
}
