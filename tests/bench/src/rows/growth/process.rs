//! The cost of a process, as the kernel counts it.

use std::fs;
use std::time::Duration;

/// Unit of processor times in `/proc` on every Linux that the bench runs on.
const TICK: Duration = Duration::from_millis(10);

/// Resident memory of a process in mebibytes.
pub(super) fn memory(pid: u32) -> Result<f64, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|why| why.to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().map_err(|_| format!("VmRSS is {line:?}"))?;
    Ok(kib / 1024.0)
}

/// How much processor time it has taken.
pub(super) fn time(pid: u32) -> Result<Duration, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|why| why.to_string())?;
    // The name of the program is in parentheses and may hold anything; after it come the numbers.
    let (_, numbers) = text.rsplit_once(')').ok_or("no name in stat")?;
    let ticks: u32 = numbers.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u32>().ok()).sum();
    Ok(TICK * ticks)
}
