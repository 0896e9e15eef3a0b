//! From the many forms in which a file may say a thing to one: the long form, with paths joined to the file's folder.
//!
//! Each file is brought to this form before it is merged with others, so that the merge knows one form of everything and a
//! short form overrides a long one.

mod ports;
mod volumes;

use crate::check::under;
use crate::fault::{Fault, FaultKind, Outcome, Place};
use crate::source::{Source, join};
use crate::tree::{Map, Mark, Node, Value};
use crate::values;

/// Brings a document to the long form. `folder` is what its relative paths begin at.
pub(crate) fn document(document: &mut Node, folder: &str, source: &dyn Source) -> Outcome<()> {
    let canon = Canon { folder, source };
    for section in ["secrets", "configs"] {
        each(document, section, &mut |node, path| {
            external(node, path)?;
            pairs_at(node, "labels", path)?;
            pairs_at(node, "driver_opts", path)?;
            canon.path_at(node, "file", path)
        })?;
    }
    for section in ["networks", "volumes"] {
        each(document, section, &mut |node, path| {
            external(node, path)?;
            pairs_at(node, "labels", path)?;
            pairs_at(node, "driver_opts", path)
        })?;
    }
    each(document, "networks", &mut |node, path| {
        let Some(ipam) = child(node, "ipam") else { return Ok(()) };
        pairs_at(ipam, "options", &under(path, "ipam.options"))?;
        items(ipam, "config", |item| pairs_at(item, "aux_addresses", path))
    })?;
    each(document, "services", &mut |node, path| canon.service(node, path))
}

struct Canon<'a> {
    folder: &'a str,
    source: &'a dyn Source,
}

/// A step for each named object of a section. A name without settings gets an empty mapping.
fn each(document: &mut Node, section: &str, step: &mut dyn FnMut(&mut Node, &str) -> Outcome<()>) -> Outcome<()> {
    let Some(map) = document.as_map_mut().and_then(|map| map.get_mut(section)).and_then(Node::as_map_mut) else {
        return Ok(());
    };
    map.0.retain(|entry| !entry.key.starts_with("x-"));
    for entry in &mut map.0 {
        if entry.node.mark != Some(Mark::Reset) {
            step(&mut entry.node, &format!("{section}.{}", entry.key))?;
        }
    }
    Ok(())
}

/// The value of a key, when it is there, not null and not reset.
fn child<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    let child = node.as_map_mut()?.get_mut(key)?;
    (!child.is_null() && child.mark != Some(Mark::Reset)).then_some(child)
}

fn items(node: &mut Node, key: &str, mut step: impl FnMut(&mut Node) -> Outcome<()>) -> Outcome<()> {
    match child(node, key).map(|node| &mut node.value) {
        Some(Value::List(items)) => items.iter_mut().try_for_each(&mut step),
        _ => Ok(()),
    }
}

/// Replaces the value of a key by what `change` makes of it.
fn change(node: &mut Node, key: &str, change: impl FnOnce(&Node) -> Outcome<Value>) -> Outcome<()> {
    if let Some(child) = child(node, key) {
        child.value = change(child)?;
    }
    Ok(())
}

/// A mapping or list of names and values becomes a mapping; a name alone has no value.
fn pairs_at(node: &mut Node, key: &str, path: &str) -> Outcome<()> {
    change(node, key, |node| pairs(node, &under(path, key)))
}

fn pairs(node: &Node, path: &str) -> Outcome<Value> {
    let mut map = Map::default();
    match &node.value {
        Value::Map(held) => {
            for entry in &held.0 {
                let value = match entry.node.as_text() {
                    Some(text) => Node { mark: entry.node.mark, ..Node::text(&entry.node.place, text) },
                    None => entry.node.clone(),
                };
                map.0.push(crate::tree::Entry { key: entry.key.clone(), place: entry.place.clone(), node: value });
            }
        }
        _ => {
            for (item, text) in list(node).iter().zip(values::texts(node, path)?) {
                let (name, value) = match text.split_once('=') {
                    Some((name, value)) => (name, Node::text(&item.place, value)),
                    None => (text.as_str(), Node::new(&item.place, Value::Null)),
                };
                map.set(name.trim(), value);
            }
        }
    }
    Ok(Value::Map(map))
}

fn list(node: &Node) -> &[Node] {
    node.as_list().unwrap_or(std::slice::from_ref(node))
}

