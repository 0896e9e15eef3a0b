//! The row `links`: messages between the actors of two processes, beside Erlang's distribution. It measures casts as
//! fast as one sender can send them, and calls of 64 callers at once.
//!
//! Both sides are two processes on loopback, with as many threads as their programs take by default, and messages of
//! 100 bytes. Essaim's are actors on a link, over QUIC with mutual TLS; Erlang's are a process and a `gen_server` over
//! plain TCP, since its distribution is encrypted only with much extra configuration.
//!
//! - [`counter`]: the helper with the actor that counts; [`ours`]: the sender of casts and calls.
//! - [`erlang`]: two Erlang nodes with `links.erl`, which does the same.

pub(super) mod counter;
mod erlang;
mod ours;

use super::Row;
use crate::calm;
use crate::figure::{Figure, Goal, Peer, Samples, Unit};
use erlang::Erlang;
use ours::Ours;
use std::time::Duration;

/// Length of one round of one side.
const ROUND: Duration = Duration::from_secs(2);

/// Number of callers, each of which always has one call under way.
const CALLERS: usize = 64;

/// Bytes that a message carries.
const MESSAGE_LEN: usize = 100;

pub(super) const ROW: Row =
    Row { name: "links", what: "actor messages between two processes: casts, and 64 calls at once", measure: links };

fn links(rounds: u32) -> Vec<Figure> {
    let folder = tempfile::tempdir().expect("a folder");
    let ours = Ours::start();
    let mut erlang = Erlang::start(folder.path());
    let mut samples: [Samples; 4] = Default::default();
    let mut restless = false;
    for number in 0..rounds {
        for what in 0..2 {
            for turn in [number % 2, (number + 1) % 2] {
                restless |= !calm::wait_now();
                let rate = match (what, turn, &mut erlang) {
                    (0, 0, _) => ours.casts(ROUND),
                    (_, 0, _) => ours.calls(CALLERS, ROUND),
                    (0, _, Some(erlang)) => erlang.casts(ROUND),
                    (_, _, Some(erlang)) => erlang.calls(CALLERS, ROUND),
                    (_, _, None) => continue,
                };
                samples[what + 2 * turn as usize].add(rate);
            }
        }
    }
    let [casts, calls, their_casts, their_calls] = samples;
    let mut figures =
        vec![figure("link casts", casts, their_casts), figure("link calls, 64 at once", calls, their_calls)];
    figures[0].notes.push("Essaim with mutual TLS, Erlang without".into());
    if restless {
        figures[0].notes.push("the machine was busy with something else in some rounds".into());
    }
    figures
}

fn figure(what: &str, ours: Samples, theirs: Samples) -> Figure {
    let peer = (theirs.len() > 0).then(|| Peer { name: "Erlang's distribution".into(), samples: theirs });
    let notes = if peer.is_none() { vec!["Erlang is not installed (Debian's erlang-base)".into()] } else { Vec::new() };
    Figure { what: what.into(), unit: Unit::PerSecond, ours, peer, goal: Goal::Ratio(1.0), notes }
}
