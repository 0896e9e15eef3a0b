//! The machine that a daemon runs on, as `essaim doctor` looks at it: clock, disk, limits, and whether an address answers.
//!
//! An address is tried with one QUIC packet of a version that nobody speaks, from a socket of its own. A QUIC server answers
//! it with the versions that it speaks (RFC 9000, section 6), which needs no certificate and leaves nothing behind.

use crate::surroundings;
use essaim_presence::view::FolderFacts;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Times that an address is tried: a datagram may be lost.
const TRIES: u32 = 3;

/// Wait for the answer to one try: the longest way on earth takes half of it there and back.
const TRY_PATIENCE: Duration = Duration::from_millis(500);

/// Name of the file that is written to the data folder to measure how long a sync takes.
const PROBE: &str = "doctor-probe";

/// The machine that a daemon runs on.
pub trait Machine: Send + Sync + 'static {
    /// Measures the machine. `folders` are further folders to look at, with the words for what they hold.
    fn measure(&self, folders: Vec<(String, PathBuf)>) -> BoxFuture<'static, Measured>;

    /// Tries whether a node answers at each of these addresses over UDP; the error says what happened instead.
    fn reach(&self, addresses: Vec<SocketAddr>) -> BoxFuture<'static, Vec<Option<Result<(), String>>>>;
}

/// What was measured on a machine. What it does not tell is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measured {
    /// Whether the kernel says that its clock is kept in step with others.
    pub clock_synchronised: Option<bool>,
    /// The data folder and the other folders, as far as they are there.
    pub folders: Vec<FolderFacts>,
    /// Microseconds that a durable write of a small file to the data folder took.
    pub sync_micros: Option<u64>,
    /// Files that this process has open.
    pub open_files: Option<u64>,
    /// Files that this process may have open.
    pub open_files_max: Option<u64>,
    /// Bytes that the kernel grants the receive buffer of a socket at most.
    pub receive_buffer_max: Option<u64>,
    /// Addresses of the machine, each with its interface and the bytes that a packet there may have.
    pub mtus: Vec<(IpAddr, String, u32)>,
    /// The systemd unit that the daemon runs in and its `KillMode`.
    pub kill_mode: Option<(String, String)>,
    /// Why tasks that run as processes can have no limits; `None` when they can, and where nobody looked.
    pub cgroup_fault: Option<String>,
}

/// A machine that tells nothing: for simulations, and tests of other things.
#[derive(Debug, Clone, Copy)]
pub struct NoMachine;

impl Machine for NoMachine {
    fn measure(&self, _: Vec<(String, PathBuf)>) -> BoxFuture<'static, Measured> {
        std::future::ready(Measured::default()).boxed()
    }

    fn reach(&self, addresses: Vec<SocketAddr>) -> BoxFuture<'static, Vec<Option<Result<(), String>>>> {
        std::future::ready(vec![None; addresses.len()]).boxed()
    }
}

/// The machine of this process.
#[derive(Debug, Clone)]
pub struct RealMachine {
    data_dir: PathBuf,
}

impl RealMachine {
    /// The machine of this process, which keeps its data in this folder.
    pub const fn new(data_dir: PathBuf) -> Self {
        Self { data_dir }
    }
}

impl Machine for RealMachine {
    fn measure(&self, folders: Vec<(String, PathBuf)>) -> BoxFuture<'static, Measured> {
        let data_dir = self.data_dir.clone();
        async move { tokio::task::spawn_blocking(move || measured(&data_dir, folders)).await.unwrap_or_default() }
            .boxed()
    }

    fn reach(&self, addresses: Vec<SocketAddr>) -> BoxFuture<'static, Vec<Option<Result<(), String>>>> {
        async { join_all(addresses.into_iter().map(|address| async move { Some(reach(address).await) })).await }.boxed()
    }
}

fn measured(data_dir: &Path, folders: Vec<(String, PathBuf)>) -> Measured {
    let all = [("data folder".to_owned(), data_dir.to_owned())].into_iter().chain(folders);
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse().ok();
    Measured {
        clock_synchronised: clock_is_synchronised(),
        folders: all.filter_map(|(what, path)| folder(what, &path)).collect(),
        sync_micros: sync(data_dir).ok().map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
        open_files: std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64),
        open_files_max: nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
            .ok()
            .map(|(soft, _)| soft),
        receive_buffer_max: number("/proc/sys/net/core/rmem_max"),
        mtus: surroundings::mtus(),
        kill_mode: surroundings::kill_mode(),
        cgroup_fault: surroundings::cgroup_fault(),
    }
}

