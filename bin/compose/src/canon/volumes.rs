//! Volumes of a service: `[SOURCE:]TARGET[:OPTIONS]`, and the long form.

use crate::fault::{Outcome, Place};
use crate::tree::{Node, Value};
use crate::values::{self, wrong};

const FORM: &str = "write it like \"data:/var/lib/data\", \"./site:/www:ro\" or \"/cache\"";

/// The volumes of a service in the long form. `joined` makes a path of the machine whole.
pub(super) fn list(node: &Node, path: &str, joined: &dyn Fn(&Place, &str) -> Node) -> Outcome<Value> {
    let mut volumes = Vec::new();
    for (at, item) in node.as_list().unwrap_or_default().iter().enumerate() {
        let path = format!("{path}[{at}]");
        volumes.push(match item.as_map() {
            None => short(item, &values::text(item, &path)?, &path, joined)?,
            Some(_) => long(item, &path, joined)?,
        });
    }
    Ok(Value::List(volumes))
}

/// Whether a source is a path of the machine, and no name of a volume.
fn is_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~']) || drive(source)
}

/// `C:\…` and `C:/…`, whose colon divides nothing. A small letter before a slash is the name of a volume.
fn drive(text: &str) -> bool {
    match text.as_bytes() {
        [letter, b':', b'\\', ..] => letter.is_ascii_alphabetic(),
        [letter, b':', b'/', ..] => letter.is_ascii_uppercase(),
        _ => false,
    }
}

fn cut(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let from = if drive(rest) { 2 } else { 0 };
        match rest[from..].find(':') {
            Some(at) => {
                parts.push(&rest[..from + at]);
                rest = &rest[from + at + 1..];
            }
            None => {
                parts.push(rest);
                return parts;
            }
        }
    }
}

fn short(item: &Node, text: &str, path: &str, joined: &dyn Fn(&Place, &str) -> Node) -> Outcome<Node> {
    let place = &item.place;
    let parts = cut(text);
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => return Err(wrong(item, path, format!("{text:?} is no volume: it has too many colons"), FORM)),
    };
    if target.is_empty() || source == Some("") {
        return Err(wrong(item, path, format!("{text:?} is no volume: a part of it is empty"), FORM));
    }
    let bound = source.is_some_and(is_path);
    let (mut read_only, mut consistency, mut bind, mut volume) = (None, None, Node::map(place), Node::map(place));
    let put = |node: &mut Node, key: &str, value: Node| {
        if let Some(map) = node.as_map_mut() {
            map.set(key, value);
        }
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "rw" => (),
            "ro" => read_only = Some(Node::flag(place, true)),
            "cached" | "delegated" | "consistent" => consistency = Some(Node::text(place, option)),
            "nocopy" | "volume-nocopy" => put(&mut volume, "nocopy", Node::flag(place, true)),
            "z" | "Z" => put(&mut bind, "selinux", Node::text(place, option)),
            "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" => {
                put(&mut bind, "propagation", Node::text(place, option));
            }
            other => {
                let cause = format!("{other:?} is no option of a volume");
                return Err(wrong(
                    item,
                    path,
                    cause,
                    "the options are ro, rw, nocopy, z, Z, rshared, rslave, rprivate",
                ));
            }
        }
    }
    let some = |node: Node| node.as_map().is_some_and(|map| !map.is_empty()).then_some(node);
    let source = source.map(|source| if bound { joined(place, source) } else { Node::text(place, source) });
    let entries = [
        ("type", Some(Node::text(place, if bound { "bind" } else { "volume" }))),
        ("source", source),
        ("target", Some(Node::text(place, target))),
        ("read_only", read_only),
        ("consistency", consistency),
        ("bind", some(bind)),
        ("volume", some(volume)),
    ];
    Ok(Node::of(place, entries))
}

fn long(item: &Node, path: &str, joined: &dyn Fn(&Place, &str) -> Node) -> Outcome<Node> {
    let mut item = item.clone();
    let text = |key: &str| item.get(key).and_then(Node::as_text);
    let Some(kind) = text("type") else {
        return Err(wrong(&item, path, "the volume has no `type`", "write type: volume, bind, tmpfs or image"));
    };
    let source = text("source");
    if text("target").is_none() {
        return Err(wrong(&item, path, "the volume has no `target`", "name the path in the container in `target`"));
    }
    if let ("bind", Some(source), Some(map)) = (kind.as_str(), source, item.as_map_mut())
        && is_path(&source)
    {
        let place = map.get("source").map(|node| node.place.clone());
        let node = joined(&place.unwrap_or_else(|| Place::whole("")), &source);
        map.set("source", node);
    }
    Ok(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<String, String> {
        let place = Place { file: "f".into(), line: 7 };
        let node = Node::new(&place, Value::List(vec![Node::text(&place, text)]));
        let joined = |place: &Place, path: &str| Node::text(place, format!("<{path}>"));
        let Value::List(volumes) = list(&node, "v", &joined).map_err(|fault| fault.what())? else {
            return Ok(String::new());
        };
        Ok(crate::show::json(&volumes[0]).to_string())
    }

    #[test]
    fn every_short_form_has_its_long_form() {
        for (text, shown) in [
            ("data:/x", r#"{"type":"volume","source":"data","target":"/x"}"#),
            ("/x", r#"{"type":"volume","target":"/x"}"#),
            ("./a:/x:ro", r#"{"type":"bind","source":"<./a>","target":"/x","read_only":true}"#),
            ("data:/x:nocopy", r#"{"type":"volume","source":"data","target":"/x","volume":{"nocopy":true}}"#),
            (
                "/a:/x:z,rslave",
                r#"{"type":"bind","source":"</a>","target":"/x","bind":{"selinux":"z","propagation":"rslave"}}"#,
            ),
            (r"C:\a:D:\x", r#"{"type":"bind","source":"<C:\\a>","target":"D:\\x"}"#),
        ] {
            assert_eq!(of(text).as_deref(), Ok(shown), "{text}");
        }
        assert_eq!(of("a:/x:xx"), Err("f:7: v[0]: \"xx\" is no option of a volume".to_owned()));
        assert_eq!(of("a:b:c:d"), Err("f:7: v[0]: \"a:b:c:d\" is no volume: it has too many colons".to_owned()));
    }
}
