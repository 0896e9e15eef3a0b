//! Generic resources: things of kinds that operators made up (`gpu`, `licence`), which nodes have and tasks reserve.
//!
//! A node has either a number of a kind (`gpu=3`, *counted*) or a set of things with names (`gpu=UUID1,gpu=UUID2`,
//! *named*). A service always asks for a number. The scheduler then gives the task that number of a counted kind, or as
//! many names of a named kind, and writes what it gave into the task. Nothing else happens: the engine only passes it
//! on to the task's program, as the variable `DOCKER_RESOURCE_GPU`.

use crate::Refusal;
use bincode::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

/// Kinds of generic resources that one node may have.
const KINDS_MAX: usize = 64;

/// Things with names that one node may have of all kinds together. A node with more of them counts instead.
const NAMED_MAX: usize = 512;

/// Bytes of a kind or of a name at most.
const WORD_MAX: usize = 128;

/// The generic resources of a node, or those that were given to a task, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct GenericStock(BTreeMap<String, Stock>);

/// What there is of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Stock {
    /// A number of things that are all alike. Docker calls this a discrete resource.
    Counted(u64),
    /// Things with names.
    Named(BTreeSet<String>),
}

impl Stock {
    /// Number of things.
    pub fn count(&self) -> u64 {
        match self {
            Self::Counted(count) => *count,
            Self::Named(names) => names.len() as u64,
        }
    }
}

impl GenericStock {
    /// Parses terms like `apple=3`, or `orange=red` and `orange=green`, which are two things of a named kind. A term
    /// may itself be a list with commas, as in a flag.
    pub fn parse<'a>(terms: impl IntoIterator<Item = &'a str>) -> Result<Self, Refusal> {
        let refused = |why: String| Refusal::invalid(format!("could not parse GenericResource: {why}"));
        let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for term in terms.into_iter().flat_map(|term| term.split(',')) {
            match term.split_once('=').map(|(kind, value)| (kind.trim(), value.trim())) {
                Some((kind, value)) if !kind.is_empty() && !value.is_empty() && !value.contains('=') => {
                    values.entry(kind).or_default().push(value);
                }
                _ => return Err(refused(format!("incorrect term {term}, missing '=' or malformed expression"))),
            }
        }
        let mut stock = Self::default();
        for (kind, values) in values {
            let counts: Vec<i64> = values.iter().filter_map(|value| value.parse().ok()).collect();
            let had = match (counts.as_slice(), values.len()) {
                ([count], 1) => match u64::try_from(*count) {
                    Ok(count) => Stock::Counted(count),
                    Err(_) => return Err(refused(format!("cannot ask for negative resource {kind}"))),
                },
                ([], many) => {
                    let names: BTreeSet<String> = values.iter().map(|name| (*name).to_owned()).collect();
                    if names.len() < many {
                        return Err(refused(format!("a name of {kind} comes twice")));
                    }
                    Stock::Named(names)
                }
                _ => {
                    let values = values.join(",");
                    return Err(refused(format!("mixed discrete and named resources in expression '{kind}={values}'")));
                }
            };
            stock.0.insert(kind.into(), had);
        }
        stock.check()?;
        Ok(stock)
    }

    /// Adds a number of things of a kind. A kind that has names keeps them.
    pub fn add_count(&mut self, kind: &str, count: u64) {
        match self.0.entry(kind.into()).or_insert(Stock::Counted(0)) {
            Stock::Counted(there) => *there = there.saturating_add(count),
            Stock::Named(_) => (),
        }
    }

    /// Adds a thing with a name; a kind that was counted has names from then on.
    pub fn add_name(&mut self, kind: &str, name: &str) {
        let stock = self.0.entry(kind.into()).or_insert_with(|| Stock::Named(BTreeSet::new()));
        if let Stock::Counted(_) = stock {
            *stock = Stock::Named(BTreeSet::new());
        }
        if let Stock::Named(names) = stock {
            names.insert(name.into());
        }
    }

    /// Adds the kinds of `others` that are not here yet.
    pub fn merge(&mut self, others: Self) {
        for (kind, stock) in others.0 {
            self.0.entry(kind).or_insert(stock);
        }
    }

    /// Refuses more than a real machine has, because the description of each node is part of every snapshot.
    pub fn check(&self) -> Result<(), Refusal> {
        let names = self.0.values().filter_map(|stock| match stock {
            Stock::Counted(_) => None,
            Stock::Named(names) => Some(names),
        });
        let words = self.0.keys().chain(names.clone().flatten());
        let longest = words.map(String::len).max().unwrap_or_default();
        let named: usize = names.map(BTreeSet::len).sum();
        for (what, is, most) in
            [("kinds", self.0.len(), KINDS_MAX), ("names", named, NAMED_MAX), ("bytes in a word", longest, WORD_MAX)]
        {
            if is > most {
                let text = format!("the generic resources of a node have at most {most} {what}, not {is}");
                return Err(Refusal::invalid(text));
            }
        }
        Ok(())
    }

    /// The environment variables by which the program of a task learns what was given to it: `DOCKER_RESOURCE_GPU` with
    /// the number or the names.
    pub fn variables(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.0.iter().map(|(kind, stock)| {
            let value = match stock {
                Stock::Counted(count) => count.to_string(),
                Stock::Named(names) => names.iter().map(String::as_str).collect::<Vec<_>>().join(","),
            };
            (format!("DOCKER_RESOURCE_{}", kind.to_uppercase()), value)
        })
    }
}

