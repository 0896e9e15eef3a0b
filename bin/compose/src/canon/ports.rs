//! Ports: `[ADDRESS:][PUBLISHED:]TARGET[/PROTOCOL]`, ranges of them, and the long form.

use crate::fault::Outcome;
use crate::tree::{Map, Node, Value};
use crate::values::{self, wrong};

const FORM: &str = "write it like \"8080:80\", \"127.0.0.1:8080:80/udp\" or \"3000-3005:3000-3005\"";

/// The ports of a service in the long form, one for each number.
pub(super) fn list(node: &Node, path: &str) -> Outcome<Value> {
    let mut ports = Vec::new();
    for (at, item) in node.as_list().unwrap_or_default().iter().enumerate() {
        let path = format!("{path}[{at}]");
        match item.as_map() {
            Some(map) => long(item, map, &path, &mut ports)?,
            None => short(item, &values::text(item, &path)?, &path, &mut ports)?,
        }
    }
    Ok(Value::List(ports))
}

/// A port in the long form, its keys in Docker's order.
fn port(
    item: &Node,
    target: u16,
    published: Option<String>,
    protocol: &str,
    host: Option<&str>,
    rest: Option<&Map>,
) -> Node {
    let place = &item.place;
    let get = |key: &str| rest.and_then(|map| map.get(key)).filter(|node| !node.is_null()).cloned();
    let published = published.map(|number| match number.parse() {
        Ok(number) => Node::integer(place, number),
        Err(_) => Node::text(place, number),
    });
    let entries = [
        ("name", get("name")),
        ("mode", Some(get("mode").unwrap_or_else(|| Node::text(place, "ingress")))),
        ("host_ip", host.map(|host| Node::text(place, host))),
        ("target", Some(Node::integer(place, target.into()))),
        ("published", published),
        ("protocol", Some(Node::text(place, protocol))),
        ("app_protocol", get("app_protocol")),
    ];
    Node::of(place, entries)
}

fn short(item: &Node, text: &str, path: &str, ports: &mut Vec<Node>) -> Outcome<()> {
    let no = || wrong(item, path, format!("{text:?} is no port"), FORM);
    if text.contains('$') {
        // Variables are left in the text: it stays as it is.
        ports.push(item.clone());
        return Ok(());
    }
    let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        let cause = format!("{protocol:?} is no protocol of a port");
        return Err(wrong(item, path, cause, "write tcp, udp or sctp behind the slash"));
    }
    let (rest, target) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (host, published) = match rest.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']').ok_or_else(no)?;
            (Some(host), rest.strip_prefix(':').unwrap_or(""))
        }
        None => match rest.rsplit_once(':') {
            Some((host, published)) => (Some(host), published),
            None => (None, rest),
        },
    };
    let targets = range(target).ok_or_else(no)?;
    if published.is_empty() {
        for target in targets {
            ports.push(port(item, target, None, &protocol, host, None));
        }
        return Ok(());
    }
    let numbers = range(published).ok_or_else(no)?;
    for (published, target) in paired(item, path, text, &numbers, &targets)? {
        ports.push(port(item, target, Some(published.to_string()), &protocol, host, None));
    }
    Ok(())
}

/// Published ports and their targets: as many of each, or one target for all, as the docker CLI has it.
fn paired(item: &Node, path: &str, text: &str, published: &[u16], targets: &[u16]) -> Outcome<Vec<(u16, u16)>> {
    match targets {
        [target] => Ok(published.iter().map(|number| (*number, *target)).collect()),
        _ if targets.len() == published.len() => Ok(published.iter().copied().zip(targets.iter().copied()).collect()),
        _ => {
            let cause =
                format!("the two ranges of {text:?} differ in length: {} and {}", published.len(), targets.len());
            Err(wrong(item, path, cause, "give both as many ports"))
        }
    }
}

fn long(item: &Node, map: &Map, path: &str, ports: &mut Vec<Node>) -> Outcome<()> {
    let text = |key: &str| map.get(key).and_then(Node::as_text).filter(|text| !text.is_empty());
    if map.iter().any(|(_, node)| node.as_text().is_some_and(|text| text.contains('$'))) {
        ports.push(item.clone());
        return Ok(());
    }
    let target = text("target")
        .ok_or_else(|| wrong(item, path, "the port has no `target`", "name the task's port in `target`"))?;
    let no = |key: &str, text: &str| {
        wrong(item, path, format!("{text:?} is no port, in `{key}`"), "write a number from 1 to 65535")
    };
    let targets = range(&target).ok_or_else(|| no("target", &target))?;
    let protocol = text("protocol").unwrap_or_else(|| "tcp".to_owned());
    let host = text("host_ip");
    match text("published").filter(|number| number != "0") {
        None => {
            for target in targets {
                ports.push(port(item, target, None, &protocol, host.as_deref(), Some(map)));
            }
        }
        Some(published) => {
            let numbers = range(&published).ok_or_else(|| no("published", &published))?;
            for (published, target) in paired(item, path, &published, &numbers, &targets)? {
                ports.push(port(item, target, Some(published.to_string()), &protocol, host.as_deref(), Some(map)));
            }
        }
    }
    Ok(())
}

/// A port, or the ports from one to another.
fn range(text: &str) -> Option<Vec<u16>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to): (u16, u16) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    (0 < from && from <= to).then(|| (from..=to).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Place;

    fn of(text: &str) -> Result<Vec<String>, String> {
        let place = Place { file: "f".into(), line: 7 };
        let node = Node::new(&place, Value::List(vec![Node::text(&place, text)]));
        let Value::List(ports) = list(&node, "ports").map_err(|fault| fault.what())? else { return Ok(Vec::new()) };
        let shown = ports.iter().map(|port| {
            let text = |key: &str| port.get(key).and_then(Node::as_text).unwrap_or_default();
            format!("{} {}>{}/{}", text("host_ip"), text("published"), text("target"), text("protocol"))
        });
        Ok(shown.collect())
    }

    #[test]
    fn every_short_form_has_its_long_form() {
        for (text, shown) in [
            ("80", vec![" >80/tcp"]),
            ("8080:80", vec![" 8080>80/tcp"]),
            ("53:53/udp", vec![" 53>53/udp"]),
            ("127.0.0.1:8001:80", vec!["127.0.0.1 8001>80/tcp"]),
            ("127.0.0.1::80", vec!["127.0.0.1 >80/tcp"]),
            ("[::1]:8001:80", vec!["::1 8001>80/tcp"]),
            ("3000-3001:4000-4001", vec![" 3000>4000/tcp", " 3001>4001/tcp"]),
            ("7000-7001:70", vec![" 7000>70/tcp", " 7001>70/tcp"]),
            ("90-91", vec![" >90/tcp", " >91/tcp"]),
        ] {
            assert_eq!(of(text), Ok(shown.into_iter().map(str::to_owned).collect()), "{text}");
        }
    }

    #[test]
    fn what_is_no_port_is_said_with_its_text() {
        assert_eq!(of("80:http"), Err("f:7: ports[0]: \"80:http\" is no port".to_owned()));
        assert_eq!(of("0:80"), Err("f:7: ports[0]: \"0:80\" is no port".to_owned()));
        assert_eq!(of("80/quic"), Err("f:7: ports[0]: \"quic\" is no protocol of a port".to_owned()));
        let lengths = "f:7: ports[0]: the two ranges of \"1-3:4-5\" differ in length: 3 and 2";
        assert_eq!(of("1-3:4-5"), Err(lengths.to_owned()));
    }
}
