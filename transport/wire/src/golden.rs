//! Golden bytes: tests that the encoding of every stored or sent type has not changed. For tests only.
//!
//! A test opens a [`Walk`] over a checked-in file and lets it walk the types of its crate or module. Each line of the
//! file is one value: its type and variant or version, its bytes, and the value as text.
//!
//! ```text
//! Role::Manager | 01 | Manager
//! ```
//!
//! For each type the walk checks three things:
//!
//! - Every line decodes to the same text, and encodes to the same bytes again.
//! - Every variant of an enum, and every version of a record, has a line. The decoder itself tells how many there are,
//!   so a variant that is added without golden bytes fails.
//! - No line is left over: a type that was ever stored or sent is never forgotten.
//!
//! With `ESSAIM_REFRESH=1`, missing lines are appended. The bytes of an existing line never change; its text is written
//! anew, for a field that was renamed, and shows in the diff.
//!
//! Values for new lines are made with the decoder too: it is fed the numbers and letters that it asks for, so each
//! number, string and list of a value differs from its neighbours, and two fields that change places are noticed.

use crate::codec::CONFIG;
use crate::{decode, encode};
use bincode::de::read::Reader;
use bincode::error::{AllowedEnumVariants, DecodeError};
use bincode::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write};
use std::path::PathBuf;

/// A number that no variant of an enum has, since no enum is that wide.
const NO_VARIANT: u8 = 250;

/// Attempts to make a value that its decoder accepts: usually one for each nested enum.
const TRIES_MAX: usize = 10_000;

/// Defines a test that walks the types of a module, whose golden bytes are in the file `golden/NAME.txt` of its crate.
#[macro_export]
macro_rules! golden_bytes {
    ($name:literal: $($type:ty),+ $(,)?) => {
        mod golden {
            #[allow(unused_imports, reason = "a type may be named by its path")]
            use super::*;

            #[test]
            fn every_variant_and_version_has_golden_bytes_and_keeps_them() {
                let mut walk = $crate::golden::Walk::open(env!("CARGO_MANIFEST_DIR"), $name);
                $(walk.walk::<$type>();)+
                walk.done();
            }
        }
    };
}

/// A walk over the types of one golden file.
pub struct Walk {
    path: PathBuf,
    lines: Vec<Line>,
    refresh: bool,
    faults: Vec<String>,
    types: usize,
    variants: usize,
}

struct Line {
    name: String,
    bytes: Vec<u8>,
    reads: String,
    walked: bool,
}

impl Walk {
    /// Opens the file `golden/NAME.txt` of a crate, whose folder is `env!("CARGO_MANIFEST_DIR")`.
    ///
    /// # Panics
    ///
    /// When a line of the file is malformed.
    pub fn open(crate_folder: &str, name: &str) -> Self {
        let path = PathBuf::from(crate_folder).join("golden").join(format!("{name}.txt"));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines = text.lines().map(|line| Line::parse(line).unwrap_or_else(|| panic!("{path:?}: {line:?}")));
        let lines = lines.collect();
        let refresh = std::env::var_os("ESSAIM_REFRESH").is_some();
        Self { path, lines, refresh, faults: Vec::new(), types: 0, variants: 0 }
    }

    /// Walks a type: every variant of an enum, every version of a record.
    pub fn walk<T: Encode + Decode<()> + Debug>(&mut self) -> &mut Self {
        self.walk_with::<T>(Vec::new())
    }

    /// Like [`Walk::walk`], for a type whose decoder checks its values, so that samples have to be given.
    pub fn walk_with<T: Encode + Decode<()> + Debug>(&mut self, samples: Vec<T>) -> &mut Self {
        let name = &name_of::<T>();
        self.types += 1;
        let range = range_of::<T>(name);
        let mut covered: BTreeMap<u32, usize> = BTreeMap::new();
        for line in 0..self.lines.len() {
            if self.lines[line].is_of(name) {
                self.check::<T>(line);
                *covered.entry(range.map_or(0, |_| number(&self.lines[line].bytes))).or_default() += 1;
            }
        }
        let (first, last) = range.unwrap_or((0, 0));
        self.variants += (last - first + 1) as usize;
        for missing in (first..=last).filter(|number| !covered.contains_key(number)) {
            let shown = samples.iter().map(encode).find(|bytes| range.is_none() || number(bytes) == missing);
            let made = shown.map(Ok).unwrap_or_else(|| make::<T>(range.map(|_| missing)));
            match made {
                Ok(bytes) => self.append::<T>(name, range, &bytes),
                Err(why) => self.faults.push(format!("{name}: no value could be made ({why}); show one")),
            }
        }
        self
    }

