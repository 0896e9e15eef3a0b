//! `essaim network`: the commands on networks, those of the cluster (driver `overlay`) and those of the daemon's machine.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::payload::labels;
use super::read::text;
use super::{agrees, each, label, pair};
use crate::client::{Client, encoded, filters};
use crate::exit::Failure;
use crate::show::units::{long_moment, natural_order, short};
use crate::show::{Field, List, inspect_plain};

/// Subcommands of `essaim network`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Connect a container to a network
    Connect(Connect),
    /// Create a network
    Create(Box<Create>),
    /// Disconnect a container from a network
    Disconnect {
        /// Force the container to disconnect from a network
        #[arg(short, long)]
        force: bool,
        /// Name or id of the network
        network: String,
        /// Name or id of the container
        container: String,
    },
    /// Display detailed information on one or more networks
    Inspect {
        /// Format output using a Go template or `json`
        #[arg(short, long, value_name = "TEMPLATE")]
        format: Option<String>,
        /// Verbose output for diagnostics
        #[arg(short, long)]
        verbose: bool,
        /// Names or ids of the networks
        #[arg(required = true)]
        networks: Vec<String>,
    },
    /// List networks
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Remove all unused networks
    Prune {
        /// Remove only what fits, such as until=TIME or label=KEY
        #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
        filter: Vec<(String, String)>,
        /// Do not prompt for confirmation
        #[arg(short, long)]
        force: bool,
    },
    /// Remove one or more networks
    #[command(visible_alias = "remove")]
    Rm {
        /// Do not fail for a network that does not exist
        #[arg(short, long)]
        force: bool,
        /// Names or ids of the networks
        #[arg(required = true)]
        networks: Vec<String>,
    },
}

/// Arguments of `network create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    /// Auxiliary addresses used by the network, which no task gets
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = pair)]
    aux_address: Vec<(String, String)>,
    /// The network from which to copy the configuration
    #[arg(long, value_name = "NETWORK", default_value = "")]
    config_from: String,
    /// Create a configuration only network
    #[arg(long)]
    config_only: bool,
    /// Driver to manage the network: overlay for one of the cluster
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge")]
    driver: String,
    /// IPv4 or IPv6 gateway of a subnet
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<String>,
    /// Create the network that published ports use between nodes
    #[arg(long)]
    ingress: bool,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Allocate addresses from a part of a subnet
    #[arg(long, value_name = "CIDR")]
    ip_range: Vec<String>,
    /// IP address management driver
    #[arg(long, value_name = "DRIVER", default_value = "default")]
    ipam_driver: String,
    /// Options of the IP address management driver
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    ipam_opt: Vec<(String, String)>,
    /// Enable or disable IPv4 address assignment
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    ipv4: Option<bool>,
    /// Enable or disable IPv6 address assignment
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    ipv6: Option<bool>,
    /// Labels of the network
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Options of the driver, such as encrypted
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = label)]
    opt: Vec<(String, String)>,
    /// Scope of the network: local or swarm
    #[arg(long, default_value = "")]
    scope: String,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "CIDR")]
    subnet: Vec<String>,
    /// Name of the new network
    network: String,
}

/// Arguments of `network connect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Connect {
    /// Add network-scoped alias for the container
    #[arg(long)]
    alias: Vec<String>,
    /// Driver options for the network
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    driver_opt: Vec<(String, String)>,
    /// IPv4 address of the container on the network
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// IPv6 address of the container on the network
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// Add link to another container
    #[arg(long)]
    link: Vec<String>,
    /// Add a link-local address for the container
    #[arg(long, value_name = "ADDRESS")]
    link_local_ip: Vec<String>,
    /// Name or id of the network
    network: String,
    /// Name or id of the container
    container: String,
}

/// Arguments of `network ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    filter: Vec<(String, String)>,
    /// Format output using a Go template, `table`, `table TEMPLATE` or `json`
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

const FIELDS: &[Field] = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";

