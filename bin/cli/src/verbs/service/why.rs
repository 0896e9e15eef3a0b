//! `essaim service why`: why a service runs where it runs, or does not run.

use essaim_docker::own::Why;
use serde_json::Value;

use crate::client::{Client, encoded};
use crate::exit::Failure;
use crate::show::{Field, List};

/// Arguments of `essaim service why`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Format output using a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Name or id of the service
    service: String,
}

const FIELDS: &[Field] = &[
    ("Node", "NODE"),
    ("ID", "ID"),
    ("Rank", "RANK"),
    ("Tasks", "TASKS OF SERVICE"),
    ("AllTasks", "ALL TASKS"),
    ("Reason", "REASON"),
];

const TABLE: &str = "{{.Node}}\t{{.Rank}}\t{{.Tasks}}\t{{.AllTasks}}\t{{.Reason}}";

/// Runs `essaim service why`.
pub(crate) async fn run(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let answer = client.get_json(&format!("/essaim/v1/services/{}/why", encoded(&arguments.service))).await?;
    let why: Why = read(answer)?;
    if arguments.format.is_none() {
        print!("{}", slots(&why));
    }
    print!("{}", table(&why).render(arguments.format.as_deref())?);
    Ok(())
}

fn read(answer: Value) -> Result<Why, Failure> {
    serde_json::from_value(answer).map_err(|error| {
        Failure::error(format!("the daemon's answer is not what this program expects: {error}"))
            .next("use the `essaim` that the daemon was started with")
    })
}

/// What the slots without a running task wait for, one line each.
fn slots(why: &Why) -> String {
    let line = |slot: &str, reason: &str| format!("{}.{slot}: {reason}\n", why.name);
    let mut text: String = why.slots.iter().map(|it| line(&it.slot, &it.reason)).collect();
    match (why.slots.len(), why.more) {
        (0, _) => text.push_str("every slot has a running task\n"),
        (_, 0) => (),
        (_, more) => text.push_str(&format!("and {more} more slots without a running task\n")),
    }
    text.push('\n');
    text
}

fn table(why: &Why) -> List {
    let mut table = List::new(FIELDS, TABLE);
    for node in &why.nodes {
        let avoided = match node.failures {
            0 => String::new(),
            failures => format!("avoided: {failures} failures in five minutes"),
        };
        let refusal = if node.refusal.is_empty() { avoided } else { node.refusal.clone() };
        let fault = if node.fault.is_empty() { String::new() } else { format!("the last task there: {}", node.fault) };
        let reason = [refusal, fault, node.unpublished.clone()]
            .into_iter()
            .filter(|it| !it.is_empty())
            .collect::<Vec<_>>()
            .join("; ");
        table.push([
            node.name.as_str().into(),
            node.node.as_str().into(),
            node.rank.map_or_else(|| "-".to_owned(), |rank| rank.to_string()).into(),
            node.of_service.into(),
            node.tasks.into(),
            reason.into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nodes_are_listed_with_their_rank_or_their_reason_after_the_slots_that_wait() {
        let node = |name: &str, rank: Value, refusal: &str| json!({"node": "id", "name": name, "rank": rank, "refusal": refusal, "of_service": 1, "tasks": 2});
        let why = read(json!({
            "service": "id", "name": "web", "more": 2,
            "slots": [{"slot": "3", "reason": "no suitable node (insufficient resources on 1 node)"}],
            "nodes": [node("n1", json!(1), ""), node("n2", Value::Null, "not available for new tasks (drain)")],
        }));
        let mut why = why.expect("an answer");
        why.nodes[0].fault = "rejected: no such path: /srv".into();
        why.nodes[1].unpublished = "port 80/tcp is not published: held by nginx (pid 7)".into();
        assert_eq!(
            slots(&why),
            "web.3: no suitable node (insufficient resources on 1 node)\nand 2 more slots without a running task\n\n"
        );
        let shown =
            table(&why).render(Some("{{.Node}}|{{.Rank}}|{{.Tasks}}|{{.AllTasks}}|{{.Reason}}")).expect("shown");
        assert_eq!(
            shown,
            "n1|1|1|2|the last task there: rejected: no such path: /srv\nn2|-|1|2|not available for new tasks \
             (drain); port 80/tcp is not published: held by nginx (pid 7)\n"
        );
    }
}
