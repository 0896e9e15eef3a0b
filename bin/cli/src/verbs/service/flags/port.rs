//! `--publish`: ports of the service, short (`8080:80/tcp`, `8000-8002:80-82`) or long
//! (`published=8080,target=80,mode=host`).

use serde_json::{Value, json};

use super::fields::fields;

/// Ports that one value may publish at most: all that there are.
const RANGE_LEN_MAX: u16 = u16::MAX;

/// Parses the ports of one value into the API's objects.
pub(super) fn parse(text: &str) -> Result<Vec<Value>, String> {
    if text.contains('=') { long(text).map(|port| vec![port]) } else { short(text) }
}

fn short(text: &str) -> Result<Vec<Value>, String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    let (published, target) = match ports.rsplit_once(':') {
        Some((published, _)) if published.contains(':') => return Err("hostip is not supported".to_owned()),
        Some((published, target)) => (Some(range(text, published)?), range(text, target)?),
        None => (None, range(text, ports)?),
    };
    let targets = usize::from(target.1 - target.0);
    let Some(published) = published else {
        return (target.0..=target.1).map(|target| finish(text, &protocol, target, 0, "ingress")).collect();
    };
    // A range of published ports may lead to one target.
    if targets != 0 && targets != usize::from(published.1 - published.0) {
        return Err(format!("invalid ranges specified for container and host Ports: {target:?} and {published:?}"));
    }
    (published.0..=published.1)
        .enumerate()
        .map(|(at, published)| {
            let target = if targets == 0 { target.0 } else { target.0 + u16::try_from(at).unwrap_or(RANGE_LEN_MAX) };
            finish(text, &protocol, target, published, "ingress")
        })
        .collect()
}

fn range(text: &str, ports: &str) -> Result<(u16, u16), String> {
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last) = (number(text, first)?, number(text, last)?);
    if first <= last { Ok((first, last)) } else { Err(format!("{text:?}: a range of ports goes upwards")) }
}

fn long(text: &str) -> Result<Value, String> {
    let (mut protocol, mut target, mut published, mut mode) = ("tcp".to_owned(), None, 0, "ingress".to_owned());
    for part in fields(&text.to_lowercase())? {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("invalid field: {part}"))?;
        match key {
            "protocol" => value.clone_into(&mut protocol),
            "target" => target = Some(number(text, value)?),
            "published" => published = number(text, value)?,
            "mode" => value.clone_into(&mut mode),
            other => return Err(format!("a port has no {other:?}: it has published, target, protocol and mode")),
        }
    }
    let target = target.filter(|target| *target != 0).ok_or_else(|| format!("{text:?} names no target port"))?;
    finish(text, &protocol, target, published, &mode)
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
        let port = vec![json!({"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"})];
        assert_eq!(parse("8080:80"), Ok(port.clone()));
        assert_eq!(parse("published=8080,target=80"), Ok(port));
        let host = vec![json!({"Protocol": "udp", "TargetPort": 53, "PublishMode": "host"})];
        assert_eq!(parse("target=53,protocol=udp,mode=host"), Ok(host));
    }

    #[test]
    fn a_range_is_many_ports() {
        let pairs = |text: &str| -> Vec<_> {
            let ports = parse(text).expect("a range");
            ports.iter().map(|port| (port["PublishedPort"].as_u64(), port["TargetPort"].as_u64())).collect()
        };
        assert_eq!(pairs("8000-8001:80-81"), [(Some(8000), Some(80)), (Some(8001), Some(81))]);
        assert_eq!(pairs("8000-8001:80"), [(Some(8000), Some(80)), (Some(8001), Some(80))]);
        assert_eq!(pairs("80-81"), [(None, Some(80)), (None, Some(81))]);
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in [
            "x:80",
            "8080:",
            "80/quic",
            "published=1",
            "target=80,mode=mesh",
            "target=80,port=1",
            "70000:80",
            "8000-8002:80-81",
            "9-8",
            "127.0.0.1:8000:80",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
