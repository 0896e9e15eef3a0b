//! `essaim tree`: every actor of every node, below its supervisor.

use essaim_docker::own::{Actor, NodeTree, Trees};
use jiff::Timestamp;

use super::{read, report_silent};
use crate::client::Client;
use crate::exit::Failure;
use crate::show::align;
use crate::show::units::{age, moment, natural_order, now};

/// Arguments of `essaim tree`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Show the folder of the source where each actor lives
    #[arg(long)]
    source: bool,
    /// Print what the daemon answers
    #[arg(long)]
    json: bool,
    /// Only these nodes, by name
    nodes: Vec<String>,
}

/// Runs `essaim tree`.
pub(crate) async fn run(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let answer = client.get_json("/essaim/v1/tree").await?;
    if arguments.json {
        println!("{answer}");
        return Ok(());
    }
    let mut nodes = read::<Trees>(answer)?.nodes;
    nodes.sort_by(|a, b| natural_order(&a.name, &b.name));
    nodes.retain(|node| arguments.nodes.is_empty() || arguments.nodes.contains(&node.name));
    print!("{}", draw(&nodes, arguments.source, now()));
    for node in nodes.iter().filter(|node| !node.error.is_empty()) {
        report_silent(&node.name, &node.error);
    }
    Ok(())
}

/// An actor and the actors below it.
#[derive(Default)]
struct Branch<'a> {
    actor: Option<&'a Actor>,
    children: Vec<(&'a str, Self)>,
}

impl<'a> Branch<'a> {
    fn insert(&mut self, path: &'a str, actor: &'a Actor) {
        let mut place = self;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let at = match place.children.iter().position(|(known, _)| *known == name) {
                Some(at) => at,
                None => {
                    place.children.push((name, Self::default()));
                    place.children.len() - 1
                }
            };
            place = &mut place.children[at].1;
        }
        place.actor = Some(actor);
    }
}

fn draw(nodes: &[NodeTree], source: bool, now: Timestamp) -> String {
    let mut root = Branch::default();
    for actor in nodes.iter().flat_map(|node| &node.actors) {
        root.insert(&actor.path, actor);
    }
    let mut lines = format!("ACTOR\tSTATE\tRESTARTS\tSINCE{}\n", if source { "\tSOURCE" } else { "" });
    for (name, branch) in &mut root.children {
        lines.push_str(&line(&format!("/{name}"), branch.actor, source, now));
        below(&mut lines, branch, "", source, now);
    }
    align(&lines)
}

fn below(lines: &mut String, branch: &mut Branch<'_>, indent: &str, source: bool, now: Timestamp) {
    branch.children.sort_by(|(a, _), (b, _)| natural_order(a, b));
    let last = branch.children.len().saturating_sub(1);
    for (at, (name, child)) in branch.children.iter_mut().enumerate() {
        let (corner, further) = if at == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        lines.push_str(&line(&format!("{indent}{corner}{name}"), child.actor, source, now));
        below(lines, child, &format!("{indent}{further}"), source, now);
    }
}

fn line(shown: &str, actor: Option<&Actor>, source: bool, now: Timestamp) -> String {
    let Some(actor) = actor else { return format!("{shown}\t\t\t{}\n", if source { "\t" } else { "" }) };
    let since = age(moment(actor.since), now);
    let mut line = format!("{shown}\t{}\t{}\t{since}", actor.state, actor.restarts);
    if source {
        line.push('\t');
        line.push_str(&actor.source);
    } else if !actor.reason.is_empty() {
        line.push_str(&format!(" ({})", actor.reason));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn children_stand_below_their_supervisor() {
        let actor = |path: &str, restarts: u64| json!({"path": path, "state": "running", "restarts": restarts, "since": "2026-11-20T18:58:00Z", "source": "actors/x"});
        let trees = json!({"nodes": [{"node": "a", "name": "n1", "actors": [
            actor("/n1", 0), actor("/n1/worker", 0), actor("/n1/worker/uplink", 2), actor("/n1/worker/task.web.3", 0), actor("/n1/roster", 0),
        ]}]});
        let nodes = read::<Trees>(trees).unwrap().nodes;
        let expected = "\
ACTOR               STATE     RESTARTS   SINCE
/n1                 running   0          5 seconds ago
├─ roster           running   0          5 seconds ago
└─ worker           running   0          5 seconds ago
   ├─ task.web.3    running   0          5 seconds ago
   └─ uplink        running   2          5 seconds ago
";
        let text = draw(&nodes, false, "2026-11-20T18:58:05Z".parse().unwrap());
        // The test compares order and lines; column widths belong to the table's own tests.
        let squeezed = |text: &str| {
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(squeezed(&text), squeezed(expected));
        assert!(draw(&nodes, true, Timestamp::UNIX_EPOCH).contains("actors/x"));
    }
}
