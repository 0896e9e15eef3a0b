//! Signals by name and number, as Docker takes them: `SIGTERM`, `term`, `15`, `RTMIN+3`.

use std::fmt;
use std::str::FromStr;

/// A signal of Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

impl Signal {
    /// Ask to end; what a task is stopped with unless its spec says otherwise.
    pub const TERM: Self = Self(15);
    /// End at once.
    pub const KILL: Self = Self(9);

    /// Its number.
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl Default for Signal {
    fn default() -> Self {
        Self::TERM
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match usize::try_from(self.0).ok().and_then(|number| NAMES.get(number.checked_sub(1)?)) {
            Some(name) => write!(f, "SIG{name}"),
            None => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
        }
    }
}

/// The text names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {0}")]
pub struct UnknownSignal(String);

impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        let unknown = || UnknownSignal(text.chars().take(64).collect());
        let upper = text.trim().to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = if let Ok(number) = name.parse::<i32>() {
            number
        } else if let Some(place) = NAMES.iter().position(|known| *known == name) {
            place as i32 + 1
        } else if let Some(offset) = name.strip_prefix("RTMIN") {
            RTMIN + parse_offset(offset, '+').ok_or_else(unknown)?
        } else if let Some(offset) = name.strip_prefix("RTMAX") {
            RTMAX - parse_offset(offset, '-').ok_or_else(unknown)?
        } else {
            return Err(unknown());
        };
        if (1..=RTMAX).contains(&number) { Ok(Self(number)) } else { Err(unknown()) }
    }
}

fn parse_offset(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    text.strip_prefix(sign)?.parse().ok().filter(|offset| (0..=30).contains(offset))
}

/// As the C library of Linux has them: it keeps two for itself.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The names of 1 to 31 on Linux.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_known_by_name_and_by_number() {
        for (text, number) in
            [("SIGTERM", 15), ("term", 15), ("9", 9), ("sigusr1", 10), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("QUIT", 3)]
        {
            assert_eq!(text.parse::<Signal>().map(Signal::number), Ok(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused_with_its_text() {
        for text in ["", "SIG", "TERMINATE", "0", "65", "-1", "RTMIN+40", "RTMIN-1"] {
            assert_eq!(text.parse::<Signal>().map_err(|e| e.to_string()), Err(format!("invalid signal: {text}")));
        }
    }

    #[test]
    fn a_signal_shows_its_name() {
        assert_eq!(Signal::TERM.to_string(), "SIGTERM");
        assert_eq!("37".parse::<Signal>().unwrap().to_string(), "SIGRTMIN+3");
    }
}