/// Runs a subcommand of `essaim network`.
pub(crate) async fn run(client: &Client, command: Command) -> Result<(), Failure> {
    match command {
        Command::Connect(arguments) => {
            let path = format!("/networks/{}/connect", encoded(&arguments.network));
            client.post(&path, Some(&connection(arguments))).await.map(drop)
        }
        Command::Create(arguments) => {
            let created = client.post("/networks/create", Some(&request(*arguments)?)).await?.json().await?;
            println!("{}", text(&created, "/Id"));
            Ok(())
        }
        Command::Disconnect { force, network, container } => {
            let path = format!("/networks/{}/disconnect", encoded(&network));
            client.post(&path, Some(&json!({"Container": container, "Force": force}))).await.map(drop)
        }
        Command::Inspect { format, verbose, networks } => {
            let query = if verbose { "?verbose=true" } else { "" };
            let fetch = async |name: &str| client.get_json(&format!("/networks/{}{query}", encoded(name))).await;
            inspect_plain(&networks, format.as_deref(), fetch).await
        }
        Command::Ls(shown) => ls(client, shown).await,
        Command::Prune { filter, force } => prune(client, &filter, force).await,
        Command::Rm { force, networks } => {
            each(&networks, async |name: &str| {
                match client.delete(&format!("/networks/{}", encoded(name))).await {
                    Err(failure) if force && failure.to_string().ends_with("not found") => return Ok(()),
                    removed => drop(removed?),
                }
                println!("{name}");
                Ok(())
            })
            .await
        }
    }
}

fn pairs(pairs: Vec<(String, String)>) -> Map<String, Value> {
    pairs.into_iter().map(|(key, value)| (key, value.into())).collect()
}

/// The request that creates a network, as the docker CLI writes it (transcript 068-network-create-attachable).
fn request(arguments: Create) -> Result<Value, Failure> {
    let config = pools(&arguments)?;
    let Create { attachable, config_from, config_only, driver, ingress, internal, ipam_driver, ipam_opt, .. } =
        arguments;
    let config_from = (!config_from.is_empty()).then(|| json!({"Network": config_from}));
    let mut body = json!({
        "Name": arguments.network,
        "Driver": driver,
        "Scope": arguments.scope,
        "IPAM": {"Driver": ipam_driver, "Options": pairs(ipam_opt), "Config": config},
        "Internal": internal,
        "Attachable": attachable,
        "Ingress": ingress,
        "ConfigOnly": config_only,
        "ConfigFrom": config_from,
        "Options": pairs(arguments.opt),
        "Labels": pairs(arguments.label),
    });
    for (field, asked) in [("EnableIPv4", arguments.ipv4), ("EnableIPv6", arguments.ipv6)] {
        if let Some(asked) = asked {
            body[field] = asked.into();
        }
    }
    Ok(body)
}

/// The subnets with the ranges, gateways and auxiliary addresses that lie in each, in docker's words where one lies in none.
fn pools(arguments: &Create) -> Result<Vec<Value>, Failure> {
    let Create { subnet, ip_range, gateway, aux_address, .. } = arguments;
    if subnet.len() < ip_range.len() || subnet.len() < gateway.len() {
        return Err(Failure::usage("every ip-range or gateway must have a corresponding subnet"));
    }
    let mut pools: Vec<Value> = subnet.iter().map(|subnet| json!({"Subnet": subnet})).collect();
    let place = |what: &str, address: &str| {
        let found = subnet.iter().position(|subnet| contains(subnet, address));
        found.ok_or_else(|| Failure::usage(format!("no matching subnet for {what} {address}")))
    };
    for (what, field, values) in [("range", "IPRange", ip_range), ("gateway", "Gateway", gateway)] {
        for value in values {
            let pool = &mut pools[place(what, value)?];
            if !pool[field].is_null() {
                return Err(Failure::usage(format!("cannot configure multiple {what}s ({value}) on the same subnet")));
            }
            pool[field] = value.as_str().into();
        }
    }
    for (name, address) in aux_address {
        pools[place("aux-address", address)?]["AuxiliaryAddresses"][name] = address.as_str().into();
    }
    Ok(pools)
}