/// One text becomes a list of one.
fn texts_at(node: &mut Node, key: &str, path: &str) -> Outcome<()> {
    change(node, key, |node| {
        let texts = values::texts(node, &under(path, key))?;
        Ok(Value::List(list(node).iter().zip(texts).map(|(item, text)| Node::text(&item.place, text)).collect()))
    })
}

/// A line becomes the words that a shell would make of it.
fn words_at(node: &mut Node, key: &str, path: &str) -> Outcome<()> {
    change(node, key, |node| match node.as_text() {
        None => {
            let texts = values::texts(node, &under(path, key))?;
            Ok(Value::List(list(node).iter().zip(texts).map(|(item, text)| Node::text(&item.place, text)).collect()))
        }
        Some(line) => {
            let words = words(&line).ok_or_else(|| {
                values::wrong(
                    node,
                    &under(path, key),
                    "the quotes of this command are not closed",
                    "close them, or write the words as a list",
                )
            })?;
            Ok(Value::List(words.into_iter().map(|word| Node::text(&node.place, word)).collect()))
        }
    })
}

/// The words of a line: quotes and backslashes as a shell has them, and nothing else of a shell.
pub(crate) fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let held = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => held.push(c),
                    }
                }
            }
            '"' => {
                let held = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => match chars.next()? {
                            c @ ('"' | '\\' | '$' | '`') => held.push(c),
                            '\n' => (),
                            c => held.extend(['\\', c]),
                        },
                        c => held.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

/// `external: {name: x}` becomes `external: true` and `name: x`; no settings become an empty mapping.
fn external(node: &mut Node, path: &str) -> Outcome<()> {
    if node.is_null() {
        node.value = Value::Map(Map::default());
    }
    let Some(held) = child(node, "external") else { return Ok(()) };
    if held.as_map().is_none() {
        let flag = values::flag(held, &under(path, "external"))?;
        *held = Node::flag(&held.place, flag);
        return Ok(());
    }
    let name = held.get("name").cloned();
    let place = held.place.clone();
    *held = Node::flag(&place, true);
    if let (Some(name), Some(map)) = (name, node.as_map_mut()) {
        if let Some(other) = map.get("name")
            && other.as_text() != name.as_text()
        {
            let way_out = "keep `name`, and write `external: true`";
            return Err(Fault::new(FaultKind::Conflict, &place, path, "name and external.name differ", way_out));
        }
        map.set("name", name);
    }
    Ok(())
}

impl Canon<'_> {
    fn service(&self, node: &mut Node, path: &str) -> Outcome<()> {
        if node.is_null() {
            node.value = Value::Map(Map::default());
        }
        for key in ["environment", "labels", "annotations", "sysctls"] {
            pairs_at(node, key, path)?;
        }
        for key in ["command", "entrypoint"] {
            words_at(node, key, path)?;
        }
        for key in ["dns", "dns_search", "tmpfs", "label_file", "group_add", "expose"] {
            texts_at(node, key, path)?;
        }
        if let Some(healthcheck) = child(node, "healthcheck") {
            change(healthcheck, "test", |test| match test.as_text() {
                Some(line) => {
                    let words = ["CMD-SHELL".to_owned(), line];
                    Ok(Value::List(words.map(|word| Node::text(&test.place, word)).to_vec()))
                }
                None => Ok(test.value.clone()),
            })?;
        }
        if let Some(logging) = child(node, "logging") {
            pairs_at(logging, "options", &under(path, "logging"))?;
        }
        if let Some(deploy) = child(node, "deploy") {
            pairs_at(deploy, "labels", &under(path, "deploy"))?;
        }
        change(node, "extra_hosts", |node| hosts(node, &under(path, "extra_hosts")))?;
        change(node, "env_file", |node| self.env_files(node))?;
        items(node, "label_file", |item| {
            self.join(item);
            Ok(())
        })?;
        change(node, "depends_on", |node| Ok(depends_on(node)))?;
        change(node, "extends", |node| Ok(self.extends(node)))?;
        for key in ["networks", "models"] {
            change(node, key, |node| Ok(names(node)))?;
        }
        if let Some(Value::Map(networks)) = child(node, "networks").map(|node| &mut node.value) {
            for entry in &mut networks.0 {
                pairs_at(&mut entry.node, "driver_opts", path)?;
            }
        }
        for key in ["secrets", "configs"] {
            items(node, key, |item| {
                if let Some(name) = item.as_text() {
                    item.value = Node::of(&item.place, [("source", Some(Node::text(&item.place, name)))]).value;
                }
                Ok(())
            })?;
        }
        change(node, "ports", |node| ports::list(node, &under(path, "ports")))?;
        change(node, "volumes", |node| {
            volumes::list(node, &under(path, "volumes"), &|place, text| self.joined(place, text))
        })?;
        if let Some(build) = child(node, "build")
            && let Some(context) = build.as_text()
        {
            build.value = Node::of(&build.place, [("context", Some(Node::text(&build.place, context)))]).value;
        }
        Ok(())
    }

    fn joined(&self, place: &Place, path: &str) -> Node {
        Node::text(place, join(self.source, self.folder, path))
    }

    fn join(&self, node: &mut Node) {
        if let Some(path) = node.as_text() {
            node.value = self.joined(&node.place, &path).value;
        }
    }

    fn path_at(&self, node: &mut Node, key: &str, _path: &str) -> Outcome<()> {
        if let Some(held) = child(node, key) {
            self.join(held);
        }
        Ok(())
    }

    fn env_files(&self, node: &Node) -> Outcome<Value> {
        let mut files = Vec::new();
        for item in list(node) {
            let mut item = item.clone();
            if let Some(path) = item.as_text() {
                item = Node::of(&item.place, [("path", Some(Node::text(&item.place, path)))]);
            }
            self.path_at(&mut item, "path", "")?;
            files.push(item);
        }
        Ok(Value::List(files))
    }

    fn extends(&self, node: &Node) -> Value {
        let mut node = node.clone();
        if let Some(service) = node.as_text() {
            node = Node::of(&node.place, [("service", Some(Node::text(&node.place, service)))]);
        }
        if let Some(file) = child(&mut node, "file") {
            self.join(file);
        }
        node.value
    }
}

