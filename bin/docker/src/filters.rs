//! Filters of lists, as `--filter` sends them.
//!
//! They arrive as JSON in the query, in one of two shapes: Go's map of sets (`{"name":{"x":true}}`) or the lists of
//! Python and JavaScript clients (`{"name":["x"]}`). The values in a set are its keys, whether `true` or `false` stands
//! beside them, as Docker's lists of nodes, services and tasks read them. Different keys must all match. Of several values of one key one
//! must match, except that labels must all match. Names and ids match by their beginning, as in Swarm.

use crate::Labels;
use essaim_model::Refusal;
use std::collections::{BTreeMap, BTreeSet};

/// The filters of one request, by key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

/// The text in the query is not a set of filters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid filters {text:?}: expected JSON such as {{\"name\":{{\"web\":true}}}} or {{\"name\":[\"web\"]}}")]
pub struct InvalidFilters {
    text: String,
}

impl From<InvalidFilters> for Refusal {
    fn from(invalid: InvalidFilters) -> Self {
        Self::invalid(invalid.to_string())
    }
}

impl Filters {
    /// Parses both shapes; an empty text means no filters.
    pub fn parse(text: &str) -> Result<Self, InvalidFilters> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Values {
            Set(BTreeMap<String, bool>),
            List(Vec<String>),
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        let invalid = |_| InvalidFilters { text: text.chars().take(200).collect() };
        let parsed: BTreeMap<String, Values> = serde_json::from_str(text).map_err(invalid)?;
        let values = |values| match values {
            Values::Set(set) => set.into_keys().collect(),
            Values::List(list) => list.into_iter().collect(),
        };
        Ok(Self(parsed.into_iter().map(|(key, given)| (key, values(given))).collect()))
    }

    /// These filters with one more value of a key.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.0.entry(key.into()).or_default().insert(value.into());
        self
    }

    /// Refuses, in Docker's words, a filter whose key is not among `known`.
    pub fn expect(&self, known: &[&str]) -> Result<(), Refusal> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(Refusal::invalid(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    /// The values of a key.
    pub fn get(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Whether there is a filter with this key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).next().is_some()
    }

    /// Whether there are no filters.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(BTreeSet::is_empty)
    }

    /// Whether `actual` is one of the values of `key`, or there is no filter with that key.
    pub(crate) fn equals(&self, key: &str, actual: &str) -> bool {
        !self.has(key) || self.get(key).any(|value| value == actual)
    }

    /// Whether `actual` begins with one of the values of `key`, or there is no filter with that key.
    pub(crate) fn begins(&self, key: &str, actual: &str) -> bool {
        !self.has(key) || self.get(key).any(|value| actual.starts_with(value))
    }

    /// Whether the labels have every `name` and `name=value` that the filters of `key` ask for.
    pub fn labels(&self, key: &str, labels: &Labels) -> bool {
        self.get(key).all(|wanted| match wanted.split_once('=') {
            Some((name, "")) => labels.contains_key(name),
            Some((name, value)) => labels.get(name).is_some_and(|actual| actual == value),
            None => labels.contains_key(wanted),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_of_filters_mean_the_same() {
        let go = Filters::parse(r#"{"name":{"a":true,"b":false},"label":{"x=1":true}}"#);
        let python = Filters::parse(r#"{"name":["b","a"],"label":["x=1"]}"#);
        assert_eq!(go, python);
        assert_eq!(Filters::parse(""), Ok(Filters::default()));
        assert!(Filters::parse("nonsense").is_err());
    }

    #[test]
    fn an_unknown_key_is_refused_in_dockers_words() {
        let refused = Filters::default().with("color", "red").expect(&["id", "name"]).expect_err("no such key");
        assert_eq!(refused.text, "invalid filter 'color'");
    }

    #[test]
    fn values_of_a_key_are_alternatives_and_labels_are_not() {
        let labels = Labels::from([("a".into(), "1".into()), ("b".into(), "2".into())]);
        let names = Filters::default().with("name", "we").with("name", "db");
        assert!(names.begins("name", "web") && names.begins("name", "db") && !names.begins("name", "w"));
        assert!(Filters::default().with("label", "a").with("label", "b=2").labels("label", &labels));
        assert!(!Filters::default().with("label", "a").with("label", "b=3").labels("label", &labels));
        assert!(Filters::default().labels("label", &labels));
    }
}
