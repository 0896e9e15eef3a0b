//! The peer of the row `links`: two Erlang nodes on loopback, with a port mapper (epmd) of their own.

use crate::process::{Helper, Owned, bound, is_installed};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SOURCE: &str = include_str!("links.erl");

/// An Erlang node that casts and calls, an Erlang node that counts, and their port mapper.
pub(super) struct Erlang {
    caller: Helper,
    _counter: Owned,
    _mapper: Owned,
}

impl Erlang {
    /// Starts the Erlang nodes; `None` when Erlang is not installed.
    pub(super) fn start(folder: &Path) -> Option<Self> {
        if !is_installed("erl") || !is_installed("erlc") {
            return None;
        }
        std::fs::write(folder.join("links.erl"), SOURCE).expect("a file");
        let compiled = Command::new("erlc").arg("links.erl").current_dir(folder).status().expect("erlc is installed");
        assert!(compiled.success(), "erlc: {compiled}");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
        let mapper = Owned::spawn(bound("epmd").args(["-address", "127.0.0.1", "-port", &port.to_string()]));
        let node = |name: &str, does: &[&str]| {
            let mut command = bound("erl");
            command.current_dir(folder).env("ERL_EPMD_ADDRESS", "127.0.0.1").env("ERL_EPMD_PORT", port.to_string());
            command.env("HOME", folder).args(["-noshell", "-start_epmd", "false"]);
            command.args(["-name", name, "-setcookie", "bench", "-kernel", "inet_dist_use_interface", "{127,0,0,1}"]);
            command.args(["-s", "links"]).args(does);
            command
        };
        let mapper = mapper.expect("epmd comes with erl");
        let counter = Owned::spawn(&mut node("counter@127.0.0.1", &["counter"])).expect("it starts");
        let mut caller =
            Helper::of(&mut node("caller@127.0.0.1", &["caller", "counter@127.0.0.1"])).expect("it starts");
        assert_eq!(caller.hear(), "ready");
        Some(Self { caller, _counter: counter, _mapper: mapper })
    }

    /// Casts for this time; returns the casts per second that the counting node received.
    pub(super) fn casts(&mut self, time: Duration) -> f64 {
        rate(&self.caller.ask(&format!("casts {}", time.as_millis())))
    }

    /// Lets this many callers call for this time; returns the answered calls per second.
    pub(super) fn calls(&mut self, callers: usize, time: Duration) -> f64 {
        rate(&self.caller.ask(&format!("calls {} {callers}", time.as_millis())))
    }
}

/// Rate per second from an answer `COUNT MICROS`.
fn rate(answer: &str) -> f64 {
    let mut numbers = answer.split(' ').map(|word| word.parse::<f64>().expect("a number"));
    let (Some(count), Some(micros)) = (numbers.next(), numbers.next()) else { panic!("what is {answer:?}?") };
    count / micros * 1e6
}