    /// Ends the walk.
    ///
    /// # Panics
    ///
    /// When the walk found any fault, with the list of all faults.
    pub fn done(mut self) {
        for line in self.lines.iter().filter(|line| !line.walked) {
            self.faults.push(format!("{}: nobody walked it; a type that was stored or sent stays readable", line.name));
        }
        if self.refresh {
            let text = self.lines.iter().fold(String::new(), |mut text, line| {
                let hex = line.bytes.iter().fold(String::new(), |mut hex, byte| {
                    let _ = write!(hex, "{byte:02x}");
                    hex
                });
                let _ = writeln!(text, "{} | {hex} | {}", line.name, line.reads);
                text
            });
            std::fs::create_dir_all(self.path.parent().expect("a folder")).expect("made");
            std::fs::write(&self.path, text).expect("written");
        }
        println!("golden: {} types, {} variants and versions: {}", self.types, self.variants, self.path.display());
        assert!(self.faults.is_empty(), "{}:\n{}", self.path.display(), self.faults.join("\n"));
    }

    fn check<T: Encode + Decode<()> + Debug>(&mut self, line: usize) {
        let Line { name, bytes, reads, walked } = &mut self.lines[line];
        *walked = true;
        match decode::<T>(bytes) {
            Ok(value) => {
                let again = encode(&value);
                if again != *bytes {
                    self.faults.push(format!("{name}: the bytes have changed: {again:02x?}, once {bytes:02x?}"));
                }
                let now = read(&value);
                if now != *reads && self.refresh {
                    *reads = now;
                } else if now != *reads {
                    self.faults.push(format!("{name}: reads as {now}, once as {reads}"));
                }
            }
            Err(why) => self.faults.push(format!("{name}: cannot be read any more: {why}")),
        }
    }

    fn append<T: Encode + Decode<()> + Debug>(&mut self, name: &str, range: Option<(u32, u32)>, bytes: &[u8]) {
        let value = match decode::<T>(bytes) {
            Ok(value) => value,
            Err(why) => return self.faults.push(format!("{name}: a made value cannot be read: {why}")),
        };
        let bytes = encode(&value);
        let reads = read(&value);
        let name = match range {
            // Versions count from 1, variants from 0.
            Some((1, _)) => format!("{name}@{}", number(&bytes)),
            Some(_) => {
                let end = reads.find(|c: char| !c.is_alphanumeric()).unwrap_or(reads.len());
                format!("{name}::{}", &reads[..end])
            }
            None => name.to_owned(),
        };
        if self.refresh {
            self.lines.push(Line { name, bytes, reads, walked: true });
        } else {
            self.faults.push(format!("{name}: has no golden bytes yet; ESSAIM_REFRESH=1 appends them"));
        }
    }
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.splitn(3, " | ");
        let (name, hex, reads) = (parts.next()?, parts.next()?, parts.next()?);
        let digits = hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        Some(Self { name: name.into(), bytes: digits.collect::<Option<_>>()?, reads: reads.into(), walked: false })
    }

    fn is_of(&self, of: &str) -> bool {
        self.name.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with(['@', ':']))
    }
}

/// The name of a type without the modules that the type and its arguments live in, because modules may move.
fn name_of<T>() -> String {
    without_modules(std::any::type_name::<T>())
}

fn without_modules(type_name: &str) -> String {
    type_name.split_inclusive(['<', '>', ',', ' ']).map(|part| part.rsplit("::").next().unwrap_or(part)).collect()
}

/// Formats a value on one line.
fn read(value: &impl Debug) -> String {
    format!("{value:?}").replace('\n', " ")
}

