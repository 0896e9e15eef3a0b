//! Conversion of the cluster, and of the requests `init`, `join` and `update`.

use super::node::read_availability;
use super::{duration, nanos};
use crate::error::texts::{missing, unsupported};
use crate::swarm::{
    CaConfig, ClusterInfo, Dispatcher, EncryptionConfig, InitRequest, JoinRequest, Orchestration, Raft, SwarmSpec,
    TaskDefaults,
};
use crate::{ObjectVersion, Time};
use essaim_model as model;
use essaim_model::cluster::{LEFT_NODES_KEPT_LABEL, parse_span};
use essaim_model::{AddressPools, Availability, ClusterSpec, Refusal, Subnet};

/// The listen address that the CLI sends when its user gave none.
const LISTEN_UNSAID: &str = "0.0.0.0:2377";

/// Swarm's Raft election tick, which is fixed there too and only shown.
const ELECTION_TICK: i64 = 10;
const HEARTBEAT_TICK: i64 = 1;

/// The cluster as `info` and `GET /swarm` show it.
pub fn show(cluster: &model::Cluster) -> ClusterInfo {
    ClusterInfo {
        id: cluster.id.to_string(),
        version: ObjectVersion { index: cluster.meta.version.0 },
        created_at: cluster.meta.created_at.into(),
        updated_at: cluster.meta.updated_at.into(),
        spec: show_spec(&cluster.spec, cluster.authority.rotations),
        tls_info: super::tls::info(&cluster.authority.certificate),
        root_rotation_in_progress: false,
        default_addr_pool: shown_pools(&cluster.pools),
        subnet_size: cluster.pools.prefix.into(),
        data_path_port: 4789,
    }
}

/// An empty cluster, which `info` shows where the state cannot be read, as Swarm does.
pub fn show_nothing() -> ClusterInfo {
    ClusterInfo {
        id: String::new(),
        version: ObjectVersion::default(),
        created_at: Time::zero(),
        updated_at: Time::zero(),
        spec: SwarmSpec::default(),
        tls_info: crate::node::TlsInfo::default(),
        root_rotation_in_progress: false,
        default_addr_pool: None,
        subnet_size: 0,
        data_path_port: 0,
    }
}

/// The pools that an operator named; `None` as in Swarm when there are none.
fn shown_pools(pools: &AddressPools) -> Option<Vec<String>> {
    let shown: Vec<String> = pools.subnets.iter().map(Subnet::to_string).collect();
    (!shown.is_empty()).then_some(shown)
}

fn show_spec(spec: &ClusterSpec, rotations: u64) -> SwarmSpec {
    SwarmSpec {
        name: spec.name.clone(),
        labels: Some(spec.labels.clone()),
        orchestration: Orchestration { task_history_retention_limit: Some(spec.task_history) },
        raft: Raft {
            snapshot_interval: spec.snapshot_interval,
            keep_old_snapshots: Some(spec.keep_old_snapshots),
            log_entries_for_slow_followers: spec.slow_follower_entries,
            election_tick: ELECTION_TICK,
            heartbeat_tick: HEARTBEAT_TICK,
        },
        dispatcher: Dispatcher { heartbeat_period: nanos(spec.heartbeat) },
        ca_config: CaConfig {
            node_cert_expiry: nanos(spec.certificate_expiry),
            force_rotate: rotations,
            ..CaConfig::default()
        },
        task_defaults: TaskDefaults::default(),
        encryption_config: EncryptionConfig { auto_lock_managers: false },
    }
}

