//! Errors and notices: what is wrong with a compose file or has no effect here, where it stands, and what to do.

use std::fmt;
use std::sync::Arc;

/// A place in a file. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Path of the file as it was given, or as the file that names it gives it.
    pub file: Arc<str>,
    /// Line; 0 for a file as a whole.
    pub line: usize,
}

impl Place {
    /// The whole file.
    pub(crate) fn whole(file: &str) -> Self {
        Self { file: file.into(), line: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// Kinds of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The file is no YAML.
    Yaml,
    /// The Compose specification has no such key.
    UnknownKey,
    /// The key has another form (a list in place of a text).
    Form,
    /// The value of the key cannot be.
    Value,
    /// A variable is required and not set, or its expression is wrong.
    Variable,
    /// A file that is named cannot be read.
    File,
    /// A service, network, volume, secret or config that is named is not defined.
    Reference,
    /// Files include or extend each other in a circle, or services depend on each other in one.
    Circle,
    /// Two settings contradict each other.
    Conflict,
    /// A file, or what it unfolds to, is larger than the reader allows.
    Limit,
}

/// Error in a compose file. Nothing was changed by it; the author of the file can mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Kind of the error.
    pub kind: FaultKind,
    /// Where it stands.
    pub place: Place,
    /// Path of the key (`services.web.ports[0]`); empty for a file as a whole.
    pub path: String,
    /// What is wrong.
    pub cause: String,
    /// What to do.
    pub way_out: String,
}

impl Fault {
    pub(crate) fn new(
        kind: FaultKind,
        place: &Place,
        path: impl Into<String>,
        cause: impl Into<String>,
        way_out: impl Into<String>,
    ) -> Box<Self> {
        Box::new(Self { kind, place: place.clone(), path: path.into(), cause: cause.into(), way_out: way_out.into() })
    }

    /// Place, path and cause in one line.
    pub fn what(&self) -> String {
        match self.path.as_str() {
            "" => format!("{}: {}", self.place, self.cause),
            path => format!("{}: {path}: {}", self.place, self.cause),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nnext: {}", self.what(), self.way_out)
    }
}

impl std::error::Error for Fault {}

/// What a reading function returns.
pub(crate) type Outcome<T> = Result<T, Box<Fault>>;

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// The application behaves otherwise than the file says.
    Ignored,
    /// The reader understood something in a way that its author may not expect.
    Read,
    /// The key is for another program or for another moment, and nothing is lost without it.
    Moot,
}

/// What a reader of the file should know, although the file is accepted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    /// Where it stands.
    pub place: Place,
    /// Path of the key; the name of a variable for one that is not set.
    pub path: String,
    /// How much it matters.
    pub weight: Weight,
    /// Why the key has no effect, or what was understood.
    pub why: String,
    /// What to do to have the effect; may be empty.
    pub instead: String,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, path, weight, why, instead } = self;
        match weight {
            Weight::Ignored => write!(f, "{place}: {path} is ignored: {why}")?,
            Weight::Read | Weight::Moot => write!(f, "{place}: {path}: {why}")?,
        }
        if instead.is_empty() { Ok(()) } else { write!(f, "; {instead}") }
    }
}