/// Number of a variant or version: the first byte. No enum has so many variants that the number takes two.
fn number(bytes: &[u8]) -> u32 {
    bytes.first().copied().unwrap_or_default().into()
}

/// Range of the variants of an enum, or of the versions of a record, from its decoder's error; `None` for other types.
fn range_of<T: Decode<()>>(name: &str) -> Option<(u32, u32)> {
    let why = bincode::decode_from_slice::<T, _>(&[NO_VARIANT; 64], CONFIG).err()?;
    match why {
        DecodeError::UnexpectedVariant { type_name, allowed: AllowedEnumVariants::Range { min, max }, .. }
            if type_name == name =>
        {
            Some((*min, *max))
        }
        _ => None,
    }
}

/// Makes the bytes of a value that the decoder of `T` accepts; they begin with the number `first`, if given.
fn make<T: Decode<()>>(first: Option<u32>) -> Result<Vec<u8>, String> {
    let mut chosen = BTreeMap::new();
    if let Some(first) = first {
        chosen.insert(0, small(first)?);
    }
    make_on::<T>(&mut chosen).map(|(bytes, _)| bytes)
}

/// Makes the bytes of a value with these fixed answers, and adds the answers that a nested enum requires.
/// Returns also how many numbers the decoder asked for.
fn make_on<T: Decode<()>>(chosen: &mut BTreeMap<usize, u8>) -> Result<(Vec<u8>, usize), String> {
    let mut last = String::new();
    for _ in 0..TRIES_MAX {
        let mut feed = Feed::new(chosen);
        match bincode::decode_from_reader::<T, _, _>(&mut feed, CONFIG) {
            Ok(_) => return Ok((feed.bytes, feed.asked)),
            Err(DecodeError::UnexpectedVariant { allowed: AllowedEnumVariants::Range { min, max }, found, .. }) => {
                // A nested enum has fewer variants than the number it was fed: the next attempt feeds a variant that
                // exists.
                let place = feed.asked - 1;
                let variant = min + found % (max - min + 1);
                last = format!("{found} at {place}");
                chosen.insert(place, u8::try_from(variant).map_err(|why| why.to_string())?);
            }
            Err(why) => return Err(why.to_string()),
        }
    }
    Err(last)
}

/// A variant of an enum, or a version of a record, that a type can contain, and the bytes of a value that contains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nested {
    /// Name of the enum or record, without modules.
    pub name: String,
    /// Number of the variant, counted from 0, or of the version, counted from 1.
    pub number: u32,
    /// Lowest number that the enum or record has: 0 for an enum, 1 for a record.
    pub first: u32,
    /// Bytes of a value that contains it, as its decoder reads them.
    pub bytes: Vec<u8>,
}

/// The variants of the enum `T`, or the versions of the record `T`, by number; none for other types.
pub fn numbers<T: Decode<()>>() -> impl Iterator<Item = u32> {
    range_of::<T>(&name_of::<T>()).into_iter().flat_map(|(first, last)| first..=last)
}

/// Finds a variant of the enum `T` and every variant and version inside it, by asking the decoder: so a new one is found
/// without being listed anywhere. Each comes with a value that contains it.
///
/// # Errors
///
/// Names a variant or version of which no value could be made.
pub fn nested<T: Decode<()>>(variant: u32) -> Result<Vec<Nested>, String> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    // Fixed answers that lead to a variant or version, the place of the last answer, and where they lead.
    let mut ways = vec![(BTreeMap::from([(0, small(variant)?)]), 0, (name_of::<T>(), variant, 0))];
    while let Some((mut chosen, place, (name, number, first))) = ways.pop() {
        let (bytes, asked) = make_on::<T>(&mut chosen).map_err(|why| format!("{name} {number}: {why}"))?;
        found.push(Nested { name, number, first, bytes });
        for place in place + 1..asked {
            let mut way: BTreeMap<usize, u8> = chosen.range(..place).map(|(place, number)| (*place, *number)).collect();
            let Some((name, first, last)) = choice_at::<T>(&mut way, place) else { continue };
            for number in first..=last {
                if seen.insert((name.clone(), number)) {
                    way.insert(place, small(number)?);
                    ways.push((way.clone(), place, (name.clone(), number, first)));
                }
            }
        }
    }
    found.sort_by(|a, b| (&a.name, a.number).cmp(&(&b.name, b.number)));
    Ok(found)
}

