//! `essaim members`: the members of the cluster as each node sees them, and who accuses whom.

use std::collections::BTreeMap;

use essaim_docker::own::{Member, Members};

use super::read;
use crate::client::Client;
use crate::exit::Failure;
use crate::show::units::natural_order;
use crate::show::{Field, List};

/// Arguments of `essaim members`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Format output using a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

const FIELDS: &[Field] = &[
    ("Name", "NAME"),
    ("ID", "ID"),
    ("Address", "ADDRESS"),
    ("State", "STATE"),
    ("Generation", "GENERATION"),
    ("Incarnation", "INCARNATION"),
    ("RTT", "RTT"),
    ("Accusers", "ACCUSED BY"),
];

const TABLE: &str = "{{.Name}}\t{{.Address}}\t{{.State}}\t{{.Generation}}\t{{.Incarnation}}\t{{.RTT}}\t{{.Accusers}}";

/// Runs `essaim members`.
pub(crate) async fn run(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let seen: Members = read(client.get_json("/essaim/v1/members").await?)?;
    print!("{}", table(&seen).render(arguments.format.as_deref())?);
    if seen.isolated {
        eprintln!("{} believes to be cut off itself: what it says of others counts for nothing", seen.name);
    }
    Ok(())
}

fn table(seen: &Members) -> List {
    let names: BTreeMap<&str, &str> = seen.members.iter().map(|member| (member.node.as_str(), name(member))).collect();
    let mut members: Vec<&Member> = seen.members.iter().collect();
    members.sort_by(|a, b| natural_order(name(a), name(b)));
    let mut table = List::new(FIELDS, TABLE);
    for member in members {
        let accusers: Vec<_> = member.accusers.iter().map(|id| names.get(id.as_str()).copied().unwrap_or(id)).collect();
        table.push([
            name(member).into(),
            member.node.as_str().into(),
            member.addr.as_str().into(),
            member.state.as_str().into(),
            member.generation.into(),
            member.incarnation.as_str().into(),
            member.rtt_micros.map_or_else(String::new, |micros| format!("{:.1} ms", micros as f64 / 1000.0)).into(),
            accusers.join(", ").into(),
        ]);
    }
    table
}

/// The member's host name, or its id when the host name is not known.
fn name(member: &Member) -> &str {
    if member.name.is_empty() { &member.node } else { &member.name }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_member_says_who_accuses_it() {
        let seen = json!({"node": "a", "name": "n1", "isolated": false, "members": [
            {"node": "b", "name": "n2", "addr": "127.0.0.2:2377", "state": "unreachable", "generation": 3, "incarnation": "0.1", "accusers": ["a", "c"], "rtt_micros": 412},
            {"node": "a", "name": "n1", "addr": "127.0.0.1:2377", "state": "alive", "generation": 1, "incarnation": "1.0"},
        ]});
        let expected = "\
NAME      ADDRESS          STATE         GENERATION   INCARNATION   RTT       ACCUSED BY
n1        127.0.0.1:2377   alive         1            1.0                     
n2        127.0.0.2:2377   unreachable   3            0.1           0.4 ms    n1, c
";
        assert_eq!(table(&read(seen).unwrap()).render(None).unwrap(), expected);
    }
}
