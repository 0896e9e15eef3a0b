//! The files that secrets and configs become for host processes.
//!
//! A host process shares the machine's file system, so nothing can be mounted for it alone. Its files are in a folder in
//! memory (`memory`) that only the task's user can enter, each at the path that it would have in a container, below that
//! folder. Two variables tell the process where: `ESSAIM_FILES` is the folder, and `ESSAIM_SECRETS` its
//! `run/secrets`.

use crate::memory::{self, Folders};
use essaim_model::{ContainerSpec, TaskId};
use essaim_worker::engine::{EngineError, Payloads};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Environment variable with the folder of a task's files.
pub(super) const FILES_ENV: &str = "ESSAIM_FILES";

/// Environment variable with the folder of those secrets that have no path of their own.
const SECRETS_ENV: &str = "ESSAIM_SECRETS";

/// Writes the files of a task that runs as `owner`; `None` is the daemon's own user. Returns the variables that tell the
/// task where they are; none when it has no files.
pub(super) fn write(
    folders: &Folders,
    (node, task): (&str, TaskId),
    owner: Option<(u32, u32)>,
    container: &ContainerSpec,
    payloads: &Payloads,
) -> Result<Vec<(String, String)>, EngineError> {
    if container.files().next().is_none() {
        return Ok(Vec::new());
    }
    let folder = folders.create(node, task, owner)?;
    for (payload, name, file) in container.files() {
        // A missing payload is refused by the worker.
        let Some(bytes) = payloads.get(&payload) else { continue };
        let word = payload.word();
        let within = below(&file.path_of(payload)).ok_or_else(|| {
            EngineError::Rejected(format!("the file of {word} {name:?} is outside of the task's folder: {}", file.name))
        })?;
        let path = folder.join(within);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|why| memory::failed(parent, &why))?;
        }
        memory::place(&path, bytes, (payload, name), file)?;
    }
    let text = |path: &Path| path.to_string_lossy().into_owned();
    Ok(vec![(FILES_ENV.into(), text(&folder)), (SECRETS_ENV.into(), text(&folder.join("run/secrets")))])
}

/// The path `path` of a container, below a folder that stands for `/`; `None` when it would leave that folder.
fn below(path: &str) -> Option<PathBuf> {
    let mut within = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::RootDir | Component::CurDir => (),
            Component::Normal(name) => within.push(name),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (!within.as_os_str().is_empty()).then_some(within)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::fixture::{container, file, payloads};
    use std::os::unix::fs::PermissionsExt;

    const TASK: TaskId = TaskId::from_bits(7);

    #[test]
    fn files_have_the_paths_that_they_have_in_a_container_below_the_folder_of_the_task() {
        let base = tempfile::tempdir().expect("a folder");
        let folders = Folders::below(Some(base.path().into()));
        let told = write(&folders, ("n", TASK), None, &container(file("key")), &payloads()).expect("written");
        let folder = base.path().join("n").join(TASK.to_string());
        assert_eq!(told[0], ("ESSAIM_FILES".to_owned(), folder.to_string_lossy().into_owned()));
        assert_eq!(told[1].0, "ESSAIM_SECRETS");
        assert_eq!(fs::read(Path::new(&told[1].1).join("key")).expect("readable"), b"s3cr3t");
        assert_eq!(fs::read(folder.join("etc/site")).expect("readable"), b"<h1>");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("etc/site"))), (0o700, 0o440));
        folders.remove(TASK);
        assert!(!folder.exists());
    }

    #[test]
    fn a_file_outside_of_the_folder_or_in_place_of_another_rejects_the_task() {
        let base = tempfile::tempdir().expect("a folder");
        let folders = Folders::below(Some(base.path().into()));
        let check = |name: &str, words: &str| {
            let written = write(&folders, ("n", TASK), None, &container(file(name)), &payloads());
            let Err(EngineError::Rejected(why)) = written else { panic!("written: {name}") };
            assert!(why.contains(words), "{why}");
        };
        assert_eq!(below("/a/../../key"), None, "no path of a task has dots; one that had would not be followed");
        write(&folders, ("n", TASK), None, &container(file("../../key")), &payloads()).expect("it is /key of the task");
        assert!(base.path().join("n").join(TASK.to_string()).join("key").exists());
        check("/etc/site", "the file of config \"site\" is that of another one: /etc/site");
    }
}