/// A list of names becomes a mapping of names without settings.
fn names(node: &Node) -> Value {
    let Some(items) = node.as_list() else { return node.value.clone() };
    let mut map = Map::default();
    for item in items {
        if let Some(name) = item.as_text() {
            map.set(&name, Node::new(&item.place, Value::Null));
        }
    }
    Value::Map(map)
}

fn depends_on(node: &Node) -> Value {
    let mut map = match names(node) {
        Value::Map(map) => map,
        other => return other,
    };
    for entry in &mut map.0 {
        let held = entry.node.as_map().cloned().unwrap_or_default();
        let mut made = Map::default();
        made.set(
            "condition",
            held.get("condition").cloned().unwrap_or_else(|| Node::text(&entry.place, "service_started")),
        );
        made.set("required", held.get("required").cloned().unwrap_or_else(|| Node::flag(&entry.place, true)));
        for key in ["restart"] {
            if let Some(node) = held.get(key) {
                made.set(key, node.clone());
            }
        }
        entry.node = Node::new(&entry.place, Value::Map(made));
    }
    Value::Map(map)
}

/// Hosts in all their forms become a list of `name=address`.
fn hosts(node: &Node, path: &str) -> Outcome<Value> {
    let mut hosts = Vec::new();
    let bare = |address: &str| address.trim().trim_start_matches('[').trim_end_matches(']').to_owned();
    match &node.value {
        Value::Map(map) => {
            for (name, addresses) in map.iter() {
                for address in values::texts(addresses, &under(path, name))? {
                    hosts.push(Node::text(&addresses.place, format!("{name}={}", bare(&address))));
                }
            }
        }
        _ => {
            for (item, text) in list(node).iter().zip(values::texts(node, path)?) {
                let Some((name, address)) = text.split_once('=').or_else(|| text.split_once(':')) else {
                    let cause = format!("{text:?} names a host without an address");
                    return Err(values::wrong(item, path, cause, "write it like \"name=10.0.0.9\""));
                };
                hosts.push(Node::text(&item.place, format!("{}={}", name.trim(), bare(address))));
            }
        }
    }
    Ok(Value::List(hosts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_into_the_words_of_a_shell() {
        for (line, expected) in [
            ("echo a  b", vec!["echo", "a", "b"]),
            ("echo \"a b\" 'c d'e", vec!["echo", "a b", "c de"]),
            ("sh -c 'echo \"$X\"'", vec!["sh", "-c", "echo \"$X\""]),
            (r#"a\ b "\"q\" \n" '\'"#, vec!["a b", "\"q\" \\n", "\\"]),
            ("''", vec![""]),
            ("  ", vec![]),
        ] {
            assert_eq!(words(line), Some(expected.into_iter().map(str::to_owned).collect()), "{line}");
        }
        assert_eq!((words("echo 'a"), words("echo \"a"), words("a\\")), (None, None, None));
    }
}