impl FromIterator<(String, Stock)> for GenericStock {
    fn from_iter<I: IntoIterator<Item = (String, Stock)>>(stocks: I) -> Self {
        Self(stocks.into_iter().collect())
    }
}

impl Deref for GenericStock {
    type Target = BTreeMap<String, Stock>;

    fn deref(&self) -> &BTreeMap<String, Stock> {
        &self.0
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("generic": GenericStock, Stock);

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(term: &str) -> Result<GenericStock, String> {
        GenericStock::parse([term]).map_err(|refusal| refusal.text)
    }

    fn named(names: &[&str]) -> Stock {
        Stock::Named(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_kind_is_counted_or_has_names() {
        assert_eq!(parse("apple=3").unwrap()["apple"], Stock::Counted(3));
        assert_eq!(parse("orange=red, orange=green,orange=blue").unwrap()["orange"], named(&["blue", "green", "red"]));
        let both = GenericStock::parse(["apple=3", "orange=red,orange=green", "pear=0"]).unwrap();
        assert_eq!(
            both.iter().map(|(kind, stock)| (kind.as_str(), stock.count())).collect::<Vec<_>>(),
            [("apple", 3), ("orange", 2), ("pear", 0)]
        );
    }

    #[test]
    fn what_is_no_generic_resource_is_refused_by_its_fault() {
        let text = |what: &str| Err(format!("could not parse GenericResource: {what}"));
        for term in ["", "apple", "=3", "apple=", "apple=3=4"] {
            assert_eq!(parse(term), text(&format!("incorrect term {term}, missing '=' or malformed expression")));
        }
        assert_eq!(parse("apple=-3"), text("cannot ask for negative resource apple"));
        assert_eq!(parse("a=1,a=2"), text("mixed discrete and named resources in expression 'a=1,2'"));
        assert_eq!(parse("a=red,a=2"), text("mixed discrete and named resources in expression 'a=red,2'"));
        assert_eq!(parse("a=red,a=red"), text("a name of a comes twice"));
        let many = (0..=NAMED_MAX).map(|number| format!("a=n{number}")).collect::<Vec<_>>().join(",");
        assert!(parse(&many).is_err());
    }

    #[test]
    fn a_program_learns_what_it_was_given() {
        let given = parse("gpu=UUID2,gpu=UUID1,ssd=3").unwrap();
        let variables: Vec<_> = given.variables().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(variables, ["DOCKER_RESOURCE_GPU=UUID1,UUID2", "DOCKER_RESOURCE_SSD=3"]);
    }
}