/// Whether an address, or the first one of a range, lies in a subnet. The daemon judges the notation.
fn contains(subnet: &str, address: &str) -> bool {
    let parse = |text: &str| text.split('/').next().and_then(|text| text.parse::<IpAddr>().ok());
    let prefix = subnet.split_once('/').and_then(|(_, prefix)| prefix.parse::<u32>().ok());
    let same = |a: u128, b: u128, bits: u32, prefix: u32| prefix == 0 || (a ^ b).checked_shr(bits - prefix) == Some(0);
    match (parse(subnet), parse(address), prefix) {
        (Some(IpAddr::V4(a)), Some(IpAddr::V4(b)), Some(prefix)) if prefix <= 32 => {
            same(a.to_bits().into(), b.to_bits().into(), 32, prefix)
        }
        (Some(IpAddr::V6(a)), Some(IpAddr::V6(b)), Some(prefix)) if prefix <= 128 => {
            same(a.to_bits(), b.to_bits(), 128, prefix)
        }
        _ => false,
    }
}

fn connection(arguments: Connect) -> Value {
    let Connect { alias, driver_opt, ip, ip6, link, link_local_ip, network: _, container } = arguments;
    let addresses = json!({"IPv4Address": ip, "IPv6Address": ip6, "LinkLocalIPs": link_local_ip});
    let endpoint = json!({"IPAMConfig": addresses, "Links": link, "Aliases": alias, "DriverOpts": pairs(driver_opt)});
    json!({"Container": container, "EndpointConfig": endpoint})
}

async fn ls(client: &Client, Ls { filter, format, no_trunc, quiet }: Ls) -> Result<(), Failure> {
    let mut networks = match client.get_json(&format!("/networks?{}", filters(&filter))).await? {
        Value::Array(networks) => networks,
        _ => Vec::new(),
    };
    networks.sort_by(|a, b| natural_order(text(a, "/Name"), text(b, "/Name")));
    if quiet && format.is_none() {
        let shown = |id| if no_trunc { id } else { short(id) };
        networks.iter().for_each(|network| println!("{}", shown(text(network, "/Id"))));
        return Ok(());
    }
    print!("{}", table(&networks, no_trunc).render(format.as_deref())?);
    Ok(())
}

fn table(networks: &[Value], no_trunc: bool) -> List {
    let mut table = List::new(FIELDS, TABLE);
    for network in networks {
        let id = text(network, "/Id");
        let flag = |field: &str| network[field].as_bool().unwrap_or(false).to_string();
        table.push([
            if no_trunc { id } else { short(id) }.into(),
            text(network, "/Name").into(),
            text(network, "/Driver").into(),
            text(network, "/Scope").into(),
            flag("EnableIPv4").into(),
            flag("EnableIPv6").into(),
            flag("Internal").into(),
            labels(network, "/Labels").into(),
            long_moment(text(network, "/Created")).to_uppercase().into(),
        ]);
    }
    table
}

async fn prune(client: &Client, filter: &[(String, String)], force: bool) -> Result<(), Failure> {
    if !force && !agrees("WARNING! This will remove all custom networks not used by at least one container.")? {
        return Err(Failure::error("network prune has been cancelled"));
    }
    let pruned = client.post(&format!("/networks/prune?{}", filters(filter)), None).await?.json().await?;
    print!("{}", report(&pruned));
    Ok(())
}