/// Parses new settings over those in force. A setting that is left out stays as it is. A setting without effect here
/// may be sent with its present value; another value is refused.
pub fn read_spec(asked: SwarmSpec, current: &ClusterSpec, rotations: u64) -> Result<ClusterSpec, Refusal> {
    let mut spec = current.clone();
    if !asked.name.is_empty() {
        spec.name = asked.name;
    }
    if let Some(labels) = asked.labels {
        if let Some(span) = labels.get(LEFT_NODES_KEPT_LABEL).filter(|span| parse_span(span).is_none()) {
            let text = format!("the label {LEFT_NODES_KEPT_LABEL} is a time such as 24h, 90m or 30s, and not {span:?}");
            return Err(Refusal::invalid(text));
        }
        spec.labels = labels;
    }
    if let Some(limit) = asked.orchestration.task_history_retention_limit {
        spec.task_history = limit;
    }
    if asked.ca_config.node_cert_expiry != 0 {
        spec.certificate_expiry = duration("CAConfig.NodeCertExpiry", asked.ca_config.node_cert_expiry)?;
    }
    let unsaid = |asked: i64, current: i64| asked == 0 || asked == current;
    let ca = &asked.ca_config;
    let (raft, kept) = (&asked.raft, Some(current.keep_old_snapshots));
    if ca.force_rotate != 0 && ca.force_rotate != rotations {
        let way =
            "nodes' certificates renew themselves; the join tokens can be rotated (docker swarm join-token --rotate)";
        return Err(missing("docker swarm ca --rotate", way));
    }
    let without_effect = [
        (!unsaid(asked.dispatcher.heartbeat_period, nanos(current.heartbeat)), "--dispatcher-heartbeat"),
        (raft.snapshot_interval != 0 && raft.snapshot_interval != current.snapshot_interval, "--snapshot-interval"),
        (raft.keep_old_snapshots.is_some() && raft.keep_old_snapshots != kept, "--max-snapshots"),
        (
            raft.log_entries_for_slow_followers != 0
                && raft.log_entries_for_slow_followers != current.slow_follower_entries,
            "Raft.LogEntriesForSlowFollowers",
        ),
        (!unsaid(raft.election_tick, ELECTION_TICK), "Raft.ElectionTick"),
        (!unsaid(raft.heartbeat_tick, HEARTBEAT_TICK), "Raft.HeartbeatTick"),
        (!ca.external_cas.is_empty(), "--external-ca"),
        (!ca.signing_ca_cert.is_empty() || !ca.signing_ca_key.is_empty(), "--ca-cert"),
        (asked.task_defaults.log_driver.is_some(), "TaskDefaults.LogDriver"),
        (asked.encryption_config.auto_lock_managers, "--autolock"),
    ];
    refuse_first(&without_effect)?;
    Ok(spec)
}

/// A parsed `init` request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    /// Address to listen on; `None` when the CLI's user gave none.
    pub listen: Option<String>,
    /// Address or interface to advertise, with or without a port.
    pub advertise: Option<String>,
    /// Whether this node takes tasks.
    pub availability: Availability,
    /// Begin a new lineage with this node as its only manager, because the others are gone for good.
    pub force_new_cluster: bool,
    /// Settings of the new cluster.
    pub spec: ClusterSpec,
    /// Where the subnets of networks come from.
    pub pools: AddressPools,
}

/// Prefix length that the docker CLI sends when its user gave none.
const PREFIX_UNSAID: u32 = 24;

/// Parses the address pools of a request. The prefix length that the docker CLI always sends counts as a choice only beside
/// pools: then it is what Docker documents. A client that sends none gets the usual one, or that of the smallest pool.
fn read_pools(asked: Option<Vec<String>>, subnet_size: u32) -> Result<AddressPools, Refusal> {
    let asked = asked.unwrap_or_default();
    let parse = |text: &String| {
        let subnet = Subnet::parse(text).filter(|_| text.contains('/'));
        subnet.ok_or_else(|| Refusal::invalid(format!("invalid base pool {text}: invalid CIDR address: {text}")))
    };
    let subnets = asked.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let unsaid = subnet_size == 0 || (subnet_size == PREFIX_UNSAID && subnets.is_empty());
    let prefix = if unsaid {
        subnets.iter().map(Subnet::prefix).fold(AddressPools::default().prefix, u8::max)
    } else {
        u8::try_from(subnet_size).unwrap_or(u8::MAX)
    };
    let pools = AddressPools { subnets, prefix };
    pools.check()?;
    Ok(pools)
}

/// Parses a request to found a cluster.
pub fn read_init(asked: InitRequest) -> Result<Init, Refusal> {
    refuse_first(&[
        (!asked.data_path_addr.is_empty(), "--data-path-addr"),
        (asked.data_path_port != 0, "--data-path-port"),
        (asked.auto_lock_managers, "--autolock"),
    ])?;
    Ok(Init {
        listen: read_listen(asked.listen_addr),
        advertise: said(asked.advertise_addr),
        availability: read_availability(&asked.availability)?,
        force_new_cluster: asked.force_new_cluster,
        spec: read_spec(asked.spec, &ClusterSpec::default(), 0)?,
        pools: read_pools(asked.default_addr_pool, asked.subnet_size)?,
    })
}

