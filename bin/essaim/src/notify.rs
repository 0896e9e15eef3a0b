//! Notifications to the service manager (`sd_notify`): the daemon is ready, the daemon stops.
//!
//! systemd gives a service of `Type=notify` the path of a datagram socket in `NOTIFY_SOCKET`; a name that begins with
//! `@` is abstract. A daemon without a service manager has no such variable and sends no notification.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Environment variable that names the notification socket.
const SOCKET_ENV: &str = "NOTIFY_SOCKET";

/// The service manager of this daemon, if it has one.
#[derive(Debug, Clone)]
pub(crate) struct ServiceManager {
    socket: Option<OsString>,
}

impl ServiceManager {
    /// The service manager that started this process.
    pub(crate) fn from_environment() -> Self {
        Self { socket: std::env::var_os(SOCKET_ENV).filter(|name| !name.is_empty()) }
    }

    /// Tells the service manager that the API answers.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// Tells the service manager that the daemon ends on purpose.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Sends a notification. A failure is ignored: the service manager itself reports a notification that it misses.
    fn tell(&self, state: &str) {
        if let Some(socket) = &self.socket
            && let Err(why) = send(socket, state)
        {
            tracing::warn!(%why, state, "the service manager cannot be told");
        }
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 64];
        let len = socket.recv(&mut bytes).expect("it was told");
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }

    #[test]
    fn the_manager_is_told_over_a_path_and_over_an_abstract_name() {
        let path = std::env::temp_dir().join(format!("essaim-notify-{}", std::process::id()));
        let by_path = UnixDatagram::bind(&path).expect("bound");
        ServiceManager { socket: Some(path.clone().into()) }.ready();
        assert_eq!(heard(&by_path), "READY=1");
        std::fs::remove_file(path).expect("removed");

        let name = format!("essaim-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let by_name = UnixDatagram::bind_addr(&address).expect("bound");
        ServiceManager { socket: Some(format!("@{name}").into()) }.stopping();
        assert_eq!(heard(&by_name), "STOPPING=1");
    }

    #[test]
    fn a_daemon_without_a_manager_and_one_whose_manager_is_gone_go_on() {
        ServiceManager { socket: None }.ready();
        ServiceManager { socket: Some("/nowhere/at/all".into()) }.ready();
    }
}
