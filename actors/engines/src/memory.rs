//! Folders in memory for the files that secrets and configs become, one for each task.
//!
//! The engines' tasks read them in two ways: a container has a mount of each file (`docker::files`), a host process the
//! path of the folder in its environment (`process::files`).
//!
//! ```text
//! /run/essaim/files/<engine>/<node id>/<task id>/…
//! ```
//!
//! The folder is below the first of these that this daemon can write and that is a `tmpfs`: `/run`, the daemon user's
//! `XDG_RUNTIME_DIR`, and `/dev/shm`, where it is `essaim-<uid>`, because every user of the machine may write there. A
//! task's folder can be entered by the task's user only.
//!
//! Files are written before the task starts, and removed when it has ended. What a killed daemon left is removed when
//! the daemon finds its tasks again. After a loss of power nothing of them is left, and no task is started a second
//! time. The kernel may write a `tmpfs` to swap; a machine that must not do so has encrypted swap or none.

use essaim_model::service::FileTarget;
use essaim_model::{PayloadId, TaskId};
use essaim_wire::NodeId;
use essaim_worker::engine::EngineError;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{getegid, geteuid};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// The folders of all tasks of one engine.
pub(crate) struct Folders {
    /// Folder in memory; `None` when this machine has none.
    base: Option<PathBuf>,
    /// Folders of tasks that were prepared by this daemon, or found by it.
    folders: Mutex<BTreeMap<TaskId, PathBuf>>,
}

impl Folders {
    /// The folders of the engine with this word.
    pub(crate) fn new(engine: &str) -> Self {
        let own = std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("essaim"));
        let shared = Path::new("/dev/shm").join(format!("essaim-{}", geteuid()));
        let places = [Some("/run/essaim".into()), own, Some(shared)];
        let usable = places.into_iter().flatten().find(|place| open_place(place).is_ok());
        Self::below(usable.map(|place| place.join("files").join(engine)))
    }

    pub(crate) fn below(base: Option<PathBuf>) -> Self {
        Self { base, folders: Mutex::default() }
    }

    /// Makes an empty folder for a task that runs as `owner`, in place of a former attempt's. `None` keeps the daemon's
    /// own user.
    pub(crate) fn create(&self, node: &str, task: TaskId, owner: Option<(u32, u32)>) -> Result<PathBuf, EngineError> {
        let words = "secrets and configs need a folder in memory, and neither /run nor /dev/shm is a tmpfs that this \
                     daemon can write";
        let base = self.base.as_ref().ok_or_else(|| EngineError::Rejected(words.into()))?;
        let folder = base.join(node).join(task.to_string());
        let make = || {
            if let Some(node) = folder.parent() {
                // Users of other tasks may pass through, and list nothing.
                fs::DirBuilder::new().recursive(true).mode(0o711).create(node)?;
            }
            remove_folder(&folder)?;
            fs::DirBuilder::new().mode(0o700).create(&folder)?;
            owner.map_or(Ok(()), |(uid, gid)| chown(&folder, Some(uid), Some(gid)))
        };
        // Under the lock, because the end of another task removes the node's folder when it is empty.
        let mut folders = self.folders.lock();
        make().map_err(|why| failed(&folder, &why))?;
        folders.insert(task, folder.clone());
        Ok(folder)
    }

    /// Removes the files of a task that has ended.
    pub(crate) fn remove(&self, task: TaskId) {
        let mut folders = self.folders.lock();
        if let Some(folder) = folders.remove(&task) {
            forget(&folder);
            // The node's folder; refused while another task has files.
            let _ = folder.parent().map(fs::remove_dir);
        }
    }

    /// Takes over the files of the tasks in `live` that an earlier daemon of this node wrote, and removes those of all
    /// other tasks.
    pub(crate) fn adopt(&self, node: NodeId, live: &BTreeSet<TaskId>) {
        let Some(base) = &self.base else { return };
        let folder_of_node = base.join(node.to_string());
        let found = fs::read_dir(&folder_of_node).into_iter().flatten().flatten();
        let mut folders = self.folders.lock();
        for folder in found {
            let Some(task) = folder.file_name().to_str().and_then(|name| name.parse::<TaskId>().ok()) else { continue };
            if live.contains(&task) {
                folders.insert(task, folder.path());
            } else if !folders.contains_key(&task) {
                forget(&folder.path());
            }
        }
        // Refused while a task has files.
        let _ = fs::remove_dir(folder_of_node);
    }
}

/// Makes a place for files in memory if there is none, and refuses one that is no `tmpfs`, or that another user could
/// have prepared.
fn open_place(place: &Path) -> io::Result<()> {
    let files = place.join("files");
    // Nothing is left on a machine whose `/run` is on a disk.
    let exists = if place.exists() { Some(place) } else { place.parent() };
    if exists.map(statfs).transpose()?.is_none_or(|found| found.filesystem_type() != TMPFS_MAGIC) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "it is not in memory"));
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(place)?;
    fs::DirBuilder::new().recursive(true).mode(0o711).create(&files)?;
    for folder in [place, &files] {
        let found = fs::symlink_metadata(folder)?;
        if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o022 != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user"));
        }
    }
    Ok(())
}

