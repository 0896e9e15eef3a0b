//! Whether the machine is calm enough for a measurement to mean anything.
//!
//! The kernel reports the share of the last ten seconds in which a process waited for a processor
//! (`/proc/pressure/cpu`). A round that makes the machine busy by itself, as a throughput bench does, is judged by the
//! moment before it begins; a round that measures a delay is judged at its end as well.
//!
//! Those ten seconds include the round that has just ended. Between rounds that follow one another, a short look at the
//! present ([`wait_now`]) tells other load from that of the round.

use std::time::{Duration, Instant};

/// Share of time in percent above which a round is void.
const STARVED: f64 = 20.0;

/// Number of times that a row waits for a calm machine before it measures anyway and says so.
const WAITS_MAX: u32 = 30;

/// Time between two looks at whether the machine is calm.
const WAIT: Duration = Duration::from_secs(2);

/// Share of the last ten seconds in which a process waited for a processor, in percent; 0 when the kernel does not
/// report it.
pub(crate) fn pressure() -> f64 {
    let text = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let some = text.lines().find_map(|line| line.strip_prefix("some avg10="));
    some.and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(0.0)
}

/// Whether a measurement that ends now is valid.
pub(crate) fn is_calm() -> bool {
    pressure() <= STARVED
}

/// Waits until the machine is calm. Returns false when it gave up waiting.
pub(crate) fn wait() -> bool {
    for _ in 0..WAITS_MAX {
        if is_calm() {
            return true;
        }
        std::thread::sleep(WAIT);
    }
    false
}

/// Length of the short look at the present pressure, taken while only idle processes of the bench run.
const LOOK: Duration = Duration::from_millis(250);

/// Waits until no process waits for a processor at present. Returns false when it gave up waiting.
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

/// Total time since the machine started in which a process waited for a processor.
fn stalled() -> Duration {
    let text = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let some = text.lines().find(|line| line.starts_with("some ")).and_then(|line| line.split("total=").nth(1));
    Duration::from_micros(some.and_then(|micros| micros.parse().ok()).unwrap_or_default())
}
