//! Memory and processor time of a process, as the kernel counts them.

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

/// Processor time, user and system, that a process has used so far.
pub(super) fn time(pid: u32) -> Result<Duration, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|why| why.to_string())?;
    // The second field is the program's name in parentheses and may contain anything, so the last bracket ends it.
    let (_, numbers) = text.rsplit_once(')').ok_or("no name in stat")?;
    let ticks: u32 = numbers.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u32>().ok()).sum();
    Ok(TICK * ticks)
}
