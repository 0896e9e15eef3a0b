//! The files that secrets and configs become: they lie in memory, below a folder of this machine's `tmpfs`, and each is
//! mounted into its container read-only.
//!
//! The engine's API takes no bytes, so the daemon writes the files and the container gets bind mounts of them:
//!
//! ```text
//! /run/essaim/files/<node id>/<task id>/<number>
//! ```
//!
//! They are written before the container is created, and removed when its task has ended. What a killed daemon left is
//! removed when the daemon finds its tasks again. After a loss of power nothing of them is left, and no container is
//! started a second time. The kernel may write a `tmpfs` to swap; a machine that must not do so has encrypted swap or none.

use bollard::models::{Mount, MountType};
use essaim_model::service::FileTarget;
use essaim_model::{ContainerSpec, PayloadId, TaskId};
use essaim_wire::NodeId;
use essaim_worker::engine::{EngineError, Payloads};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Folders that are in memory on machines of today, in the order of preference.
const IN_MEMORY: [&str; 2] = ["/run", "/dev/shm"];

/// The files of all tasks of this engine.
pub(super) struct Files {
    /// Folder in memory; `None` when this machine has none.
    base: Option<PathBuf>,
    /// Folders of tasks that were prepared by this daemon, or found by it.
    folders: Mutex<BTreeMap<TaskId, PathBuf>>,
}

impl Files {
    pub(super) fn new() -> Self {
        let is_in_memory = |path: &&&str| statfs(**path).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC);
        Self::below(IN_MEMORY.iter().find(is_in_memory).map(|path| Path::new(path).join("essaim/files")))
    }

    fn below(base: Option<PathBuf>) -> Self {
        Self { base, folders: Mutex::default() }
    }

    /// Writes the files of a task, and returns the mounts that bring them into its container.
    pub(super) fn write(
        &self,
        node: &str,
        task: TaskId,
        container: &ContainerSpec,
        payloads: &Payloads,
    ) -> Result<Vec<Mount>, EngineError> {
        if container.files().next().is_none() {
            return Ok(Vec::new());
        }
        let words = "secrets and configs need a folder in memory, and neither /run nor /dev/shm is a tmpfs here";
        let base = self.base.as_ref().ok_or_else(|| EngineError::Rejected(words.into()))?;
        let folder = base.join(node).join(task.to_string());
        self.folders.lock().insert(task, folder.clone());
        let failed = |why: io::Error| EngineError::Rejected(format!("cannot write {}: {why}", folder.display()));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        let mut mounts = Vec::new();
        for (number, (payload, name, file)) in container.files().enumerate() {
            // A missing payload is refused by the worker.
            let Some(bytes) = payloads.get(&payload) else { continue };
            let path = folder.join(number.to_string());
            let (uid, gid) = (id("uid", name, &file.uid)?, id("gid", name, &file.gid)?);
            place(&path, bytes, (uid, gid), file.mode).map_err(failed)?;
            mounts.push(Mount {
                typ: Some(MountType::BIND),
                source: Some(path.to_string_lossy().into_owned()),
                target: Some(target(payload, file)),
                read_only: Some(true),
                ..Mount::default()
            });
        }
        Ok(mounts)
    }

    /// Removes the files of a task that has ended.
    pub(super) fn remove(&self, task: TaskId) {
        if let Some(folder) = self.folders.lock().remove(&task) {
            remove_folder(&folder);
        }
    }

    /// Takes over the files of the tasks in `live` that an earlier daemon of this node wrote, and removes those of all
    /// other tasks.
    pub(super) fn adopt(&self, node: NodeId, live: &BTreeSet<TaskId>) {
        let Some(base) = &self.base else { return };
        let found = fs::read_dir(base.join(node.to_string())).into_iter().flatten().flatten();
        let mut folders = self.folders.lock();
        for folder in found {
            let Some(task) = folder.file_name().to_str().and_then(|name| name.parse::<TaskId>().ok()) else { continue };
            if live.contains(&task) {
                folders.insert(task, folder.path());
            } else if !folders.contains_key(&task) {
                remove_folder(&folder.path());
            }
        }
    }
}

/// Path of a file in its container, as in Swarm: a secret without a path is in `/run/secrets`, a config in `/`.
fn target(payload: PayloadId, file: &FileTarget) -> String {
    match payload {
        _ if file.name.starts_with('/') => file.name.clone(),
        PayloadId::Secret(_) => format!("/run/secrets/{}", file.name),
        PayloadId::Config(_) => format!("/{}", file.name),
    }
}

