//! Essaim's side of the row `links`: this process casts and calls over a link to the counter's process.

use super::MESSAGE_LEN;
use super::counter::{COUNTER, NAME, Owner, ToCounter, scope};
use crate::endpoints::{GENERATOR, endpoint, free_ports, id};
use crate::process::Helper;
use essaim_system::env::{Clock, RealClock};
use essaim_system::link::{CastError, Link, Remote};
use essaim_transport::{Endpoint, Lane};
use ractor::Actor;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Longest time that a call may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A link to the counting actor, and the process at the link's other end.
pub(super) struct Ours {
    remote: Remote<ToCounter>,
    runtime: Runtime,
    _endpoint: Endpoint,
    _counter: Helper,
}

impl Ours {
    pub(super) fn start() -> Self {
        let ports = free_ports::<1>();
        let signed = RealClock::new().utc();
        let arguments = [COUNTER.to_owned(), signed.as_micros().to_string(), ports[0].to_string()];
        let mut counter = Helper::spawn(arguments).expect("this program starts again");
        assert_eq!(counter.hear(), "ready");
        // The same kind of runtime as the daemon's.
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let (endpoint, remote) = runtime.block_on(async {
            let endpoint = endpoint(GENERATOR, signed, &ports);
            let lane = endpoint.open(id(1), Lane::Link).await.expect("the counter's process answers");
            let (owner, _) = Actor::spawn(None, Owner, ()).await.expect("it starts");
            let link = Link::over(&scope(), owner.get_cell(), lane).await.expect("it opens");
            let remote = link.import::<ToCounter>(NAME, PATIENCE).await.expect("it is exported");
            (endpoint, remote)
        });
        Self { remote, runtime, _endpoint: endpoint, _counter: counter }
    }

    /// Casts for this time; returns the casts per second that the counting actor received.
    pub(super) fn casts(&self, time: Duration) -> f64 {
        let remote = self.remote.clone();
        let casting = self.runtime.spawn(async move {
            let began = Instant::now();
            while began.elapsed() < time {
                // The clock is read once for 64 casts, as in Erlang's loop.
                for _ in 0..64 {
                    loop {
                        match remote.cast(ToCounter::Add(vec![7; MESSAGE_LEN])) {
                            Ok(()) => break,
                            Err(CastError::Stalled) => tokio::task::yield_now().await,
                            Err(why) => panic!("{why}"),
                        }
                    }
                }
                tokio::task::yield_now().await;
            }
            let heard = loop {
                if let Ok(heard) = remote.call(ToCounter::Count, PATIENCE).await {
                    break heard;
                }
                tokio::task::yield_now().await;
            };
            heard as f64 / began.elapsed().as_secs_f64()
        });
        self.runtime.block_on(casting).expect("no panic")
    }

    /// Lets this many callers call for this time, each with one call at a time; returns the answered calls per second.
    pub(super) fn calls(&self, callers: usize, time: Duration) -> f64 {
        let remote = self.remote.clone();
        let calling = self.runtime.spawn(async move {
            let began = Instant::now();
            let callers = (0..callers).map(|_| {
                let remote = remote.clone();
                tokio::spawn(async move {
                    let mut calls = 0u64;
                    while began.elapsed() < time {
                        let asked = vec![7; MESSAGE_LEN];
                        let answer = remote.call(|reply| ToCounter::Echo(asked, reply), PATIENCE).await;
                        assert_eq!(answer.expect("an answer").len(), MESSAGE_LEN);
                        calls += 1;
                    }
                    calls
                })
            });
            let calls = futures::future::join_all(callers).await.into_iter();
            calls.map(|calls| calls.expect("no panic")).sum::<u64>() as f64 / began.elapsed().as_secs_f64()
        });
        self.runtime.block_on(calling).expect("no panic")
    }
}
