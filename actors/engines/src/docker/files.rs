//! The files that secrets and configs become in containers. The engine's API takes no bytes, so the daemon writes the
//! files in memory (`memory`), and the container gets a bind mount of each, read-only.

use crate::memory::{self, Folders};
use bollard::models::{Mount, MountType};
use essaim_model::{ContainerSpec, TaskId};
use essaim_worker::engine::{EngineError, Payloads};

/// Writes the files of a task, and returns the mounts that bring them into its container.
pub(super) fn write(
    folders: &Folders,
    node: &str,
    task: TaskId,
    container: &ContainerSpec,
    payloads: &Payloads,
) -> Result<Vec<Mount>, EngineError> {
    if container.files().next().is_none() {
        return Ok(Vec::new());
    }
    let folder = folders.create(node, task, None)?;
    let mut mounts = Vec::new();
    for (number, (payload, name, file)) in container.files().enumerate() {
        // A missing payload is refused by the worker.
        let Some(bytes) = payloads.get(&payload) else { continue };
        let path = folder.join(number.to_string());
        memory::place(&path, bytes, (payload, name), file)?;
        mounts.push(Mount {
            typ: Some(MountType::BIND),
            source: Some(path.to_string_lossy().into_owned()),
            target: Some(file.path_of(payload)),
            read_only: Some(true),
            ..Mount::default()
        });
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::fixture::{container, file, payloads};
    use essaim_wire::NodeId;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_written_for_their_owner_mounted_read_only_and_removed_with_the_task() {
        let base = tempfile::tempdir().expect("a folder");
        let folders = Folders::below(Some(base.path().into()));
        let (task, node) = (TaskId::from_bits(7), NodeId::from_bits(3));
        for _ in 0..2 {
            let mounts = write(&folders, &node.to_string(), task, &container(file("key")), &payloads());
            let mounts = mounts.expect("written");
            let places: Vec<_> = mounts.iter().map(|it| it.target.clone().unwrap_or_default()).collect();
            assert_eq!(places, ["/run/secrets/key", "/etc/site"]);
            assert!(mounts.iter().all(|it| it.read_only == Some(true)));
            let source = mounts[0].source.clone().expect("a source");
            assert_eq!(fs::read(&source).expect("readable"), b"s3cr3t");
            assert_eq!(fs::metadata(&source).expect("there").permissions().mode() & 0o777, 0o440);
        }
        folders.remove(task);
        assert_eq!(fs::read_dir(base.path()).expect("there").count(), 0);
    }
}
