//! Conversion of networks, and of the requests that create them.

use crate::Filters;
use crate::error::texts::unsupported;
use crate::network::{ConfigFrom, CreateNetwork, Ipam, IpamPool, NetworkResource};
use essaim_model::noun::network::VNI_LIST;
use essaim_model::{IpamConfig, Name, Network, NetworkSpec, Noun, Object, Refusal, RefusalKind, State, Subnet};
use std::net::IpAddr;

/// The driver of the cluster's networks.
const OVERLAY: &str = "overlay";

/// The only driver for addresses.
const IPAM_DRIVER: &str = "default";

/// Networks that every engine has, by name, and the names under which clients mean a default.
const PREDEFINED: [&str; 4] = ["bridge", "default", "host", "none"];

/// Filter keys that `GET /networks` accepts.
const FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

/// Filter keys that `POST /networks/prune` accepts.
const PRUNE_FILTERS: [&str; 3] = ["label", "label!", "until"];

/// Whether a request is for a network of the cluster: its driver is Swarm's, or the request says so.
pub fn is_of_the_cluster(asked: &CreateNetwork) -> bool {
    asked.driver == OVERLAY || asked.scope == "swarm" || asked.ingress
}

/// Parses a request to create a network of the cluster.
pub fn read(asked: CreateNetwork) -> Result<NetworkSpec, Refusal> {
    let CreateNetwork {
        name,
        check_duplicate: _,
        driver,
        scope,
        enable_ipv4,
        enable_ipv6,
        ipam,
        internal,
        attachable,
        ingress,
        config_only,
        config_from,
        options,
        labels,
    } = asked;
    if PREDEFINED.contains(&name.as_str()) {
        return Err(Refusal::new(RefusalKind::Denied, format!("{name} is a pre-defined network")));
    }
    let name = Name::parse(&name).map_err(|invalid| Refusal::invalid(invalid.to_string()))?;
    if !driver.is_empty() && driver != OVERLAY {
        return Err(unsupported(&format!("--scope swarm with --driver {driver}")));
    }
    if !matches!(scope.as_str(), "" | "swarm" | "global") {
        return Err(Refusal::invalid(format!("an overlay network has the scope swarm, not {scope}")));
    }
    let settings = [
        (config_only, "--config-only for a network of the cluster"),
        (config_from.is_some_and(|from| !from.network.is_empty()), "--config-from for a network of the cluster"),
        (enable_ipv4 == Some(false), "--ipv4=false for a network of the cluster"),
    ];
    if let Some((_, setting)) = settings.iter().find(|(asked, _)| *asked) {
        return Err(unsupported(setting));
    }
    let ipam = read_ipam(ipam.unwrap_or_default())?;
    let ipv6 = enable_ipv6.unwrap_or(false);
    let (options, labels) = (options.unwrap_or_default(), labels.unwrap_or_default());
    let spec = NetworkSpec { name, labels, options, internal, attachable, ingress, ipv6, ipam };
    spec.check()?;
    Ok(spec)
}

fn read_ipam(asked: Ipam) -> Result<Vec<IpamConfig>, Refusal> {
    let Ipam { driver, options, config } = asked;
    if !matches!(driver.as_str(), "" | IPAM_DRIVER) {
        return Err(unsupported(&format!("--ipam-driver {driver}")));
    }
    if let Some(option) = options.iter().flatten().next() {
        return Err(unsupported(&format!("--ipam-opt {}={}", option.0, option.1)));
    }
    let configs = config.into_iter().flatten().filter(|config| *config != IpamPool::default());
    configs.map(read_pool).collect()
}

