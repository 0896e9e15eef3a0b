//! A task's folder: its files, their formats, and how they are written.
//!
//! Each file is written under another name and renamed, so that it is either whole or absent. Only the `shim` file,
//! which says that a shim has begun, is synced to the disk, so that no task is started twice after a power cut. The
//! other files are of no use after a power cut, and syncing them too would be the longest part of a start. Daemons of
//! later versions read these formats when they adopt tasks of earlier ones, so each file begins with a version, and the
//! golden bytes below never change.

use bincode::{Decode, Encode};
use essaim_model::TaskId;
use essaim_wire::record;
use essaim_wire::{DecodeError, Timestamp, decode, encode};
use essaim_worker::engine::{Ended, EngineError, Exit, Run, Started};
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Environment variable that marks a process as part of a task, whatever its parent process is.
pub(crate) const TASK_ID_ENV: &str = "ESSAIM_TASK_ID";

/// Format version: the first byte of every file in a task's folder.
const VERSION: u8 = 1;

/// Contents of the `plan` file: what a shim needs to know to start its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launch {
    /// The task as the worker asked for it.
    pub(crate) run: Run,
    /// Path of the file to execute.
    pub(crate) program: String,
    /// Arguments of the program; the first is its name.
    pub(crate) argv: Vec<String>,
    /// Whole environment of the program; a later entry of the same name wins.
    pub(crate) env: Vec<(String, String)>,
    /// Working directory of the program.
    pub(crate) dir: String,
    /// User and group ids to change to; none keeps those of the daemon.
    pub(crate) ids: Option<(u32, u32)>,
    /// Path of the cgroup to put the task into.
    pub(crate) cgroup: Option<String>,
    /// Bytes per segment of the task's log, of which two are kept.
    pub(crate) log_segment_bytes: u64,
}
record!(Launch { 1: run, program, argv, env, dir, ids, cgroup, log_segment_bytes });

/// Contents of the `shim` file: a shim has begun, so this task must never be started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ShimFile {
    /// Process id of the shim.
    pub(crate) pid: i32,
}

/// Contents of the `started` file: the task runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct StartedFile {
    /// Process id of the task's main process.
    pub(crate) pid: u32,
    /// Time at which the main process started.
    pub(crate) at: Timestamp,
}

/// Contents of the `exit` file: how and when the task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ExitFile {
    /// How the task ended: by exit code, by signal, or lost.
    pub(crate) how: How,
    /// Time at which the end was written down.
    pub(crate) at: Timestamp,
}

/// How a task ended, in its stored form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) enum How {
    /// The main process exited with this code.
    Code(i32),
    /// The main process was killed by this signal.
    Signal(i32),
    /// The task ended while no shim observed it, so its exit status is unknown.
    Lost,
}

/// Handle on the folder of one task.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(crate) task: TaskId,
    path: PathBuf,
}

impl Folder {
    /// The folder of `task` below `root`.
    pub(crate) fn new(root: &Path, task: TaskId) -> Self {
        Self { task, path: root.join(task.to_string()) }
    }