/// The enum or record whose variant or version the decoder of `T` reads at this place, with its range of numbers.
fn choice_at<T: Decode<()>>(way: &mut BTreeMap<usize, u8>, place: usize) -> Option<(String, u32, u32)> {
    way.insert(place, NO_VARIANT);
    // What follows does not matter. If the number was the length of a list, much would follow.
    let mut feed = Feed { asked_max: place + 1, ..Feed::new(way) };
    match bincode::decode_from_reader::<T, _, _>(&mut feed, CONFIG).err()? {
        DecodeError::UnexpectedVariant { type_name, allowed: AllowedEnumVariants::Range { min, max }, found }
            if found == NO_VARIANT.into() && feed.asked == place + 1 && !type_name.contains("Option<") =>
        {
            Some((without_modules(type_name), *min, *max))
        }
        _ => None,
    }
}

fn small(number: u32) -> Result<u8, String> {
    u8::try_from(number).map_err(|why| why.to_string())
}

/// A reader that feeds a decoder whatever it asks for. bincode peeks for a number or a byte (a length or a variant
/// among them), and reads for the bytes of a string.
struct Feed<'a> {
    /// Fixed answers, by the count of numbers requested before.
    chosen: &'a BTreeMap<usize, u8>,
    bytes: Vec<u8>,
    asked: usize,
    /// Count of numbers after which the feed ends.
    asked_max: usize,
    peeked: [u8; 32],
}

impl<'a> Feed<'a> {
    const fn new(chosen: &'a BTreeMap<usize, u8>) -> Self {
        Self { chosen, bytes: Vec::new(), asked: 0, asked_max: usize::MAX, peeked: [0; 32] }
    }
}

impl Reader for Feed<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), DecodeError> {
        if self.asked >= self.asked_max {
            return Err(DecodeError::UnexpectedEnd { additional: bytes.len() });
        }
        // A string such as `/bc`, which is a valid path as well.
        bytes.iter_mut().zip((b'a'..=b'z').cycle()).for_each(|(byte, letter)| *byte = letter);
        if let Some(first) = bytes.first_mut() {
            *first = b'/';
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn peek_read(&mut self, wanted: usize) -> Option<&[u8]> {
        if self.asked >= self.asked_max {
            return None;
        }
        let number = match wanted {
            // A byte: a bool, or whether an `Option` has a value.
            1 => 1,
            // 2, 3, 4, 2, …: short lists, and each number differs from the one before it.
            _ => 2 + u8::try_from(self.asked % 3).expect("small"),
        };
        self.peeked[0] = self.chosen.get(&self.asked).copied().unwrap_or(number);
        self.peeked.get(..wanted)
    }

    fn consume(&mut self, _: usize) {
        self.bytes.push(self.peeked[0]);
        self.asked += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;

    #[derive(Debug, Encode, Decode)]
    enum Shape {
        Dot,
        Line(String, Option<u64>),
        Many { inner: Vec<Kind>, flag: bool },
    }

    #[derive(Debug, Encode, Decode)]
    enum Kind {
        Only,
    }

    #[derive(Debug)]
    struct Entry {
        name: String,
        count: u32,
    }
    record!(Entry { 1: name; 2: count = 0 });

    fn walk(folder: &std::path::Path, refresh: bool, types: impl FnOnce(&mut Walk)) -> Result<(), String> {
        let mut walk = Walk::open(folder.to_str().expect("text"), "of");
        walk.refresh = refresh;
        types(&mut walk);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| walk.done()))
            .map_err(|why| why.downcast_ref::<String>().cloned().unwrap_or_default())
    }

