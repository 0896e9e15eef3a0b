//! Every key of the Compose specification: its form, and what becomes of it here.
//!
//! The rows are facts of the specification beside decisions of ours. A key that has no row is an error, with the nearest
//! key that has one. A key whose row says [`Fate::Ignored`] becomes a notice of the application, so nothing is dropped
//! without a word. A test reads all compose files of `tests/files` and fails for a row that no file uses.
//!
//! In a path, `*` stands for a name that the author of the file chooses, and `[]` for the items of a list.

mod deploy;
mod service;
mod top;

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Text, or a number or flag that is taken as one.
    Text,
    /// `true` or `false`.
    Flag,
    /// Whole number.
    Integer,
    /// Number.
    Number,
    /// Duration such as `1m30s`.
    Duration,
    /// Number of bytes such as `64m`.
    Bytes,
    /// List of texts.
    Texts,
    /// One text, or a list of them.
    TextOrTexts,
    /// Command: a line that is cut into words, or the words.
    Words,
    /// Names with values: a mapping, or a list of `NAME=value`.
    Pairs,
    /// Mapping with the keys that have rows below this one.
    Keys,
    /// Nothing, or a mapping with these keys.
    NullOrKeys,
    /// Short form, or a mapping with these keys.
    TextOrKeys,
    /// Flag, or a mapping with these keys.
    FlagOrKeys,
    /// Whole number, or a mapping with these keys.
    IntegerOrKeys,
    /// Mapping of chosen names; the row `.*` has the form of its values.
    Named,
    /// List of names, or a mapping of them; the row `.*` has the form of its values.
    TextsOrNamed,
    /// List; the row `[]` has the form of its items.
    Items,
    /// One text, or a list.
    TextOrItems,
    /// Any value.
    Any,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Goes into a request of Docker's API, at this place.
    To(&'static str),
    /// Acted upon by the reader of the file.
    Reader(&'static str),
    /// Its keys say what becomes of them.
    Parts,
    /// Belongs to a key above it that is ignored.
    Below,
    /// For another program or another moment: nothing is lost without it, for this reason.
    Moot(&'static str),
    /// Without effect here.
    Ignored {
        /// Why it has no effect.
        why: &'static str,
        /// What to do to have the effect.
        instead: &'static str,
    },
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Path of the key.
    pub path: &'static str,
    /// Form of its value.
    pub form: Form,
    /// What becomes of it.
    pub fate: Fate,
}

pub(crate) const fn to(path: &'static str, form: Form, place: &'static str) -> Row {
    Row { path, form, fate: Fate::To(place) }
}

pub(crate) const fn reader(path: &'static str, form: Form, does: &'static str) -> Row {
    Row { path, form, fate: Fate::Reader(does) }
}

pub(crate) const fn parts(path: &'static str, form: Form) -> Row {
    Row { path, form, fate: Fate::Parts }
}

pub(crate) const fn below(path: &'static str, form: Form) -> Row {
    Row { path, form, fate: Fate::Below }
}

pub(crate) const fn moot(path: &'static str, form: Form, why: &'static str) -> Row {
    Row { path, form, fate: Fate::Moot(why) }
}

pub(crate) const fn ignored(path: &'static str, form: Form, why: &'static str, instead: &'static str) -> Row {
    Row { path, form, fate: Fate::Ignored { why, instead } }
}

/// All rows.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    top::ROWS.iter().chain(service::ROWS).chain(deploy::ROWS)
}

/// The rows by path.
fn index() -> &'static BTreeMap<&'static str, &'static Row> {
    static INDEX: OnceLock<BTreeMap<&'static str, &'static Row>> = OnceLock::new();
    INDEX.get_or_init(|| rows().map(|row| (row.path, row)).collect())
}

/// The row with this path.
pub(crate) fn row(path: &str) -> Option<&'static Row> {
    index().get(path).copied()
}

/// Names of the keys below this path.
pub(crate) fn keys(path: &str) -> impl Iterator<Item = &'static str> {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
    index().keys().filter_map(move |row| {
        let rest = row.strip_prefix(prefix.as_str())?;
        (!rest.is_empty() && !rest.contains(['.', '['])).then_some(rest)
    })
}

/// The key below this path that is nearest to a mistyped one, if one is near.
pub(crate) fn nearest(path: &str, key: &str) -> Option<&'static str> {
    let lower = key.to_lowercase().replace('-', "_");
    let far = 1 + lower.chars().count() / 3;
    keys(path)
        .filter(|known| *known != "*")
        .map(|known| (distance(&lower, known), known))
        .filter(|(far_off, _)| *far_off <= far)
        .min()
        .map(|(_, known)| known)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_one_row_and_its_parents_have_rows() {
        assert_eq!(rows().count(), index().len(), "a path has two rows");
        for row in rows() {
            let parent = match row.path.strip_suffix("[]") {
                Some(list) => list,
                None => match row.path.rsplit_once('.') {
                    Some((parent, _)) => parent,
                    None => continue,
                },
            };
            assert!(super::row(parent).is_some(), "{} has no row above it", row.path);
        }
    }

    #[test]
    fn a_row_below_has_an_ignored_row_above() {
        for row in rows().filter(|row| row.fate == Fate::Below) {
            let above = rows().any(|other| {
                row.path.strip_prefix(other.path).is_some_and(|rest| rest.starts_with(['.', '[']))
                    && matches!(other.fate, Fate::Ignored { .. } | Fate::Moot(_))
            });
            assert!(above, "{}", row.path);
        }
    }

    #[test]
    fn a_form_with_keys_has_rows_below_it_and_another_has_none() {
        for row in rows() {
            let items = super::row(&format!("{}[]", row.path)).is_some();
            let names = keys(row.path).count();
            let fits = match row.form {
                Form::Keys | Form::NullOrKeys | Form::TextOrKeys | Form::FlagOrKeys | Form::IntegerOrKeys => {
                    names > 0 && !items
                }
                Form::Named | Form::TextsOrNamed => names == 1 && !items,
                Form::Items | Form::TextOrItems => names == 0 && items,
                _ => names == 0 && !items,
            };
            assert!(fits, "{} {:?}", row.path, row.form);
        }
    }

    #[test]
    fn a_mistyped_key_finds_the_key_that_was_meant() {
        for (path, key, meant) in [
            ("services.*", "imagee", Some("image")),
            ("services.*", "dependsOn", Some("depends_on")),
            ("services.*", "enviroment", Some("environment")),
            ("services.*", "health-check", Some("healthcheck")),
            ("services.*.deploy", "replica", Some("replicas")),
            ("", "service", Some("services")),
            ("services.*", "zzzzzzzz", None),
        ] {
            assert_eq!(nearest(path, key), meant, "{key}");
        }
    }
}
