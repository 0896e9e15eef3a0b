//! Output for people: docker's tables, templates and units.
//!
//! In suggested reading order: `list` (a table, `-q`, `--format`), `inspect` (objects by name), `table`,
//! `units`, and `progress` (what a command prints while it waits).

mod inspect;
mod list;
mod progress;
mod table;
pub(crate) mod units;

pub(crate) use self::inspect::{Inspected, Missing, inspect, inspect_each, inspect_plain};
pub(crate) use self::list::{Field, List};
pub(crate) use self::progress::{Progress, Step};
pub(crate) use self::table::align;
