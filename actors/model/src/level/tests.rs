//! The level of everything that a change can contain: a walk over what the decoder of [`Change`] accepts, compared with
//! the levels that are listed here.

use crate::Change;
use essaim_wire::golden::{nested, numbers};
use essaim_wire::{Level, decode};
use std::collections::{BTreeMap, BTreeSet};

/// The level of each variant of [`Change`], and of each variant or version of the enums and records inside changes, in
/// their order. A new variant or version is added at the end of its line, with a level that no release has yet
/// ([`Level::NEWEST`]), and [`Change::level`] returns that level for a change that contains it.
const LEVELS: &[(&str, &[u16])] = &[
    ("AddressPools", &[1]),
    ("Allocation", &[2]),
    ("AnyId", &[2; 3]),
    ("AnyPut", &[2; 3]),
    ("AppArmor", &[1; 2]),
    ("Assigned", &[1; 2]),
    ("Availability", &[1; 3]),
    ("BindOptions", &[1]),
    ("Change", &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 1, 2, 2, 2, 2]),
    ("Cluster", &[1]),
    ("ClusterSpec", &[1]),
    ("ConfigReference", &[1]),
    ("ConfigSpec", &[2]),
    ("ConfigTarget", &[1; 2]),
    ("ConstraintKey", &[1, 1, 1, 1, 1, 1, 1, 2]),
    ("ConstraintOp", &[1, 1, 2, 2, 2, 2, 2, 2]),
    ("ContainerSpec", &[1]),
    ("CredentialSpec", &[1; 3]),
    ("Departure", &[1; 2]),
    ("Desired", &[1; 4]),
    ("DnsConfig", &[1]),
    ("Driver", &[1]),
    ("EndpointSpec", &[1]),
    ("EngineKind", &[1; 3]),
    ("FailureAction", &[1; 3]),
    ("FileTarget", &[1]),
    ("Hardware", &[1]),
    ("Health", &[1; 3]),
    ("HealthCheck", &[1]),
    ("HealthTest", &[1; 4]),
    ("HostPort", &[1]),
    ("IpAddr", &[1; 2]),
    ("IpamConfig", &[2]),
    ("Isolation", &[1; 3]),
    ("LogDriver", &[1]),
    ("ManagerStatus", &[1]),
    ("Meta", &[1]),
    ("Mode", &[1; 4]),
    ("Mount", &[1]),
    ("MountSource", &[1; 6]),
    ("Network", &[2]),
    ("NetworkAttachment", &[1]),
    ("NetworkSpec", &[2]),
    ("NetworkSubnet", &[2]),
    ("Node", &[1]),
    ("NodeDescription", &[1]),
    ("NodeSpec", &[1]),
    ("Observed", &[1]),
    ("Payload", &[2]),
    ("PayloadId", &[2; 2]),
    ("Placement", &[1]),
    ("Platform", &[1]),
    ("Plugin", &[1]),
    ("PortConfig", &[1]),
    ("PortProtocol", &[1; 3]),
    ("Privileges", &[1]),
    ("Propagation", &[1; 6]),
    ("PublishMode", &[1; 2]),
    ("Reachability", &[1; 4]),
    ("Resources", &[1]),
    ("RestartCondition", &[1; 3]),
    ("RestartPolicy", &[1]),
    ("Role", &[1; 2]),
    ("RollbackCause", &[2; 2]),
    ("RootCa", &[1]),
    ("SeLinux", &[1]),
    ("Seccomp", &[1; 3]),
    ("SecretReference", &[1]),
    ("SecretSpec", &[2]),
    ("ServiceSpec", &[1]),
    ("Share", &[1]),
    ("Slot", &[1; 2]),
    ("SocketAddr", &[1; 2]),
    ("Stock", &[1; 2]),
    ("Task", &[1]),
    ("TaskSpec", &[1]),
    ("TaskState", &[1; 10]),
    ("TmpfsOptions", &[1]),
    ("Ulimit", &[1]),
    ("UnpublishedPort", &[1]),
    ("UpdateConfig", &[1]),
    ("UpdateOrder", &[1; 2]),
    ("UpdateState", &[1; 6]),
    ("UpdateStatus", &[1]),
    ("Variable", &[1]),
    ("VolumeOptions", &[1]),
    ("WrittenOff", &[1]),
];

/// Number of variants and versions of the first level. The first level is complete: what is new has a higher one.
const OF_THE_FIRST_LEVEL: usize = 171;

fn listed(name: &str, place: u32) -> Option<Level> {
    let (_, levels) = LEVELS.iter().find(|(listed, _)| *listed == name)?;
    levels.get(usize::try_from(place).ok()?).copied().map(Level)
}

#[test]
fn everything_that_a_change_can_contain_has_a_level_and_the_change_needs_it() {
    let (mut faults, mut counts) = (Vec::new(), BTreeMap::<String, u32>::new());
    for variant in numbers::<Change>() {
        for found in nested::<Change>(variant).unwrap_or_else(|why| panic!("Change {variant}: {why}")) {
            let place = found.number - found.first;
            let count = counts.entry(found.name.clone()).or_default();
            *count = (*count).max(place + 1);
            let change: Change = decode(&found.bytes).expect("the walk has read it");
            let text = format!("{change:?}");
            let of = text.split([' ', '(']).next().unwrap_or_default();
            match listed(&found.name, place) {
                None => faults.push(format!("{of}: {} {} has no level in LEVELS", found.name, found.number)),
                Some(level) if change.level() < level => {
                    let (name, number, says) = (&found.name, found.number, change.level());
                    faults.push(format!("{of}: {name} {number} needs level {level}, and Change::level is {says}"));
                }
                Some(_) => (),
            }
        }
    }
    let known: BTreeSet<(&str, usize)> = LEVELS.iter().map(|(name, levels)| (*name, levels.len())).collect();
    let found: BTreeSet<(&str, usize)> = counts.iter().map(|(name, count)| (name.as_str(), *count as usize)).collect();
    faults
        .extend(known.difference(&found).map(|(name, count)| format!("{name}: no change has exactly {count} of them")));
    let first = LEVELS.iter().flat_map(|(_, levels)| *levels).filter(|level| **level == 1).count();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(first, OF_THE_FIRST_LEVEL, "the first level is complete");
    println!("levels: {} variants and versions of {} types", counts.values().sum::<u32>(), counts.len());
}