fn report(pruned: &Value) -> String {
    let deleted = pruned["NetworksDeleted"].as_array().map_or(&[][..], Vec::as_slice);
    let names: String = deleted.iter().filter_map(Value::as_str).map(|name| format!("{name}\n")).collect();
    if names.is_empty() { names } else { format!("Deleted Networks:\n{names}\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    /// A command line of `network create`.
    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        create: Create,
    }

    fn asked(line: &str) -> Result<Value, String> {
        let words = std::iter::once("create").chain(line.split(' '));
        request(Line::try_parse_from(words).expect(line).create).map_err(|failure| failure.to_string())
    }

    /// The requests of transcripts 067-network-create-encrypted and 068-network-create-attachable.
    #[test]
    fn a_network_is_asked_for_as_docker_does() {
        let body = |name: &str, attachable: bool, config: Value, options: Value, labels: Value| {
            json!({
                "Driver": "overlay", "Scope": "", "IPAM": {"Driver": "default", "Options": {}, "Config": config},
                "Internal": false, "Attachable": attachable, "Ingress": false, "ConfigOnly": false, "ConfigFrom": null,
                "Options": options, "Labels": labels, "Name": name,
            })
        };
        let encrypted = asked("--driver overlay --opt encrypted exquisite");
        assert_eq!(encrypted, Ok(body("exquisite", false, json!([]), json!({"encrypted": ""}), json!({}))));
        let attachable = asked("-d overlay --attachable --subnet 10.88.0.0/24 --gateway 10.88.0.1 --label a=b att");
        let config = json!([{"Subnet": "10.88.0.0/24", "Gateway": "10.88.0.1"}]);
        assert_eq!(attachable, Ok(body("att", true, config, json!({}), json!({"a": "b"}))));
        let six = asked("-d overlay --ipv6 --ipv4=false x").expect("a request");
        assert_eq!((&six["EnableIPv6"], &six["EnableIPv4"]), (&json!(true), &json!(false)));
    }

    #[test]
    fn addresses_belong_to_the_subnet_that_they_lie_in() {
        let config = |line: &str| asked(&format!("{line} x")).map(|body| body["IPAM"]["Config"].clone());
        let two = "--subnet 10.88.0.0/24 --subnet fd00::/64";
        let all = "--gateway fd00::1 --gateway 10.88.0.9 --ip-range 10.88.0.64/26 --aux-address r=10.88.0.2";
        assert_eq!(
            config(&format!("{two} {all}")),
            Ok(json!([
                {"Subnet": "10.88.0.0/24", "IPRange": "10.88.0.64/26", "Gateway": "10.88.0.9",
                 "AuxiliaryAddresses": {"r": "10.88.0.2"}},
                {"Subnet": "fd00::/64", "Gateway": "fd00::1"},
            ]))
        );
        let refused = |line: &str| config(line).expect_err("refused");
        assert!(refused("--gateway 10.0.0.1").contains("every ip-range or gateway must have a corresponding subnet"));
        assert!(refused("--subnet 10.0.0.0/24 --gateway 10.1.0.1").contains("no matching subnet for gateway 10.1.0.1"));
        let twice = "--subnet 10.0.0.0/24 --subnet 10.1.0.0/24 --gateway 10.0.0.1 --gateway 10.0.0.2";
        assert!(refused(twice).contains("cannot configure multiple gateways (10.0.0.2) on the same subnet"));
    }

    /// The table of transcript 072-network-ls-filter, and a part of 071-network-ls.
    #[test]
    fn the_table_is_what_docker_prints() {
        let network = |name: &str, id: &str, driver: &str, scope: &str| {
            json!({"Name": name, "Id": id, "Created": "2026-11-20T18:58:08.278802907Z", "Scope": scope, "Driver": driver,
                   "EnableIPv4": true, "EnableIPv6": false, "Internal": false, "Labels": {"a": "b"}})
        };
        let networks = [
            network("att", "uh0f3ayywfuk4x6647ibasquu", "overlay", "swarm"),
            network("bridge", "e9854f9fcc4367b701cb0fe2cf1898341c9aea5af6ba3151fb5879ceea6aeda4", "bridge", "local"),
        ];
        let expected = "NETWORK ID     NAME      DRIVER    SCOPE\n\
                        uh0f3ayywfuk   att       overlay   swarm\n\
                        e9854f9fcc43   bridge    bridge    local\n";
        assert_eq!(table(&networks, false).render(None).ok().as_deref(), Some(expected));
        let whole = table(&networks[..1], true).render(Some("{{.ID}} {{.IPv6}} {{.Labels}} {{.CreatedAt}}"));
        let expected = "uh0f3ayywfuk4x6647ibasquu false a=b 2026-11-20 18:58:08.278802907 +0000 UTC\n";
        assert_eq!(whole.ok().as_deref(), Some(expected));
    }

    #[test]
    fn what_was_pruned_is_told() {
        assert_eq!(report(&json!({"NetworksDeleted": null})), "");
        assert_eq!(report(&json!({"NetworksDeleted": ["att2"]})), "Deleted Networks:\natt2\n\n");
    }
}