/// A parsed `join` request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Address to listen on; `None` when the CLI's user gave none.
    pub listen: Option<String>,
    /// Address or interface to advertise, with or without a port.
    pub advertise: Option<String>,
    /// Whether this node takes tasks.
    pub availability: Availability,
    /// Addresses of nodes to ask for enrolment; at least one.
    pub remotes: Vec<String>,
    /// Join token.
    pub token: String,
}

/// Parses a request to join a cluster.
pub fn read_join(asked: JoinRequest) -> Result<Join, Refusal> {
    refuse_first(&[(!asked.data_path_addr.is_empty(), "--data-path-addr")])?;
    let remotes = asked.remote_addrs.unwrap_or_default();
    if remotes.is_empty() {
        return Err(Refusal::invalid("at least 1 RemoteAddr is required to join"));
    }
    Ok(Join {
        listen: read_listen(asked.listen_addr),
        advertise: said(asked.advertise_addr),
        availability: read_availability(&asked.availability)?,
        remotes,
        token: asked.join_token,
    })
}

fn read_listen(text: String) -> Option<String> {
    said(text).filter(|text| text != LISTEN_UNSAID)
}

fn said(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Refuses the first setting that was asked for and has no effect.
fn refuse_first(settings: &[(bool, &str)]) -> Result<(), Refusal> {
    match settings.iter().find(|(asked, _)| *asked) {
        Some((_, setting)) => Err(unsupported(setting)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded<T: serde::de::DeserializeOwned>(text: &str) -> Vec<T> {
        serde_json::from_str(text).expect("recorded bodies parse")
    }

    #[test]
    fn a_plain_init_of_the_cli_is_accepted_and_says_nothing_about_addresses() {
        let plain: Vec<InitRequest> = recorded(include_str!("../../tests/fixtures/swarm_init.json"));
        let init = read_init(InitRequest { advertise_addr: String::new(), ..plain[0].clone() }).expect("plain");
        assert_eq!((init.listen, init.advertise, init.force_new_cluster), (None, None, false));
        assert_eq!(init.spec, ClusterSpec::default());
        assert_eq!(init.pools, AddressPools::default(), "although the CLI sends /24");
    }

    #[test]
    fn address_pools_are_those_that_were_named() {
        let pools = |named: &[&str], size| {
            let named = named.iter().map(|text| (*text).to_owned()).collect();
            let read = read_pools(Some(named), size).map_err(|refusal| refusal.text)?;
            Ok::<_, String>((shown_pools(&read).unwrap_or_default().join(" "), read.prefix))
        };
        assert_eq!(pools(&[], 24), Ok((String::new(), 20)));
        assert_eq!(pools(&[], 0), Ok((String::new(), 20)));
        assert_eq!(pools(&[], 16), Ok((String::new(), 16)));
        assert_eq!(pools(&["10.200.0.0/16"], 24), Ok(("10.200.0.0/16".into(), 24)), "what the CLI sends beside a pool");
        assert_eq!(pools(&["10.200.0.0/22"], 0), Ok(("10.200.0.0/22".into(), 22)));
        assert_eq!(
            pools(&["10.200.0.0"], 24),
            Err("invalid base pool 10.200.0.0: invalid CIDR address: 10.200.0.0".into())
        );
        assert!(pools(&[], 300).is_err_and(|text| text.starts_with("subnet size is out of range")));
    }

    #[test]
    fn what_has_no_effect_is_refused_by_its_flag() {
        let full = recorded::<InitRequest>(include_str!("../../tests/fixtures/swarm_init.json"))
            .into_iter()
            .find(|init| init.auto_lock_managers)
            .expect("a recorded init with every flag");
        let refused = read_init(full).expect_err("no other port for data");
        assert!(refused.text.starts_with("--data-path-port is not supported"), "{}", refused.text);
    }

    #[test]
    fn settings_come_back_as_they_were_shown() {
        let current = ClusterSpec { task_history: 7, ..ClusterSpec::default() };
        assert_eq!(read_spec(show_spec(&current, 3), &current, 3), Ok(current));
    }
}
