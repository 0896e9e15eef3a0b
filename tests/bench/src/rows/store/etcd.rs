//! The peer of the store's rows: three etcd processes, and the same load on them.

use super::grpc::{Channel, Field, fields, message};
use super::{Load, VALUE_LEN};
use crate::process::{Owned, bound};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Connections to etcd. More connections do not make etcd faster here.
const CONNECTIONS: usize = 16;

/// Longest time that the etcd processes may take to elect a leader.
const PATIENCE: Duration = Duration::from_secs(30);

/// Three etcd processes, and the connections to their leader.
pub(super) struct Etcd {
    members: Vec<Owned>,
    channels: Vec<Channel>,
    runtime: Runtime,
}

impl Etcd {
    /// Starts the etcd processes with their data in this folder, with the defaults of Debian's package.
    pub(super) fn start(folder: &Path) -> Self {
        let ports = free_ports();
        let peer = |number: usize| format!("http://127.0.0.1:{}", ports[number]);
        let client = |number: usize| format!("http://127.0.0.1:{}", ports[3 + number]);
        let cluster = (0..3).map(|number| format!("m{number}={}", peer(number))).collect::<Vec<_>>().join(",");
        let start = |number: usize| {
            let mut command = bound("etcd");
            command.arg("--name").arg(format!("m{number}"));
            command.arg("--data-dir").arg(folder.join(number.to_string()));
            command.args(["--listen-peer-urls", &peer(number), "--initial-advertise-peer-urls", &peer(number)]);
            command.args(["--listen-client-urls", &client(number), "--advertise-client-urls", &client(number)]);
            command.args(["--initial-cluster", &cluster, "--initial-cluster-state", "new"]);
            command.args(["--logger", "zap", "--log-level", "error"]);
            Owned::spawn(&mut command).expect("etcd is installed, and setpriv is part of every Debian")
        };
        std::fs::create_dir_all(folder).expect("a folder");
        let members = (0..3).map(start).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let hosts = [3, 4, 5].map(|place| SocketAddr::from(([127, 0, 0, 1], ports[place])));
        let channels = runtime.block_on(async {
            let leader = tokio::time::timeout(PATIENCE, leader(hosts)).await.expect("etcd elects a leader in time");
            let mut channels = Vec::new();
            for _ in 0..CONNECTIONS {
                channels.push(Channel::connect(leader).await.expect("the leader answers"));
            }
            channels
        });
        Self { members, channels, runtime }
    }

    /// Process ids of the etcd processes.
    pub(super) fn servers(&self) -> Vec<u32> {
        self.members.iter().map(Owned::id).collect()
    }

    /// Lets this many clients put for this time, each with one request at a time.
    pub(super) fn write(&mut self, clients: usize, time: Duration) -> Load {
        self.load(clients, time, "KV/Put", |client, number| {
            message(&[key(client).as_bytes(), format!("{number:0VALUE_LEN$}").as_bytes()])
        })
    }

    /// Lets this many clients read for this time. A range request for one key is linearizable by default.
    pub(super) fn read(&mut self, clients: usize, time: Duration) -> Load {
        self.load(clients, time, "KV/Range", |client, _| message(&[key(client).as_bytes()]))
    }

    fn load(&self, clients: usize, time: Duration, method: &'static str, ask: fn(usize, u64) -> Vec<u8>) -> Load {
        self.runtime.block_on(async {
            let began = Instant::now();
            let calling = (0..clients).map(|client| {
                let channel = self.channels[client % CONNECTIONS].clone();
                tokio::spawn(async move {
                    let mut calls = 0;
                    while began.elapsed() < time {
                        channel.call(method, &ask(client, calls)).await.expect("etcd answers");
                        calls += 1;
                    }
                    calls
                })
            });
            let calls = futures::future::join_all(calling).await.into_iter();
            Load { requests: calls.map(|calls| calls.expect("no panic")).sum(), took: began.elapsed() }
        })
    }
}

fn key(client: usize) -> String {
    format!("/bench/{client:04}")
}

/// Asks the etcd processes again and again, until one answers that it is the leader itself.
async fn leader(hosts: [SocketAddr; 3]) -> SocketAddr {
    loop {
        for host in hosts {
            if let Ok(channel) = Channel::connect(host).await
                && let Ok(status) = channel.call("Maintenance/Status", &[]).await
                && leads(&status)
            {
                return host;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whether the member that sent this status leads: its own id (field 2 of the header, which is field 1) is the leader's
/// (field 4).
fn leads(status: &[u8]) -> bool {
    let status = fields(status);
    let find = |fields: &[(u64, Field<'_>)], wanted| {
        fields.iter().find_map(|(number, field)| match field {
            Field::Number(value) if *number == wanted => Some(*value),
            _ => None,
        })
    };
    let own = status.iter().find_map(|(number, field)| match field {
        Field::Bytes(header) if *number == 1 => find(&fields(header), 2),
        _ => None,
    });
    own.is_some() && own == find(&status, 4)
}

/// Ports that are free at the moment: three for peers, then three for clients.
fn free_ports() -> [u16; 6] {
    let listeners = [(); 6].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("bound").port())
}