/// Writes a new file with the owner and the permissions that `file` names. `payload` and `name` are those of the secret
/// or config, for the words of a refusal.
pub(crate) fn place(
    path: &Path,
    bytes: &[u8],
    (payload, name): (PayloadId, &str),
    file: &FileTarget,
) -> Result<(), EngineError> {
    let word = payload.word();
    let id = |what: &str, text: &str| {
        let words = || format!("the {what} of the file of {word} {name:?} is not a number: {text:?}");
        text.parse::<u32>().map_err(|_| EngineError::Rejected(words()))
    };
    let (uid, gid) = (id("uid", &file.uid)?, id("gid", &file.gid)?);
    let (own_uid, own_gid) = (geteuid().as_raw(), getegid().as_raw());
    // Clients name user and group 0 when nobody chose any. A daemon without root cannot give files away, and its own
    // user is to its tasks what root is to a container.
    let (uid, gid) = match own_uid {
        0 => (uid, gid),
        _ => (if uid == 0 { own_uid } else { uid }, if gid == 0 { own_gid } else { gid }),
    };
    let write = || {
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        out.write_all(bytes)?;
        if (uid, gid) != (own_uid, own_gid) {
            chown(path, Some(uid), Some(gid))?;
        }
        fs::set_permissions(path, Permissions::from_mode(file.mode & 0o7777))
    };
    write().map_err(|why| match why.kind() {
        io::ErrorKind::PermissionDenied if own_uid != 0 => EngineError::Rejected(format!(
            "the file of {word} {name:?} is to belong to user {uid} and group {gid}, and only a daemon that runs as root \
             can give files away"
        )),
        io::ErrorKind::AlreadyExists => {
            EngineError::Rejected(format!("the file of {word} {name:?} is that of another one: {}", file.name))
        }
        _ => failed(path, &why),
    })
}

/// The refusal of a task whose files cannot be written.
pub(crate) fn failed(path: &Path, why: &io::Error) -> EngineError {
    EngineError::Rejected(format!("cannot write {}: {why}", path.display()))
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn forget(folder: &Path) {
    if let Err(why) = remove_folder(folder) {
        tracing::warn!(folder = %folder.display(), %why, "the files of an ended task cannot be removed");
    }
}

/// Secrets and configs for the tests of both engines. For tests only.
#[cfg(test)]
pub(crate) mod fixture {
    use essaim_model::service::{
        ConfigReference, ConfigReferences, ConfigTarget, FileTarget, SecretReference, SecretReferences,
    };
    use essaim_model::{ConfigId, ContainerSpec, Image, PayloadId, SecretId};
    use essaim_worker::engine::Payloads;
    use nix::unistd::{getgid, getuid};

    pub(crate) fn file(name: &str) -> FileTarget {
        FileTarget { name: name.into(), uid: getuid().to_string(), gid: getgid().to_string(), mode: 0o440 }
    }

    /// A container with a secret in this file, and a config in `/etc/site`.
    pub(crate) fn container(file: FileTarget) -> ContainerSpec {
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

    pub(crate) fn payloads() -> Payloads {
        let secret = (PayloadId::Secret(SecretId::from_bits(1)), b"s3cr3t"[..].into());
        Payloads::from([secret, (PayloadId::Config(ConfigId::from_bits(2)), b"<h1>"[..].into())])
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::file;
    use super::*;
    use essaim_model::SecretId;

    #[test]
    fn a_daemon_that_returns_keeps_the_files_of_live_tasks_and_removes_the_others() {
        let base = tempfile::tempdir().expect("a folder");
        let (node, live, dead) = (NodeId::from_bits(3), TaskId::from_bits(7), TaskId::from_bits(8));
        let before = Folders::below(Some(base.path().into()));
        for task in [live, dead] {
            before.create(&node.to_string(), task, None).expect("made");
        }
        let after = Folders::below(Some(base.path().into()));
        let new = TaskId::from_bits(9);
        after.create(&node.to_string(), new, None).expect("made");
        after.adopt(node, &[live].into());
        let there = |task: TaskId| base.path().join(node.to_string()).join(task.to_string()).exists();
        assert_eq!([live, dead, new].map(there), [true, false, true], "one that is being prepared is kept");
        after.remove(live);
        assert!(!there(live));
        after.remove(new);
        before.create(&node.to_string(), dead, None).expect("made");
        after.adopt(node, &BTreeSet::new());
        assert_eq!(fs::read_dir(base.path()).expect("there").count(), 0, "nor is anything of the node");
    }

    #[test]
    fn a_place_on_a_disk_or_of_another_user_is_not_used() {
        let on_disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder");
        assert!(open_place(&on_disk.path().join("essaim")).is_err());
        assert_eq!(fs::read_dir(on_disk.path()).expect("there").count(), 0);
        let in_memory = tempfile::tempdir_in("/dev/shm").expect("a folder");
        let place = in_memory.path().join("essaim");
        open_place(&place).expect("in memory");
        fs::set_permissions(&place, Permissions::from_mode(0o777)).expect("ours");
        assert!(open_place(&place).is_err(), "anyone can write there");
        let link = in_memory.path().join("link");
        std::os::unix::fs::symlink(on_disk.path(), &link).expect("made");
        assert!(open_place(&link).is_err(), "a link may lead anywhere");
    }

    #[test]
    fn what_cannot_be_written_rejects_the_task_in_words() {
        let none = Folders::below(None);
        let Err(EngineError::Rejected(words)) = none.create("n", TaskId::from_bits(7), None) else { panic!("made") };
        assert!(words.contains("neither /run nor /dev/shm is a tmpfs"), "{words}");
        let base = tempfile::tempdir().expect("a folder");
        let key = (PayloadId::Secret(SecretId::from_bits(1)), "key");
        let named = FileTarget { uid: "root".into(), ..file("key") };
        let refused = place(&base.path().join("key"), b"x", key, &named);
        let words = "the uid of the file of secret \"key\" is not a number: \"root\"";
        assert_eq!(refused, Err(EngineError::Rejected(words.into())));
    }
}