    /// The folder at `path`, as given to a shim by its argument; none when the name is not a task id.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let task = path.file_name()?.to_str()?.parse().ok()?;
        Some(Self { task, path: path.into() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Creates the folder with its `plan`, whole or not at all.
    pub(crate) fn create(&self, plan: &Launch) -> io::Result<()> {
        let new = self.beside(NEW);
        remove_all(&new)?;
        DirBuilder::new().mode(0o700).create(&new)?;
        write(&new.join("plan"), plan)?;
        File::create(new.join("lock"))?;
        nix::unistd::mkfifo(&new.join("control"), nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR)?;
        std::fs::rename(&new, &self.path)
    }

    /// Removes the folder: it disappears from listings at once, by a rename, before its files are deleted.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let gone = self.beside(GONE);
        remove_all(&gone)?;
        match std::fs::rename(&self.path, &gone) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
        remove_all(&gone)
    }

    pub(crate) fn plan(&self) -> io::Result<Launch> {
        read(&self.path.join("plan"))
    }

    /// Opens the file that a living shim holds locked.
    pub(crate) fn lock(&self) -> io::Result<File> {
        File::options().read(true).write(true).open(self.path.join("lock"))
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.path.join("control")
    }

    pub(crate) fn shim(&self) -> Option<ShimFile> {
        read(&self.path.join("shim")).ok()
    }

    pub(crate) fn set_shim(&self, shim: ShimFile) -> io::Result<()> {
        write(&self.path.join("shim"), &shim)?;
        File::open(self.path.join("shim"))?.sync_all()?;
        File::open(&self.path)?.sync_all()
    }

    pub(crate) fn started(&self) -> Option<Started> {
        let file: StartedFile = read(&self.path.join("started")).ok()?;
        Some(Started::new(Some(file.pid), file.at))
    }

    pub(crate) fn set_started(&self, started: StartedFile) -> io::Result<()> {
        write(&self.path.join("started"), &started)
    }

    pub(crate) fn exit(&self) -> Option<Ended> {
        let file: ExitFile = read(&self.path.join("exit")).ok()?;
        let exit = match file.how {
            How::Code(code) => Exit::Code(code),
            How::Signal(signal) => Exit::Signal(signal),
            How::Lost => Exit::Lost,
        };
        Some(Ended { exit, at: file.at })
    }

    pub(crate) fn set_exit(&self, exit: ExitFile) -> io::Result<()> {
        write(&self.path.join("exit"), &exit)
    }

    /// Notes that a program is executed beside the task.
    pub(crate) fn mark_executed(&self) -> io::Result<()> {
        File::create(self.path.join("executed")).map(drop)
    }

    /// Whether a program was ever executed beside the task.
    pub(crate) fn was_executed(&self) -> bool {
        self.path.join("executed").exists()
    }

    fn beside(&self, prefix: &str) -> PathBuf {
        self.path.with_file_name(format!("{prefix}{}", self.task))
    }
}

/// Name prefix of folders that are being created or removed; one that a crash has left is deleted.
const NEW: &str = ".new-";
const GONE: &str = ".gone-";

/// Lists the tasks that have a folder below `root`, and deletes folders that were half created or half removed.
pub(crate) fn list(root: &Path) -> io::Result<Vec<TaskId>> {
    let mut tasks = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(NEW) || name.starts_with(GONE) {
            remove_all(&entry.path())?;
        } else if let Ok(task) = name.parse() {
            tasks.push(task);
        }
    }
    tasks.sort_unstable();
    Ok(tasks)
}

/// Creates `dir` and its parents, readable by this user only, because logs and environments may hold secrets.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn remove_all(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn write<T: Encode>(file: &Path, value: &T) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut out = File::create(&new)?;
    out.write_all(&[VERSION])?;
    out.write_all(&encode(value))?;
    std::fs::rename(&new, file)
}

fn read<T: Decode<()>>(file: &Path) -> io::Result<T> {
    let bytes = std::fs::read(file)?;
    let broken = |why: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", file.display()));
    match bytes.split_first() {
        Some((&VERSION, rest)) => decode(rest).map_err(|why| broken(why.to_string())),
        Some((&version, _)) if version > VERSION => {
            Err(broken(DecodeError::Newer { what: "file", found: version.into(), known: VERSION.into() }.to_string()))
        }
        Some((version, _)) => Err(broken(format!("unknown version {version}"))),
        None => Err(broken("empty".into())),
    }
}

/// Engine error for a file of a task's folder that cannot be read or written.
pub(crate) fn failed(what: &str, why: impl std::fmt::Display) -> EngineError {
    EngineError::Failed(format!("{what}: {why}"))
}

