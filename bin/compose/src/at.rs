//! A mapping of the tree with its path, for readers that want its keys as types.

use essaim_docker::Labels;

use crate::check::under;
use crate::fault::Outcome;
use crate::tree::{Map, Node};
use crate::values;

/// A node and its path.
#[derive(Clone)]
pub(crate) struct At<'a> {
    pub(crate) node: &'a Node,
    pub(crate) path: String,
}

impl<'a> At<'a> {
    pub(crate) fn new(node: &'a Node, path: impl Into<String>) -> Self {
        Self { node, path: path.into() }
    }

    /// The value of a key, when there is one.
    pub(crate) fn at(&self, key: &str) -> Option<Self> {
        Some(Self { node: self.node.get(key)?, path: under(&self.path, key) })
    }

    /// The keys and values of a mapping.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, Self)> + use<'a> {
        let path = self.path.clone();
        let map = self.node.as_map().map(Map::iter);
        map.into_iter().flatten().map(move |(key, node)| (key, Self { node, path: under(&path, key) }))
    }

    /// The items of the list at a key.
    pub(crate) fn items(&self, key: &str) -> Vec<Self> {
        let Some(list) = self.node.get(key).and_then(Node::as_list) else { return Vec::new() };
        let path = under(&self.path, key);
        list.iter().enumerate().map(|(at, node)| Self { node, path: format!("{path}[{at}]") }).collect()
    }

    fn read<T>(&self, key: &str, read: impl FnOnce(&Node, &str) -> Outcome<T>) -> Outcome<Option<T>> {
        self.at(key).map(|at| read(at.node, &at.path)).transpose()
    }

    pub(crate) fn text(&self, key: &str) -> Outcome<Option<String>> {
        self.read(key, values::text)
    }

    pub(crate) fn words(&self, key: &str, words: &[&str]) -> Outcome<Option<String>> {
        self.read(key, |node, path| values::word(node, path, words))
    }

    pub(crate) fn flag(&self, key: &str) -> Outcome<Option<bool>> {
        self.read(key, values::flag)
    }

    pub(crate) fn is(&self, key: &str) -> Outcome<bool> {
        Ok(self.flag(key)?.unwrap_or(false))
    }

    pub(crate) fn integer(&self, key: &str) -> Outcome<Option<i64>> {
        self.read(key, values::integer)
    }

    pub(crate) fn count(&self, key: &str) -> Outcome<Option<u64>> {
        self.read(key, values::count)
    }

    pub(crate) fn number(&self, key: &str) -> Outcome<Option<f64>> {
        self.read(key, values::number)
    }

    pub(crate) fn cpus(&self, key: &str) -> Outcome<Option<i64>> {
        self.read(key, values::cpus)
    }

    pub(crate) fn bytes(&self, key: &str) -> Outcome<Option<i64>> {
        self.read(key, values::bytes)
    }

    pub(crate) fn duration(&self, key: &str) -> Outcome<Option<i64>> {
        self.read(key, values::duration)
    }

    pub(crate) fn mode(&self, key: &str) -> Outcome<Option<u32>> {
        self.read(key, values::mode)
    }

    pub(crate) fn texts(&self, key: &str) -> Outcome<Vec<String>> {
        Ok(self.read(key, values::texts)?.unwrap_or_default())
    }

    /// Names with values; a name alone has an empty one.
    pub(crate) fn pairs(&self, key: &str) -> Outcome<Labels> {
        let Some(at) = self.at(key) else { return Ok(Labels::new()) };
        at.entries().map(|(key, at)| Ok((key.to_owned(), at.node.as_text().unwrap_or_default()))).collect()
    }
}
