//! Names and labels of containers: what tells the containers of a node's tasks from all others.

use super::client::{CallError, ask};
use bollard::Docker;
use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptionsBuilder;
use essaim_model::TaskId;
use essaim_wire::NodeId;
use std::collections::HashMap;

/// Label with the id of a container's task.
pub(super) const TASK_LABEL: &str = "com.docker.swarm.task.id";

/// Label with the name of a container's task.
const TASK_NAME_LABEL: &str = "com.docker.swarm.task.name";

/// Label with the id of the node that created a container.
pub(super) const NODE_LABEL: &str = "com.docker.swarm.node.id";

/// A container of ours, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// Id of the container.
    pub(super) container: String,
    /// Id of the container's task.
    pub(super) task: TaskId,
    /// Name of the container's task.
    pub(super) name: String,
}

/// Lists the containers of a node's tasks, in whatever state they are. Containers of other nodes on the same engine,
/// and containers that no node created, are not listed.
pub(super) async fn of_node(docker: &Docker, node: NodeId) -> Result<Vec<Listed>, CallError> {
    list(docker, format!("{NODE_LABEL}={node}")).await
}

/// Finds the container of a task.
pub(super) async fn of_task(docker: &Docker, task: TaskId) -> Result<Option<String>, CallError> {
    let found = list(docker, format!("{TASK_LABEL}={task}")).await?;
    Ok(found.into_iter().next().map(|it| it.container))
}

async fn list(docker: &Docker, label: String) -> Result<Vec<Listed>, CallError> {
    let options = ListContainersOptionsBuilder::new().all(true).filters(&HashMap::from([("label", vec![label])]));
    let found = ask(|| docker.list_containers(Some(options.clone().build()))).await?;
    Ok(found.into_iter().filter_map(listed).collect())
}

/// A container with the labels of a task; `None` for one without, which is not ours.
fn listed(found: ContainerSummary) -> Option<Listed> {
    let labels = found.labels.unwrap_or_default();
    let task = labels.get(TASK_LABEL)?.parse().ok()?;
    Some(Listed { container: found.id?, task, name: labels.get(TASK_NAME_LABEL).cloned().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_without_the_labels_of_a_task_is_not_ours() {
        let task = TaskId::from_bits(7);
        let found = |labels: &[(&str, String)]| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
            listed(ContainerSummary { id: Some("c".into()), labels: Some(labels), ..ContainerSummary::default() })
        };
        let name = "web.1.x".to_owned();
        let ours = found(&[(TASK_LABEL, task.to_string()), (TASK_NAME_LABEL, name.clone())]);
        assert_eq!(ours, Some(Listed { container: "c".into(), task, name }));
        assert_eq!(found(&[(NODE_LABEL, "n".into())]), None);
        assert_eq!(found(&[(TASK_LABEL, "nonsense".into())]), None);
    }
}