/// The words are Docker's.
fn read_pool(asked: IpamPool) -> Result<IpamConfig, Refusal> {
    let IpamPool { subnet, ip_range, gateway, auxiliary } = asked;
    let invalid = |text: String| Refusal::invalid(format!("invalid network config: {text}"));
    let exact = |what: &str, text: &str| {
        let parsed = Subnet::parse(text).filter(|_| text.contains('/'));
        let parsed = parsed.ok_or_else(|| invalid(format!("invalid {what} {text}: invalid CIDR block notation")))?;
        if text.split('/').next().and_then(|address| address.parse::<IpAddr>().ok()) != Some(parsed.base()) {
            return Err(invalid(format!("invalid {what} {text}: it should be {parsed}")));
        }
        Ok(parsed)
    };
    let address = |what: &str, text: &str| {
        let parsed = text.parse::<IpAddr>();
        parsed.map_err(|_| invalid(format!("invalid {what} {text}: invalid address")))
    };
    if subnet.is_empty() {
        return Err(invalid("every ip-range or gateway must have a corresponding subnet".into()));
    }
    Ok(IpamConfig {
        subnet: exact("subnet", &subnet)?,
        range: Some(ip_range).filter(|text| !text.is_empty()).map(|text| exact("ip-range", &text)).transpose()?,
        gateway: Some(gateway).filter(|text| !text.is_empty()).map(|text| address("gateway", &text)).transpose()?,
        auxiliary: auxiliary
            .into_iter()
            .map(|(name, text)| Ok((name, address("auxiliary address", &text)?)))
            .collect::<Result<_, Refusal>>()?,
    })
}

/// The network in Docker's shape. Nothing is connected to it yet.
pub fn show(network: &Object<Network>) -> NetworkResource {
    let Network { asked, allocation } = &network.spec;
    let pools = allocation.subnets.iter().map(|it| IpamPool {
        subnet: it.subnet.to_string(),
        ip_range: it.range.as_ref().map(Subnet::to_string).unwrap_or_default(),
        gateway: it.gateway.to_string(),
        auxiliary: it.auxiliary.iter().map(|(name, address)| (name.clone(), address.to_string())).collect(),
    });
    let mut options = asked.options.clone();
    options.insert(VNI_LIST.into(), allocation.vni.to_string());
    NetworkResource {
        name: asked.name.to_string(),
        id: network.id.to_string(),
        created: network.meta.created_at.into(),
        scope: "swarm".into(),
        driver: OVERLAY.into(),
        enable_ipv4: true,
        enable_ipv6: asked.ipv6,
        ipam: Ipam { driver: IPAM_DRIVER.into(), options: None, config: Some(pools.collect()) },
        internal: asked.internal,
        attachable: asked.attachable,
        ingress: asked.ingress,
        config_from: ConfigFrom::default(),
        config_only: false,
        containers: None,
        options: Some(options),
        labels: Some(asked.labels.clone()).filter(|labels| !labels.is_empty()),
        peers: None,
        services: None,
    }
}

/// Refuses filters of a list with keys or values that it does not know.
pub fn check_filters(filters: &Filters) -> Result<(), Refusal> {
    filters.expect(&FILTERS)?;
    let wrong = |key: &str, known: &[&str]| filters.get(key).find(|value| !known.contains(value)).map(str::to_owned);
    let known: [(&str, &[&str]); 3] = [
        ("dangling", &["0", "1", "false", "true"]),
        ("scope", &["global", "local", "swarm"]),
        ("type", &["builtin", "custom"]),
    ];
    match known.iter().find_map(|(key, known)| Some((key, wrong(key, known)?))) {
        Some((key, value)) => Err(Refusal::invalid(format!("invalid filter '{key}={value}'"))),
        None => Ok(()),
    }
}

/// Whether a list with these filters may contain networks of the machine.
pub fn asks_for_local(filters: &Filters) -> bool {
    filters.equals("scope", "local") || filters.equals("scope", "global")
}

/// Whether a list with these filters contains this network of the cluster. Names and ids match by any part, as those of
/// the machine's networks do; `^` and `$` mean the beginning and the end.
pub fn matches(filters: &Filters, network: &Object<Network>, state: &State) -> bool {
    let within = |key: &str, actual: &str| !filters.has(key) || filters.get(key).any(|part| is_part(part, actual));
    let is_dangling = !network.spec.asked.ingress && !is_used(network, state);
    let wants_dangling = |value: &str| matches!(value, "1" | "true");
    within("id", &network.id.to_string())
        && within("name", network.spec.name())
        && filters.equals("driver", OVERLAY)
        && filters.equals("scope", "swarm")
        && filters.equals("type", "custom")
        && filters.labels("label", network.spec.labels())
        && (!filters.has("dangling") || filters.get("dangling").any(|value| wants_dangling(value) == is_dangling))
}

/// Refuses filters of `prune` with keys that it does not know.
pub fn check_prune_filters(filters: &Filters) -> Result<(), Refusal> {
    filters.expect(&PRUNE_FILTERS)
}