#[cfg(test)]
essaim_wire::golden_bytes!("process-folder": ShimFile, StartedFile, ExitFile, How, Launch);

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::service::Share;
    use essaim_model::{ContainerSpec, Image, Resources};

    fn plan() -> Launch {
        let image = Image::parse("sh:latest").expect("an image");
        let container = ContainerSpec { args: vec!["-c".into()], ..ContainerSpec::new(image) };
        Launch {
            run: Run {
                env: vec![("A".into(), "b".into())],
                resources: Resources {
                    limit: Some(Share { nano_cpus: 1, memory_bytes: 2, pids: 3 }),
                    ..Resources::default()
                },
                address: Some([127, 64, 0, 2].into()),
                ..Run::new(TaskId::from_bits(5), "web.1", container)
            },
            program: "/bin/sh".into(),
            argv: vec!["sh".into(), "-c".into()],
            env: vec![("A".into(), "b".into())],
            dir: "/".into(),
            ids: Some((7, 8)),
            cgroup: None,
            log_segment_bytes: 9,
        }
    }

    #[test]
    fn a_folder_appears_whole_and_what_was_half_made_is_thrown_away() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path(), TaskId::from_bits(5));
        std::fs::create_dir(folder.beside(NEW)).unwrap();
        assert_eq!(list(root.path()).unwrap(), []);
        assert!(!folder.beside(NEW).exists());
        folder.create(&plan()).unwrap();
        assert_eq!(list(root.path()).unwrap(), [TaskId::from_bits(5)]);
        assert_eq!(folder.plan().unwrap(), plan());
        assert_eq!((folder.started(), folder.exit()), (None, None));
        folder.remove().unwrap();
        folder.remove().unwrap();
        assert_eq!(list(root.path()).unwrap(), []);
    }

    #[test]
    fn a_file_of_another_version_is_an_error_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path(), TaskId::from_bits(5));
        folder.create(&plan()).unwrap();
        std::fs::write(folder.path().join("plan"), [9, 1, 2]).unwrap();
        let why = folder.plan().unwrap_err().to_string();
        assert!(why.contains("plan: written by a newer essaim: file has number 9"), "{why}");
        std::fs::write(folder.path().join("plan"), [0, 1, 2]).unwrap();
        let why = folder.plan().unwrap_err().to_string();
        assert!(why.ends_with("plan: unknown version 0"), "{why}");
    }

    /// The folder of a task, as the first release left it. It was written once and is frozen; `ESSAIM_REFRESH=1` writes
    /// it only where there is none.
    #[test]
    fn a_task_folder_of_the_first_release_is_read_with_everything_it_holds() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tasks");
        let folder = Folder::new(&root, TaskId::from_bits(5));
        let at = Timestamp::from_micros(1_700_000_000_000_000);
        if !folder.exists() {
            assert!(std::env::var_os("ESSAIM_REFRESH").is_some(), "{root:?} is gone: it was frozen");
            make_private(&root).unwrap();
            folder.create(&plan()).unwrap();
            // A fifo cannot be checked in; `create` makes one in every other folder.
            std::fs::remove_file(folder.control()).unwrap();
            folder.set_shim(ShimFile { pid: 70 }).unwrap();
            folder.set_started(StartedFile { pid: 71, at }).unwrap();
            folder.set_exit(ExitFile { how: How::Signal(9), at: at + std::time::Duration::from_secs(1) }).unwrap();
        }
        assert_eq!(list(&root).unwrap(), [TaskId::from_bits(5)]);
        assert_eq!(folder.plan().unwrap(), plan());
        assert_eq!(folder.shim(), Some(ShimFile { pid: 70 }));
        let started = folder.started().unwrap();
        assert_eq!((started.pid, started.at), (Some(71), at));
        let exit = folder.exit().unwrap();
        assert_eq!((exit.exit, exit.at), (Exit::Signal(9), at + std::time::Duration::from_secs(1)));
    }
}
