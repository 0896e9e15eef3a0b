//! The `--publish` flag: a port of the service, short (`8080:80/tcp`) or long (`published=8080,target=80,mode=host`).

use serde_json::{Value, json};

/// Parses a port into the API's object.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    if text.contains('=') { long(text) } else { short(text) }
}

fn short(text: &str) -> Result<Value, String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (published, target) = match ports.split_once(':') {
        Some((published, target)) => (number(text, published)?, number(text, target)?),
        None => (0, number(text, ports)?),
    };
    finish(text, protocol, target, published, "ingress")
}

fn long(text: &str) -> Result<Value, String> {
    let (mut protocol, mut target, mut published, mut mode) = ("tcp", None, 0, "ingress");
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("{part:?} is not of the form key=value"))?;
        match key {
            "protocol" => protocol = value,
            "target" => target = Some(number(text, value)?),
            "published" => published = number(text, value)?,
            "mode" => mode = value,
            other => return Err(format!("a port has no {other:?}: it has published, target, protocol and mode")),
        }
    }
    let target = target.ok_or_else(|| format!("{text:?} names no target port"))?;
    finish(text, protocol, target, published, mode)
}

fn finish(text: &str, protocol: &str, target: u16, published: u16, mode: &str) -> Result<Value, String> {
    if !["tcp", "udp", "sctp"].contains(&protocol) {
        return Err(format!("{text:?}: the protocol is tcp, udp or sctp"));
    }
    if !["ingress", "host"].contains(&mode) {
        return Err(format!("{text:?}: the mode is ingress or host"));
    }
    let mut port = json!({"Protocol": protocol, "TargetPort": target});
    if published != 0 {
        port["PublishedPort"] = published.into();
    }
    port["PublishMode"] = mode.into();
    Ok(port)
}

fn number(text: &str, port: &str) -> Result<u16, String> {
    port.parse().map_err(|_| format!("{text:?}: {port:?} is no port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_mean_the_same() {
        let port = json!({"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"});
        assert_eq!(parse("8080:80"), Ok(port.clone()));
        assert_eq!(parse("published=8080,target=80"), Ok(port));
        let host = json!({"Protocol": "udp", "TargetPort": 53, "PublishMode": "host"});
        assert_eq!(parse("target=53,protocol=udp,mode=host"), Ok(host));
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in ["x:80", "8080:", "80/quic", "published=1", "target=80,mode=mesh", "target=80,port=1", "70000:80"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