/// Whether `prune` removes this network: nothing uses it, and it is not the network of published ports, which goes only by
/// its name. `until` is the time before which it must have been created.
pub fn is_pruned(
    filters: &Filters,
    until: Option<essaim_wire::Timestamp>,
    network: &Object<Network>,
    state: &State,
) -> bool {
    let labels = network.spec.labels();
    let spared = filters.get("label!").any(|text| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        labels.get(name).is_some_and(|actual| value.is_empty() || actual == value)
    });
    !network.spec.asked.ingress
        && !spared
        && filters.labels("label", labels)
        && until.is_none_or(|until| network.meta.created_at < until)
        && !is_used(network, state)
}

fn is_used(network: &Object<Network>, state: &State) -> bool {
    state.services().any(|service| Network::is_used_by(network, &service.spec))
}

fn is_part(part: &str, actual: &str) -> bool {
    let (begins, part) = part.strip_prefix('^').map_or((false, part), |part| (true, part));
    let (ends, part) = part.strip_suffix('$').map_or((false, part), |part| (true, part));
    match (begins, ends) {
        (true, true) => actual == part,
        (true, false) => actual.starts_with(part),
        (false, true) => actual.ends_with(part),
        (false, false) => actual.contains(part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::{Meta, NetworkId, fixtures};

    fn asked(json: &str) -> Result<NetworkSpec, String> {
        let asked: CreateNetwork = serde_json::from_str(json).expect("a request");
        assert!(is_of_the_cluster(&asked));
        read(asked).map_err(|refusal| refusal.text)
    }

    fn spec(rest: &str) -> Result<NetworkSpec, String> {
        asked(&format!(r#"{{"Name":"front","Driver":"overlay"{rest}}}"#))
    }

    #[test]
    fn a_network_of_the_cluster_is_told_from_a_local_one() {
        let check = |text: &str, expected: bool| {
            let asked: CreateNetwork = serde_json::from_str(text).expect("JSON");
            assert_eq!(is_of_the_cluster(&asked), expected, "{text}");
        };
        check(r#"{"Name":"x","Driver":"overlay","Attachable":true}"#, true);
        check(r#"{"Name":"x","Scope":"swarm","Driver":"bridge"}"#, true);
        check(r#"{"Name":"x","Ingress":true}"#, true);
        check(r#"{"Name":"x","Driver":"bridge","Attachable":true,"Scope":""}"#, false);
        check(r#"{"Name":"x"}"#, false);
    }

    #[test]
    fn what_has_no_effect_is_refused_by_its_flag() {
        let unsupported = |setting: &str| Err(format!("{setting} is not supported by Essaim yet; leave it out"));
        assert_eq!(
            asked(r#"{"Name":"x","Scope":"swarm","Driver":"macvlan"}"#),
            unsupported("--scope swarm with --driver macvlan")
        );
        assert_eq!(spec(r#","ConfigOnly":true"#), unsupported("--config-only for a network of the cluster"));
        let from = r#","ConfigFrom":{"Network":"other"}"#;
        assert_eq!(spec(from), unsupported("--config-from for a network of the cluster"));
        assert_eq!(spec(r#","EnableIPv4":false"#), unsupported("--ipv4=false for a network of the cluster"));
        assert_eq!(spec(r#","IPAM":{"Driver":"dhcp"}"#), unsupported("--ipam-driver dhcp"));
        assert_eq!(spec(r#","IPAM":{"Options":{"a":"b"}}"#), unsupported("--ipam-opt a=b"));
        assert!(
            spec(r#","Options":{"colour":"red"}"#).is_err_and(|text| text.starts_with("--opt colour has no effect"))
        );
        assert_eq!(spec(r#","Scope":"local""#), Err("an overlay network has the scope swarm, not local".into()));
        assert_eq!(asked(r#"{"Name":"host","Driver":"overlay"}"#), Err("host is a pre-defined network".into()));
        assert_eq!(
            asked(r#"{"Name":"a b","Driver":"overlay"}"#),
            Err("name must be valid as a DNS name component".into())
        );
    }

    #[test]
    fn addresses_are_read_in_dockers_notation_and_refused_in_its_words() {
        let pool = |text: &str| spec(&format!(r#","EnableIPv6":true,"IPAM":{{"Driver":"default","Config":[{text}]}}"#));
        let six = r#"{"Subnet":"fd00:1::/64"}"#;
        let all = r#"{"Subnet":"10.88.0.0/24","IPRange":"10.88.0.64/26","Gateway":"10.88.0.9",
                      "AuxiliaryAddresses":{"router":"10.88.0.2"}}"#;
        let read = pool(&format!("{all},{six},{{}}")).expect("addresses");
        let shown = |config: &IpamConfig| format!("{} {:?} {:?}", config.subnet, config.range, config.gateway);
        assert_eq!(read.ipam.len(), 2);
        assert!(shown(&read.ipam[0]).starts_with("10.88.0.0/24 Some("), "{}", shown(&read.ipam[0]));
        assert_eq!(read.ipam[0].auxiliary["router"].to_string(), "10.88.0.2");
        let refused = |text: &str| pool(&format!("{text},{six}")).expect_err("refused");
        let words = |text: &str| format!("invalid network config: {text}");
        assert_eq!(
            refused(r#"{"Subnet":"10.88.0.7/24"}"#),
            words("invalid subnet 10.88.0.7/24: it should be 10.88.0.0/24")
        );
        assert_eq!(
            refused(r#"{"Subnet":"10.88.0.0"}"#),
            words("invalid subnet 10.88.0.0: invalid CIDR block notation")
        );
        let gateway = r#"{"Subnet":"10.88.0.0/24","Gateway":"x"}"#;
        assert_eq!(refused(gateway), words("invalid gateway x: invalid address"));
        let alone = r#"{"Gateway":"10.88.0.1"}"#;
        assert_eq!(refused(alone), words("every ip-range or gateway must have a corresponding subnet"));
    }

    #[test]
    fn a_network_is_shown_with_what_it_was_given() {
        let object = Object {
            id: NetworkId::from_bits(7),
            meta: Meta::default(),
            spec: fixtures::network("front", 4097, "10.0.16.0/20"),
        };
        let shown = serde_json::to_value(show(&object)).expect("JSON");
        let expected = serde_json::json!({
            "Name": "front", "Id": "0000000000000000000000007", "Created": "1970-01-01T00:00:00Z", "Scope": "swarm",
            "Driver": "overlay", "EnableIPv4": true, "EnableIPv6": false,
            "IPAM": {
                "Driver": "default", "Options": null,
                "Config": [{"Subnet": "10.0.16.0/20", "Gateway": "10.0.16.1"}],
            },
            "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": {"Network": ""},
            "ConfigOnly": false, "Containers": null,
            "Options": {"com.docker.network.driver.overlay.vxlanid_list": "4097"}, "Labels": null,
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_list_is_narrowed_as_docker_narrows_it() {
        let mut network = fixtures::network("front_end", 4097, "10.0.16.0/20");
        network.asked.labels.insert("env".into(), "test".into());
        let object = Object { id: NetworkId::from_bits(7), meta: Meta::default(), spec: network };
        let state = State::default();
        let is_in = |key: &str, value: &str| matches(&Filters::default().with(key, value), &object, &state);
        for (key, value) in [
            ("name", "ont"),
            ("name", "^front"),
            ("name", "^front_end$"),
            ("name", "end$"),
            ("id", "0007"),
            ("driver", "overlay"),
            ("scope", "swarm"),
            ("type", "custom"),
            ("label", "env=test"),
            ("dangling", "true"),
        ] {
            assert!(is_in(key, value), "{key}={value}");
        }
        for (key, value) in [
            ("name", "^ont"),
            ("name", "^front$"),
            ("driver", "bridge"),
            ("scope", "local"),
            ("type", "builtin"),
            ("label", "env=live"),
            ("dangling", "false"),
        ] {
            assert!(!is_in(key, value), "{key}={value}");
        }
        let refused =
            |key: &str, value: &str| check_filters(&Filters::default().with(key, value)).map_err(|it| it.text);
        assert_eq!(refused("colour", "red"), Err("invalid filter 'colour'".into()));
        assert_eq!(refused("type", "red"), Err("invalid filter 'type=red'".into()));
        assert_eq!(refused("dangling", "1"), Ok(()));
    }
}
