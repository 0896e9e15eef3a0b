//! The client of the rows about ports, and the server behind them: helpers, each on one thread.
//!
//! A connection begins with a byte that says what it is for. [`ASK`]: every request of [`REQUEST`] bytes gets an answer of
//! [`ANSWER`] bytes. [`FLOOD`]: the server sends until the client has gone. A connection without a byte is idle.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use essaim_cluster_tests::harness::Host;
use futures::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout_at;

use crate::process::{Helper, Owned, answer, bound_on};

/// Hidden name of the server: `essaim-bench ports-server PORT`. It listens at the address in `ESSAIM_ADDRESS`, as process
/// tasks do.
pub(crate) const SERVER: &str = "ports-server";

/// Hidden name of the client, which reads what it is to do: see [`Client`].
pub(crate) const CLIENT: &str = "ports-client";

const ASK: u8 = b'a';
const FLOOD: u8 = b'f';

/// Bytes of a request: that of a small HTTP request.
const REQUEST: usize = 100;

/// Bytes of an answer: that of a small HTTP answer.
const ANSWER: usize = 250;

/// Bytes that are read and written at a time in bulk.
const PIECE: usize = 128 << 10;

/// Connections that are opened at a time when many are to be idle.
const OPENED_AT_ONCE: usize = 64;

/// Runs the server until it is killed.
pub(crate) fn serve(arguments: &[String]) -> ExitCode {
    let Some(port) = arguments.first().and_then(|port| port.parse().ok()) else { return ExitCode::from(2) };
    let ip = std::env::var("ESSAIM_ADDRESS").ok().and_then(|ip| ip.parse().ok());
    let at = SocketAddr::new(ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port);
    let served: io::Result<()> = runtime().block_on(async {
        let listener = TcpListener::bind(at).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            // A connection that breaks concerns its client alone.
            tokio::spawn(async move { served(stream).await });
        }
    });
    served.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

async fn served(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match stream.read_u8().await? {
        FLOOD => {
            let piece = vec![FLOOD; PIECE];
            loop {
                stream.write_all(&piece).await?;
            }
        }
        _ => {
            let (mut request, answer) = ([0; REQUEST], [ASK; ANSWER]);
            loop {
                stream.read_exact(&mut request).await?;
                stream.write_all(&answer).await?;
            }
        }
    }
}

/// Runs the client: does what each line says, and answers with a number or with `failed` and the reason.
pub(crate) fn run(_: &[String]) -> ExitCode {
    let runtime = runtime();
    let mut idle = Vec::new();
    answer(|words| {
        let done = match words {
            ["requests", at, connections, millis] => runtime.block_on(rate(at, connections, millis, requests)),
            ["connections", at, connections, millis] => runtime.block_on(rate(at, connections, millis, connections_of)),
            ["bulk", at, connections, millis] => runtime.block_on(rate(at, connections, millis, bulk)),
            ["idle", at, count] => runtime.block_on(opened(at, count)).map(|opened| {
                idle.extend(opened);
                idle.len() as f64
            }),
            ["ask-idle"] => runtime.block_on(async {
                for stream in &mut idle {
                    request(stream).await?;
                }
                Ok(idle.len() as f64)
            }),
            _ => Err(io::Error::other(format!("{words:?} says nothing"))),
        };
        match done {
            Ok(number) => number.to_string(),
            Err(why) => format!("failed: {why}"),
        }
    })
}

/// What so many connections do in sum, per second, in so many milliseconds.
async fn rate<F, D>(at: &str, connections: &str, millis: &str, one: F) -> io::Result<f64>
where
    F: Fn(SocketAddr, Instant) -> D,
    D: Future<Output = io::Result<u64>>,
{
    let (at, connections) = (parsed::<SocketAddr>(at)?, parsed::<usize>(connections)?);
    let begun = Instant::now();
    let until = begun + Duration::from_millis(parsed(millis)?);
    let done = try_join_all((0..connections).map(|_| one(at, until))).await?;
    Ok(done.iter().sum::<u64>() as f64 / begun.elapsed().as_secs_f64())
}

/// Requests over one connection, one after the other.
async fn requests(at: SocketAddr, until: Instant) -> io::Result<u64> {
    let mut stream = connected(at, ASK).await?;
    let mut count = 0;
    while Instant::now() < until {
        request(&mut stream).await?;
        count += 1;
    }
    Ok(count)
}

/// Connections with one request each, one after the other.
async fn connections_of(at: SocketAddr, until: Instant) -> io::Result<u64> {
    let mut count = 0;
    while Instant::now() < until {
        let mut stream = connected(at, ASK).await?;
        request(&mut stream).await?;
        // Otherwise the client runs out of ports, which wait after each connection that it has ended.
        stream.set_zero_linger()?;
        count += 1;
    }
    Ok(count)
}

/// Bytes that one connection receives.
async fn bulk(at: SocketAddr, until: Instant) -> io::Result<u64> {
    let mut stream = connected(at, FLOOD).await?;
    let (mut piece, mut count) = (vec![0; PIECE], 0);
    while let Ok(read) = timeout_at(until.into(), stream.read(&mut piece)).await {
        match read? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => count += read as u64,
        }
    }
    Ok(count)
}

/// Opens so many connections, which have been answered once and then rest.
async fn opened(at: &str, count: &str) -> io::Result<Vec<TcpStream>> {
    let (at, count) = (parsed::<SocketAddr>(at)?, parsed::<usize>(count)?);
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let some = OPENED_AT_ONCE.min(count - all.len());
        let opening = (0..some).map(|_| async {
            let mut stream = connected(at, ASK).await?;
            request(&mut stream).await?;
            io::Result::Ok(stream)
        });
        all.extend(try_join_all(opening).await?);
    }
    Ok(all)
}

async fn connected(at: SocketAddr, what: u8) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(at).await?;
    stream.set_nodelay(true)?;
    stream.write_u8(what).await?;
    Ok(stream)
}

async fn request(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&[ASK; REQUEST]).await?;
    stream.read_exact(&mut [0; ANSWER]).await?;
    Ok(())
}

fn parsed<T: std::str::FromStr>(word: &str) -> io::Result<T> {
    word.parse().map_err(|_| io::Error::other(format!("{word:?} is not what belongs here")))
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be built")
}

/// The client's process on a host.
pub(super) struct Client(Helper);

impl Client {
    pub(super) fn on(host: &Host) -> Result<Self, String> {
        let mut command = host.command(own()?);
        Helper::of(command.arg(CLIENT)).map(Self).map_err(|why| why.to_string())
    }

    /// Has the client do what a line says; the number that it answers.
    pub(super) fn ask(&mut self, line: &str) -> Result<f64, String> {
        let heard = self.0.ask(line);
        heard.parse().map_err(|_| format!("{line}: {heard}"))
    }
}

/// A server's process on a host, beside the tasks of a service. It is in a session of its own, as each task is, because Linux
/// shares the processors among sessions before it shares them among processes (`sched_autogroup`).
pub(super) fn server(host: &Host, at: SocketAddr) -> Result<Owned, String> {
    let mut command = bound_on(host, "setsid");
    command.args([&own()?, SERVER, &at.port().to_string()]).env("ESSAIM_ADDRESS", at.ip().to_string());
    Owned::spawn(&mut command).map_err(|why| why.to_string())
}

/// Path of this program.
pub(super) fn own() -> Result<String, String> {
    let own = std::env::current_exe().map_err(|why| why.to_string())?;
    Path::new(&own).to_str().map(str::to_owned).ok_or_else(|| "this program's path is not UTF-8".to_owned())
}
