//! From the text of a YAML file to trees: anchors, merge keys, tags.
//!
//! A file may hold several documents, which Compose merges in their order. Aliases are unfolded, so what follows knows
//! no anchors. [`NODES_MAX`] bounds what they unfold to.

use std::collections::BTreeMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use crate::fault::{Fault, FaultKind, Outcome, Place};
use crate::tree::{Entry, Map, Mark, Node, Scalar, Value};

/// Nodes of one file at most, aliases unfolded. Large files that people write have some thousands; a short file of nested
/// aliases can unfold to billions.
const NODES_MAX: usize = 200_000;

/// Depth of nesting at most, so that walks over the tree cannot exhaust the stack. The specification needs 9.
const DEPTH_MAX: usize = 64;

/// The documents of a file.
pub(crate) fn parse(file: &str, text: &str) -> Outcome<Vec<Node>> {
    let file: Arc<str> = file.into();
    let mut reader = Reader { parser: Parser::new_from_str(text), file, anchors: BTreeMap::new(), nodes: 0 };
    let mut documents = Vec::new();
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::DocumentStart(..) => {
                reader.anchors.clear();
            }
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => (),
            event => documents.push(reader.node(event, span, 0)?),
        }
    }
    Ok(documents)
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    file: Arc<str>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Outcome<Option<(Event<'a>, Span)>> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok(found)) => Ok(Some(found)),
            Some(Err(error)) => Err(self.broken(&error)),
        }
    }

    fn broken(&self, error: &ScanError) -> Box<Fault> {
        let place = Place { file: self.file.clone(), line: error.marker().line() };
        let cause = format!("this is no YAML: {} (column {})", error.info(), error.marker().col() + 1);
        Fault::new(
            FaultKind::Yaml,
            &place,
            "",
            cause,
            "look at the indentation, the quotes and the colons of this line and the one above",
        )
    }

    fn place(&self, span: &Span) -> Place {
        Place { file: self.file.clone(), line: span.start.line() }
    }

    fn count(&mut self, place: &Place, more: usize) -> Outcome<()> {
        self.nodes += more;
        if self.nodes > NODES_MAX {
            let cause = format!("the file unfolds to more than {NODES_MAX} values");
            return Err(Fault::new(
                FaultKind::Limit,
                place,
                "",
                cause,
                "split the file, or take out aliases of aliases",
            ));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Outcome<Node> {
        let place = self.place(&span);
        self.count(&place, 1)?;
        if depth > DEPTH_MAX {
            let cause = format!("values are nested more than {DEPTH_MAX} deep");
            return Err(Fault::new(
                FaultKind::Limit,
                &place,
                "",
                cause,
                "no key of a compose file needs that: take levels out",
            ));
        }
        let (anchor, mark, value) = match event {
            Event::Alias(id) => {
                let mut node = self.anchors.get(&id).cloned().ok_or_else(|| {
                    Fault::new(
                        FaultKind::Yaml,
                        &place,
                        "",
                        "this alias stands inside of its own anchor",
                        "move the anchor (&name) to a value that does not contain the alias",
                    )
                })?;
                self.count(&place, size(&node))?;
                node.mark = None;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let mark = self.mark(tag.as_deref(), &place)?;
                let forced = tag.as_deref().is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                let plain = style == ScalarStyle::Plain && !forced;
                let value = match text.as_ref() {
                    "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
                    text if plain => Value::Scalar(Scalar::plain(text)),
                    text => Value::Scalar(Scalar::text(text)),
                };
                (anchor, mark, value)
            }
            Event::SequenceStart(_, anchor, tag) => {
                let mark = self.mark(tag.as_deref(), &place)?;
                let mut items = Vec::new();
                while let Some((event, span)) = self.next()? {
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    items.push(self.node(event, span, depth + 1)?);
                }
                (anchor, mark, Value::List(items))
            }
            Event::MappingStart(_, anchor, tag) => {
                let mark = self.mark(tag.as_deref(), &place)?;
                (anchor, mark, Value::Map(self.map(depth)?))
            }
            _ => (0, None, Value::Null),
        };
        let node = Node { place, mark, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn map(&mut self, depth: usize) -> Outcome<Map> {
        let mut map = Map::default();
        let mut merged = Vec::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let plain = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = self.node(event, span, depth + 1)?;
            let place = key.place.clone();
            let Value::Scalar(Scalar { text: name, .. }) = key.value else {
                let cause = format!("{} cannot be a key", key.form());
                return Err(Fault::new(FaultKind::Yaml, &place, "", cause, "write a word before the colon"));
            };
            let Some((event, span)) = self.next()? else { break };
            let node = self.node(event, span, depth + 1)?;
            if plain {
                merged.push(node);
                continue;
            }
            if let Some(first) = map.entry(&name) {
                let cause = format!("the key {name:?} stands here twice, first in line {}", first.place.line);
                return Err(Fault::new(FaultKind::Yaml, &place, "", cause, "take one of the two out, or merge them"));
            }
            map.0.push(Entry { key: name, place, node });
        }
        for node in merged {
            merge(&mut map, node)?;
        }
        Ok(map)
    }

    fn mark(&self, tag: Option<&Tag>, place: &Place) -> Outcome<Option<Mark>> {
        let Some(tag) = tag else { return Ok(None) };
        match (tag.handle(), tag.suffix()) {
            ("!", "reset") => Ok(Some(Mark::Reset)),
            ("!", "override") => Ok(Some(Mark::Override)),
            _ if tag.is_yaml_core_schema() || tag.suffix().is_empty() => Ok(None),
            _ => {
                let cause = format!("the tag {} means nothing in a compose file", tag.original());
                Err(Fault::new(
                    FaultKind::Yaml,
                    place,
                    "",
                    cause,
                    "Compose knows !reset and !override; take the tag out",
                ))
            }
        }
    }
}

/// Merges the value of `<<` into a mapping, whose own keys win. Of a list, the first mapping wins.
fn merge(map: &mut Map, node: Node) -> Outcome<()> {
    match node.value {
        Value::Map(more) => {
            for entry in more.0 {
                if map.get(&entry.key).is_none() {
                    map.0.push(entry);
                }
            }
            Ok(())
        }
        Value::List(items) => items.into_iter().try_for_each(|item| merge(map, item)),
        _ => {
            let cause = format!("<< merges mappings, and this is {}", node.form());
            Err(Fault::new(FaultKind::Yaml, &node.place, "", cause, "name a mapping by its anchor: `<<: *name`"))
        }
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Null | Value::Scalar(_) => 1,
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(map) => 1 + map.iter().map(|(_, node)| size(node)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        parse("f.yml", text).expect("YAML").pop().expect("a document")
    }

    #[test]
    fn own_keys_win_over_merged_ones_and_the_first_of_a_list_over_the_second() {
        let tree = one("a: &a {x: 1, y: 1}\nb: &b {x: 2, z: 2}\nc:\n  <<: [*a, *b]\n  y: 3\n");
        let c = tree.get("c").expect("c");
        let shown: Vec<_> =
            ["x", "y", "z"].map(|key| c.get(key).and_then(Node::as_text)).into_iter().flatten().collect();
        assert_eq!(shown, ["1", "3", "2"]);
        assert_eq!(c.get("y").expect("y").place.line, 5);
        assert_eq!(c.get("x").expect("x").place.line, 1);
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..9 {
            let alias = format!("*a{}, ", n - 1).repeat(10);
            text.push_str(&format!("a{n}: &a{n} [{alias}]\n"));
        }
        assert_eq!(parse("f.yml", &text).expect_err("too large").kind, FaultKind::Limit);
    }

    #[test]
    fn tags_of_compose_are_kept_and_others_refused() {
        let tree = one("a: !reset null\nb: !override [x]\nc: !!str 5\n");
        assert_eq!(tree.as_map().and_then(|map| map.get("a")).and_then(|node| node.mark), Some(Mark::Reset));
        assert_eq!(tree.get("b").and_then(|node| node.mark), Some(Mark::Override));
        assert_eq!(tree.get("c").expect("c").form(), "a text");
        let fault = parse("f.yml", "a: !vault x\n").expect_err("refused");
        assert_eq!(fault.what(), "f.yml:1: the tag !vault means nothing in a compose file");
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error_at_the_second() {
        let fault = parse("f.yml", "a: 1\nb: 2\na: 3\n").expect_err("refused");
        assert_eq!(fault.what(), "f.yml:3: the key \"a\" stands here twice, first in line 1");
    }

    #[test]
    fn several_documents_are_several_trees() {
        assert_eq!(parse("f.yml", "a: 1\n---\nb: 2\n").expect("YAML").len(), 2);
    }
}
