//! Whether the machine was calm enough for a measurement to say anything.
//!
//! The kernel tells how much of the last ten seconds somebody waited for a processor (`/proc/pressure/cpu`). A round
//! that makes the machine busy by itself, as a bench of throughput does, is judged by the moment before it begins; one
//! that measures a delay is judged at its end as well.
//!
//! Those ten seconds still remember a round that has just ended, if it made the machine busy. Rounds that follow on
//! one another are told apart from strangers by a short look between them ([`wait_now`]).

use std::time::{Duration, Instant};

/// Above this share of time, in percent, a round is void.
const STARVED: f64 = 20.0;

/// So often a row waits for the machine to calm down, before it measures anyway and says so.
const WAITS_MAX: u32 = 30;

/// How long it waits each time.
const WAIT: Duration = Duration::from_secs(2);

/// The share of the last ten seconds in which somebody waited for a processor, in percent; 0 when the kernel does not
/// tell.
pub(crate) fn pressure() -> f64 {
    let text = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let some = text.lines().find_map(|line| line.strip_prefix("some avg10="));
    some.and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(0.0)
}

/// Whether a measurement that ends now says anything.
pub(crate) fn is_calm() -> bool {
    pressure() <= STARVED
}

/// Waits until the machine is calm; whether it is.
pub(crate) fn wait() -> bool {
    for _ in 0..WAITS_MAX {
        if is_calm() {
            return true;
        }
        std::thread::sleep(WAIT);
    }
    false
}

/// The short look: while nothing of ours runs but what is idle.
const LOOK: Duration = Duration::from_millis(250);

/// Waits until nobody waits for a processor right now; whether it came to that.
pub(crate) fn wait_now() -> bool {
    for _ in 0..WAITS_MAX {
        let (began, before) = (Instant::now(), stalled());
        std::thread::sleep(LOOK);
        let share = stalled().saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64();
        if share * 100.0 <= STARVED {
            return true;
        }
        std::thread::sleep(LOOK);
    }
    false
}

/// For how long, since the machine started, somebody waited for a processor.
fn stalled() -> Duration {
    let text = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let some = text.lines().find(|line| line.starts_with("some ")).and_then(|line| line.split("total=").nth(1));
    Duration::from_micros(some.and_then(|micros| micros.parse().ok()).unwrap_or_default())
}