fn id(what: &str, name: &str, text: &str) -> Result<u32, EngineError> {
    text.parse()
        .map_err(|_| EngineError::Rejected(format!("the {what} of the file of {name:?} is not a number: {text:?}")))
}

/// Writes a file anew, whatever a former attempt left.
fn place(path: &Path, bytes: &[u8], (uid, gid): (u32, u32), mode: u32) -> io::Result<()> {
    fs::write(path, bytes)?;
    chown(path, Some(uid), Some(gid))?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn remove_folder(folder: &Path) {
    if let Err(why) = fs::remove_dir_all(folder)
        && why.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %why, "the files of an ended task cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::service::{ConfigReference, ConfigReferences, ConfigTarget, SecretReference, SecretReferences};
    use essaim_model::{ConfigId, Image, SecretId};
    use nix::unistd::{getgid, getuid};

    fn file(name: &str) -> FileTarget {
        FileTarget { name: name.into(), uid: getuid().to_string(), gid: getgid().to_string(), mode: 0o440 }
    }

    fn container(file: FileTarget) -> ContainerSpec {
        let mut container = ContainerSpec::new(Image::parse("web:1").expect("an image"));
        let config = ConfigReference {
            id: ConfigId::from_bits(2),
            name: "site".into(),
            target: ConfigTarget::File(FileTarget { name: "/etc/site".into(), ..file.clone() }),
        };
        let secret = SecretReference { id: SecretId::from_bits(1), name: "key".into(), file };
        container.secrets = SecretReferences::parse(vec![secret]).expect("one file");
        container.configs = ConfigReferences::parse(vec![config]).expect("one file");
        container
    }

    fn payloads() -> Payloads {
        let secret = (PayloadId::Secret(SecretId::from_bits(1)), b"s3cr3t"[..].into());
        Payloads::from([secret, (PayloadId::Config(ConfigId::from_bits(2)), b"<h1>"[..].into())])
    }

    #[test]
    fn files_are_written_for_their_owner_mounted_read_only_and_removed_with_the_task() {
        let base = tempfile::tempdir().expect("a folder");
        let files = Files::below(Some(base.path().into()));
        let (task, node) = (TaskId::from_bits(7), NodeId::from_bits(3));
        for _ in 0..2 {
            let mounts = files.write(&node.to_string(), task, &container(file("key")), &payloads()).expect("written");
            let places: Vec<_> = mounts.iter().map(|it| it.target.clone().unwrap_or_default()).collect();
            assert_eq!(places, ["/run/secrets/key", "/etc/site"]);
            assert!(mounts.iter().all(|it| it.read_only == Some(true)));
            let source = mounts[0].source.clone().expect("a source");
            assert_eq!(fs::read(&source).expect("readable"), b"s3cr3t");
            assert_eq!(fs::metadata(&source).expect("there").permissions().mode() & 0o777, 0o440);
        }
        files.remove(task);
        assert_eq!(fs::read_dir(base.path().join(node.to_string())).expect("the node's").count(), 0);
    }

    #[test]
    fn a_daemon_that_returns_keeps_the_files_of_live_tasks_and_removes_the_others() {
        let base = tempfile::tempdir().expect("a folder");
        let (node, live, dead) = (NodeId::from_bits(3), TaskId::from_bits(7), TaskId::from_bits(8));
        let before = Files::below(Some(base.path().into()));
        for task in [live, dead] {
            before.write(&node.to_string(), task, &container(file("key")), &payloads()).expect("written");
        }
        let after = Files::below(Some(base.path().into()));
        let new = TaskId::from_bits(9);
        after.write(&node.to_string(), new, &container(file("key")), &payloads()).expect("written");
        after.adopt(node, &[live].into());
        let there = |task: TaskId| base.path().join(node.to_string()).join(task.to_string()).exists();
        assert_eq!([live, dead, new].map(there), [true, false, true], "one that is being prepared is kept");
        after.remove(live);
        assert!(!there(live));
    }

    #[test]
    fn what_cannot_be_written_rejects_the_task_in_words() {
        let none = Files::below(None);
        let words = |files: &Files, file| match files.write("n", TaskId::from_bits(7), &container(file), &payloads()) {
            Err(EngineError::Rejected(words)) => words,
            other => panic!("{other:?}"),
        };
        assert!(words(&none, file("key")).contains("neither /run nor /dev/shm is a tmpfs"));
        let base = tempfile::tempdir().expect("a folder");
        let files = Files::below(Some(base.path().into()));
        let named = FileTarget { uid: "root".into(), ..file("key") };
        assert_eq!(words(&files, named), "the uid of the file of \"key\" is not a number: \"root\"");
    }
}