/// The file system of a folder; `None` when the folder is not there.
pub fn folder(what: String, path: &Path) -> Option<FolderFacts> {
    let found = nix::sys::statvfs::statvfs(path).ok()?;
    Some(FolderFacts {
        what,
        path: path.display().to_string(),
        free_bytes: found.blocks_available() * found.fragment_size(),
        all_bytes: found.blocks() * found.fragment_size(),
        free_inodes: found.files_available(),
        all_inodes: found.files(),
    })
}

/// How long it takes to write a small file so that it would survive a power cut.
fn sync(data_dir: &Path) -> io::Result<Duration> {
    let path = data_dir.join(PROBE);
    let begun = Instant::now();
    let mut file = std::fs::File::create(&path)?;
    file.write_all(&[0; 512])?;
    file.sync_all()?;
    let took = begun.elapsed();
    std::fs::remove_file(&path)?;
    Ok(took)
}

/// Whether the kernel says that its clock is kept in step; `None` when it may not be asked.
#[allow(unsafe_code, reason = "adjtimex(2) fills a struct of numbers; without modes it changes nothing")]
pub fn clock_is_synchronised() -> Option<bool> {
    // SAFETY: the struct holds numbers only, for which zero is a value.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a struct of this type that lives until the call returns.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    (answer >= 0).then_some(answer != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0)
}

/// Tries whether a node answers at this address.
async fn reach(address: SocketAddr) -> Result<(), String> {
    let own: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        _ => error.to_string(),
    };
    let socket = UdpSocket::bind(own).await.map_err(failed)?;
    socket.connect(address).await.map_err(failed)?;
    let mut answer = [0; 64];
    for _ in 0..TRIES {
        socket.send(&probe()).await.map_err(failed)?;
        match timeout(TRY_PATIENCE, socket.recv(&mut answer)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => return Err(failed(error)),
            Err(_) => (),
        }
    }
    Err(format!("no answer within {} ms", (TRY_PATIENCE * TRIES).as_millis()))
}

/// The first packet of a QUIC connection in a version that is kept for such tests (RFC 9000, section 15). A server answers
/// no packet of less than 1,200 bytes.
fn probe() -> [u8; 1200] {
    let mut packet = [0; 1200];
    packet[0] = 0xc0;
    packet[1..5].copy_from_slice(&[0x1a, 0x2a, 0x3a, 0x4a]);
    // Two connection ids of eight bytes.
    packet[5] = 8;
    packet[6..14].copy_from_slice(b"essaim-d");
    packet[14] = 8;
    packet[15..23].copy_from_slice(b"essaim-s");
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_machine_measures_its_folders_limits_and_syncs() {
        let folder = tempfile::tempdir().expect("a folder");
        let machine = RealMachine::new(folder.path().to_owned());
        let absent = folder.path().join("nothing");
        let measured = machine.measure(vec![("engine".into(), absent)]).await;
        assert_eq!(measured.folders.len(), 1, "what is not there is left out: {:?}", measured.folders);
        let FolderFacts { free_bytes, all_bytes, .. } = measured.folders[0];
        assert!(0 < free_bytes && free_bytes <= all_bytes);
        assert!(measured.sync_micros.is_some_and(|micros| micros > 0));
        assert!(measured.open_files.zip(measured.open_files_max).is_some_and(|(open, most)| open < most));
        assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 0, "the probe is removed");
    }

    #[tokio::test]
    async fn an_address_where_nobody_listens_or_answers_is_told_apart_from_one_that_answers() {
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let mute = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let nobody = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let at = |socket: &UdpSocket| socket.local_addr().expect("bound");
        let addresses = vec![at(&server), at(&nobody), at(&mute)];
        drop(nobody);
        let answering = tokio::spawn(async move {
            let mut packet = [0; 1500];
            while let Ok((len, from)) = server.recv_from(&mut packet).await {
                let _ = server.send_to(&packet[..len.min(40)], from).await;
            }
        });
        let reached = RealMachine::new(PathBuf::new()).reach(addresses).await;
        answering.abort();
        let expected = [Ok(()), Err("nothing listens there".to_owned()), Err("no answer within 1500 ms".to_owned())];
        assert_eq!(reached, expected.map(Some));
    }
}