    #[test]
    fn a_type_of_other_types_is_walked_by_its_name_without_modules() {
        #[derive(Debug, Encode, Decode)]
        struct Of<T>(T);
        let folder = tempfile::tempdir().expect("a folder");
        let both = |walk: &mut Walk| {
            walk.walk::<Of<Kind>>().walk::<Of<Entry>>();
        };
        walk(folder.path(), true, both).expect("written");
        let text = std::fs::read_to_string(folder.path().join("golden/of.txt")).expect("there");
        let names: Vec<&str> = text.lines().filter_map(|line| line.split(" | ").next()).collect();
        assert_eq!(names, ["Of<Kind>", "Of<Entry>"]);
        walk(folder.path(), false, both).expect("it holds");
    }

    fn all(walk: &mut Walk) {
        walk.walk::<Shape>().walk::<Kind>().walk::<Entry>();
    }

    #[test]
    fn every_variant_and_every_version_gets_a_line_and_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        walk(folder.path(), true, all).expect("written");
        let text = std::fs::read_to_string(folder.path().join("golden/of.txt")).expect("there");
        let names: Vec<&str> = text.lines().filter_map(|line| line.split(" | ").next()).collect();
        assert_eq!(names, ["Shape::Dot", "Shape::Line", "Shape::Many", "Kind::Only", "Entry@1", "Entry@2"]);
        assert!(text.contains("Entry@2 | 02032f626304 | Entry { name: \"/bc\", count: 4 }"), "{text}");
        walk(folder.path(), false, all).expect("it holds");
    }

    #[test]
    fn every_variant_and_version_inside_a_variant_is_found_with_a_value_that_has_it() {
        #[derive(Debug, Encode, Decode)]
        enum Outer {
            Nothing,
            Some { before: Vec<u64>, shape: Option<Shape>, entry: Entry },
        }
        let named = |variant| {
            let found = nested::<Outer>(variant).expect("every value can be made");
            let reads = |it: &Nested| read(&decode::<Outer>(&it.bytes).expect("it was read before"));
            found.iter().map(|it| (format!("{}:{}", it.name, it.number), reads(it))).collect::<Vec<_>>()
        };
        assert_eq!(numbers::<Outer>().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(named(0), [("Outer:0".to_owned(), "Nothing".to_owned())]);
        let found = named(1);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["Entry:1", "Entry:2", "Kind:0", "Outer:1", "Shape:0", "Shape:1", "Shape:2"]);
        for (at, has) in [(2, "Many { inner: [Only"), (4, "shape: Some(Dot)"), (5, "shape: Some(Line(")] {
            assert!(found[at].1.contains(has), "{}", found[at].1);
        }
    }

    #[test]
    fn a_variant_without_golden_bytes_fails() {
        let folder = tempfile::tempdir().expect("a folder");
        walk(folder.path(), true, all).expect("written");
        let path = folder.path().join("golden/of.txt");
        let text = std::fs::read_to_string(&path).expect("there");
        for gone in ["Shape::Many", "Entry@1", "Entry@2"] {
            let without: String =
                text.lines().filter(|line| !line.starts_with(gone)).map(|line| format!("{line}\n")).collect();
            std::fs::write(&path, without).expect("written");
            let fault = walk(folder.path(), false, all).expect_err("one has no line");
            assert!(fault.contains(&format!("{gone}: has no golden bytes yet")), "{fault}");
        }
    }

    #[test]
    fn bytes_that_moved_fail_also_when_lines_are_refreshed() {
        let folder = tempfile::tempdir().expect("a folder");
        walk(folder.path(), true, all).expect("written");
        let path = folder.path().join("golden/of.txt");
        let text = std::fs::read_to_string(&path).expect("there");
        std::fs::write(&path, text.replace("Kind::Only | 00", "Kind::Only | 01")).expect("written");
        for refresh in [false, true] {
            let fault = walk(folder.path(), refresh, all).expect_err("there is no variant 1");
            assert!(fault.contains("Kind::Only: cannot be read any more"), "{fault}");
        }
    }

    #[test]
    fn a_type_that_is_walked_no_more_fails() {
        let folder = tempfile::tempdir().expect("a folder");
        walk(folder.path(), true, all).expect("written");
        let fewer = |walk: &mut Walk| {
            walk.walk::<Shape>().walk::<Kind>();
        };
        let fault = walk(folder.path(), false, fewer).expect_err("one is gone");
        assert!(fault.contains("Entry@1: nobody walked it"), "{fault}");
    }
}
