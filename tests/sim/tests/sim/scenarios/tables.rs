//! Output of a scenario as the tables that `docker` prints: the same columns, without ids, ages, and columns that no
//! scenario needs.

use super::words::Names;
use essaim::testkit::fault::Number;
use essaim_docker::node::Node;
use essaim_docker::service::Service;
use essaim_docker::task::Task;
use std::collections::BTreeMap;

/// Table of `docker node ls`, with the message that `docker node inspect` shows.
pub(super) fn nodes(nodes: &[Node], names: &Names) -> Vec<String> {
    let mut rows = vec![row(["NODE", "STATUS", "AVAILABILITY", "MANAGER", "MESSAGE"])];
    let mut sorted: Vec<&Node> = nodes.iter().collect();
    sorted.sort_by_key(|node| natural(&names.node(&node.id)));
    for node in sorted {
        let manager = match &node.manager_status {
            Some(manager) if manager.leader => "Leader".into(),
            Some(manager) => capital(&manager.reachability),
            None => String::new(),
        };
        rows.push(vec![
            names.node(&node.id),
            capital(&node.status.state),
            capital(&node.spec.availability),
            manager,
            names.clean(&node.status.message),
        ]);
    }
    align(&rows)
}

/// Table of `docker service ls`, with the state of the update that `docker service inspect` shows.
pub(super) fn services(services: &[Service]) -> Vec<String> {
    let mut rows = vec![row(["SERVICE", "MODE", "REPLICAS", "IMAGE", "UPDATE"])];
    let mut sorted: Vec<&Service> = services.iter().collect();
    sorted.sort_by_key(|service| service.spec.name.clone());
    for service in sorted {
        let mode = if service.spec.mode.global.is_some() { "global" } else { "replicated" };
        let count = service.service_status.as_ref();
        let replicas = count.map(|it| format!("{}/{}", it.running_tasks, it.desired_tasks)).unwrap_or_default();
        let image = service.spec.task_template.container_spec.as_ref().map(|it| it.image.clone()).unwrap_or_default();
        let update = service.update_status.as_ref().map(|it| format!("{}: {}", it.state, it.message));
        let update = update.map(|text| Names::default().clean(&text)).unwrap_or_default();
        rows.push(vec![service.spec.name.clone(), mode.into(), replicas, image, update]);
    }
    align(&rows)
}

/// Table of `docker service ps --no-trunc`: the tasks of a slot stand together, the newest first.
pub(super) fn tasks(service: &str, tasks: &[Task], names: &Names) -> Vec<String> {
    let mut rows = vec![row(["TASK", "NODE", "DESIRED", "CURRENT", "ERROR"])];
    let name = |task: &Task| match task.slot {
        0 => format!("{service}.{}", names.node(&task.node_id)),
        slot => format!("{service}.{slot}"),
    };
    let mut sorted: Vec<(String, &Task)> = tasks.iter().map(|task| (name(task), task)).collect();
    sorted.sort_by(|(a, x), (b, y)| {
        let newest_first = (y.created_at, &y.id).cmp(&(x.created_at, &x.id));
        natural(a).cmp(&natural(b)).then(newest_first)
    });
    let mut before = String::new();
    for (name, task) in sorted {
        let shown = if name == before { format!(" \\_ {name}") } else { name.clone() };
        before = name;
        rows.push(vec![
            shown,
            names.node(&task.node_id),
            capital(&task.desired_state),
            capital(&task.status.state),
            names.clean(&task.status.err),
        ]);
    }
    align(&rows)
}

/// A line for each node: the number of tasks with desired state `running`, by observed state.
pub(super) fn spread(tasks: &[Task], nodes: Number, names: &Names) -> Vec<String> {
    let wanted = tasks.iter().filter(|task| task.desired_state == "running");
    let mut counts: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for task in wanted {
        let of_node = counts.entry(names.node(&task.node_id)).or_default();
        *of_node.entry(task.status.state.clone()).or_default() += 1;
    }
    let said = |name: &str| {
        let states = counts.get(name)?;
        let words: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        Some(format!("{name}: {}", words.join(", ")))
    };
    let mut lines: Vec<String> =
        (1..=nodes).map(|number| said(&format!("n{number}")).unwrap_or_else(|| format!("n{number}: none"))).collect();
    lines.extend(said("-").map(|text| text.replacen("-:", "nowhere:", 1)));
    lines
}

/// Table of the machines: the tasks that run there now, and the number of tasks that were ever started.
pub(super) fn machines(machines: impl Iterator<Item = (Number, BTreeMap<String, usize>, u64)>) -> Vec<String> {
    let mut rows = vec![row(["MACHINE", "RUNS", "EVER STARTED"])];
    for (number, tasks, starts) in machines {
        let tasks: Vec<String> = tasks.into_iter().map(|(service, count)| format!("{count} {service}")).collect();
        let runs = if tasks.is_empty() { "nothing".into() } else { tasks.join(", ") };
        rows.push(vec![format!("n{number}"), runs, starts.to_string()]);
    }
    align(&rows)
}

/// Lines with cells padded to the width of their column, without trailing blanks.
pub(super) fn align(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(widths.iter().copied()).map(|(cell, width)| format!("{cell:width$}  "));
            cells.collect::<String>().trim_end().to_owned()
        })
        .collect()
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

/// Sort key by which `web.2` comes before `web.10`, and `n2` before `n10`.
fn natural(text: &str) -> (String, u64) {
    let digits = text.len() - text.trim_end_matches(|letter: char| letter.is_ascii_digit()).len();
    let (name, number) = text.split_at(text.len() - digits);
    (name.into(), number.parse().unwrap_or_default())
}
