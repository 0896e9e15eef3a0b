//! Which signal means what.
//!
//! SIGTERM is what a service manager sends before it starts the daemon again: its tasks go on, and the others are told
//! to expect it back. When the machine itself goes down, and on Ctrl-C, its tasks end with it.

use essaim_node::Farewell;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// How long the service manager may take to say whether the machine goes down.
const ASK_DEADLINE: Duration = Duration::from_millis(500);

/// Waits for the signal that ends the daemon.
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

/// Whether systemd, where there is one, takes the machine down.
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
