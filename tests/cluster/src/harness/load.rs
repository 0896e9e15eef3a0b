//! A client without a pause: several threads, each with one request after the other, and a connection for each request.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use super::hosts::Host;
use super::http::get_tcp;

/// Threads of a client.
const THREADS: usize = 4;

/// A client that sends requests to one address until it is stopped.
pub struct Load {
    stops: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Seen>>,
}

/// What a client saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests that were answered, by the first line of their answers' bodies that begins with the client's key.
    pub answers: BTreeMap<String, usize>,
    /// Requests that failed: when each was sent, and why.
    pub failures: Vec<(Instant, String)>,
    /// Time that the slowest answer took.
    pub slowest: Duration,
}

impl Load {
    /// Begins to send requests to `address`, from a host of its own if it is given. Answers are told apart by the line
    /// that begins with `key`.
    pub fn start(address: SocketAddr, from: Option<&Host>, key: &'static str) -> Self {
        let stops = Arc::new(AtomicBool::new(false));
        let namespace = from.and_then(Host::namespace);
        let thread = |_| {
            let (stops, namespace) = (Arc::clone(&stops), namespace.clone());
            std::thread::spawn(move || {
                if let Some(namespace) = namespace {
                    // A thread can be in another network namespace than its process.
                    let file = File::open(namespace).expect("the namespace exists");
                    setns(file, CloneFlags::CLONE_NEWNET).expect("only root makes such hosts");
                }
                let mut seen = Seen::default();
                while !stops.load(Ordering::Relaxed) {
                    seen.ask(address, key);
                }
                seen
            })
        };
        let threads = (0..THREADS).map(thread).collect();
        Self { stops, threads }
    }

    /// Stops the client, and returns what it saw.
    pub fn stop(self) -> Seen {
        self.stops.store(true, Ordering::Relaxed);
        self.threads.into_iter().fold(Seen::default(), |mut all, thread| {
            let seen = thread.join().expect("a client does not panic");
            seen.answers.into_iter().for_each(|(key, count)| *all.answers.entry(key).or_default() += count);
            all.failures.extend(seen.failures);
            all.slowest = all.slowest.max(seen.slowest);
            all
        })
    }
}

impl Seen {
    /// Requests that were answered.
    pub fn answered(&self) -> usize {
        self.answers.values().sum()
    }

    fn ask(&mut self, address: SocketAddr, key: &str) {
        let sent = Instant::now();
        match get_tcp(address, "/") {
            Ok(answer) if answer.status == 200 => {
                let line = answer.text.lines().find(|line| line.starts_with(key)).unwrap_or(&answer.text);
                *self.answers.entry(line.to_owned()).or_default() += 1;
                self.slowest = self.slowest.max(sent.elapsed());
            }
            Ok(answer) => self.failures.push((sent, format!("{}: {}", answer.status, answer.text))),
            Err(why) => self.failures.push((sent, why.to_string())),
        }
    }
}
