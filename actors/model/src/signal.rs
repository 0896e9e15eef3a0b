//! The signals of Linux, by name and number, as Docker accepts them: `SIGTERM`, `term`, `15`, `RTMIN+3`.
//!
//! This is the only table of signals in the workspace: requests, specs, orders and engines hold a [`Signal`], never its
//! text. The table is our own because `nix` has no real-time signals and not all of Docker's names; a test of
//! `essaim-engines` compares it with `nix`.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use std::fmt;
use std::str::FromStr;

/// A signal of Linux: a number from 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

impl Signal {
    /// SIGTERM, which asks a process to end: the signal that stops a task unless its spec names another.
    pub const TERM: Self = Self(15);
    /// SIGHUP, which tells a process that its terminal is gone.
    pub const HUP: Self = Self(1);
    /// SIGKILL, which ends a process at once.
    pub const KILL: Self = Self(9);

    /// The signal with this number, if there is one.
    pub fn from_number(number: i32) -> Option<Self> {
        u8::try_from(number).ok().filter(|number| (1..=RTMAX).contains(number)).map(Self)
    }

    /// Number of the signal.
    pub const fn number(self) -> i32 {
        self.0 as i32
    }
}

impl Default for Signal {
    fn default() -> Self {
        Self::TERM
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0) - 1) {
            Some(name) => write!(f, "SIG{name}"),
            // 32 and 33 belong to the C library; Docker accepts their numbers and has no names for them.
            None if self.0 < RTMIN => write!(f, "{}", self.0),
            None => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
        }
    }
}

/// The error for a text that names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {0}")]
pub struct UnknownSignal(String);

impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        let unknown = || UnknownSignal(text.chars().take(TEXT_SHOWN_MAX).collect());
        let upper = text.trim().to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let place = |name: &str| NAMES.iter().position(|known| *known == name).map(|place| place as i32 + 1);
        let alias = || ALIASES.iter().find(|(alias, _)| *alias == name).and_then(|(_, name)| place(name));
        let number = if let Ok(number) = name.parse::<i32>() {
            number
        } else if let Some(number) = place(name).or_else(alias) {
            number
        } else if let Some(offset) = name.strip_prefix("RTMIN") {
            i32::from(RTMIN) + parse_offset(offset, '+').ok_or_else(unknown)?
        } else if let Some(offset) = name.strip_prefix("RTMAX") {
            i32::from(RTMAX) - parse_offset(offset, '-').ok_or_else(unknown)?
        } else {
            return Err(unknown());
        };
        Self::from_number(number).ok_or_else(unknown)
    }
}

fn parse_offset(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    text.strip_prefix(sign)?.parse().ok().filter(|offset| (0..=30).contains(offset))
}

impl Encode for Signal {
    fn encode<E: Encoder>(&self, to: &mut E) -> Result<(), EncodeError> {
        self.0.encode(to)
    }
}

impl<Context> Decode<Context> for Signal {
    fn decode<D: Decoder<Context = Context>>(from: &mut D) -> Result<Self, DecodeError> {
        let number = u8::decode(from)?;
        Self::from_number(i32::from(number)).ok_or(DecodeError::Other("no signal has this number"))
    }
}

bincode::impl_borrow_decode!(Signal);

/// Characters of an unknown signal's text that the error repeats.
const TEXT_SHOWN_MAX: usize = 64;

/// The first real-time signal that the C library of Linux leaves to programs.
const RTMIN: u8 = 34;
/// The last signal.
const RTMAX: u8 = 64;

/// Names of the signals 1 to 31 on Linux.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// Second names of signals that Docker accepts.
const ALIASES: [(&str, &str); 4] = [("POLL", "IO"), ("CLD", "CHLD"), ("IOT", "ABRT"), ("UNUSED", "SYS")];

#[cfg(test)]
essaim_wire::golden_bytes!("signal": Signal);

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_wire::{decode, encode};

    #[test]
    fn a_signal_is_known_by_name_and_by_number() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("sigusr1", 10),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("QUIT", 3),
            ("64", 64),
        ] {
            assert_eq!(text.parse::<Signal>().map(Signal::number), Ok(number), "{text}");
        }
    }

    #[test]
    fn every_name_that_docker_takes_is_a_signal_and_not_sigterm() {
        for (text, number) in [("SIGPOLL", 29), ("SIGIO", 29), ("SIGCLD", 17), ("SIGIOT", 6), ("SIGUNUSED", 31)] {
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
    fn every_signal_reads_back_from_the_name_and_the_bytes_it_is_shown_with() {
        assert_eq!(Signal::TERM.to_string(), "SIGTERM");
        for number in 1..=64 {
            let signal = Signal::from_number(number).expect("a signal");
            assert_eq!(signal.to_string().parse(), Ok(signal));
            assert_eq!(decode::<Signal>(&encode(&signal)).expect("bytes of a signal"), signal);
        }
    }

    #[test]
    fn bytes_that_are_no_signal_are_an_error() {
        for number in [0u8, 65, 255] {
            assert!(decode::<Signal>(&encode(&number)).is_err(), "{number}");
        }
    }
}
