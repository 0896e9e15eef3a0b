//! The files of a node, below one folder.
//!
//! Names are relative, with `/` between their parts, and cannot lead out of the folder. Small files (identity,
//! admission table, boot counter) are replaced as a whole by [`Disk::write`]: after a crash the file has the old
//! content or the new one, and the call returns when the new content survives a power cut. Files that are changed in
//! place (the log of the store) are a [`DiskFile`], where nothing survives a power cut until [`DiskFile::sync`] has
//! returned.
//!
//! Calls return when the disk has answered. On the real disk they block the thread ([`Disk::blocks`]), so an actor that
//! syncs often does it on a thread of its own.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Access to the files of one folder.
pub trait Disk: Send + Sync {
    /// The whole content of a file; `NotFound` when the file does not exist.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Replaces the whole content of a file, durably and atomically. Creates missing folders on the way.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// As [`Disk::write`], for keys, tokens and the CA: the file is readable by its owner only (mode 0600).
    fn write_secret(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Removes a file, durably. A file that does not exist is no error.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Removes a folder with all its content. A folder that does not exist is no error.
    fn remove_folder(&self, name: &str) -> io::Result<()>;

    /// Renames a file, durably. A file that had the new name before is replaced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Names of the files and folders directly in a folder, sorted; empty when the folder does not exist.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Opens a file to be changed in place. A missing file is created, empty and readable by its owner only.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// The folder's path on the host, for programs that need one; `None` on a simulated disk.
    fn path(&self) -> Option<PathBuf>;

    /// Whether calls block their thread until the disk has answered.
    fn blocks(&self) -> bool;

    /// How long one sync of a simulated disk takes at the moment; a simulated caller of sync waits that long first.
    /// Zero on a real disk, whose calls take their time themselves.
    fn lag(&self) -> Duration {
        Duration::ZERO
    }

    /// The whole content of a file, or `None` when the file does not exist.
    fn find(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match self.read(name) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A file that is changed in place.
pub trait DiskFile: Send + Sync {
    /// Length of the file in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `bytes` from the file at `offset`; `UnexpectedEof` when the file is too short.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`, growing the file when needed. Not durable before [`DiskFile::sync`].
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file to `len` bytes, or extends it with zeros. Not durable before [`DiskFile::sync`].
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Returns when everything written so far survives a power cut.
    fn sync(&self) -> io::Result<()>;
}

/// The folder `name` of `disk`, as a disk of its own.
pub fn folder(disk: &Arc<dyn Disk>, name: &str) -> Arc<dyn Disk> {
    Arc::new(Folder { disk: Arc::clone(disk), name: name.to_owned() })
}

struct Folder {
    disk: Arc<dyn Disk>,
    name: String,
}

impl Folder {
    fn full(&self, name: &str) -> String {
        if name.is_empty() { self.name.clone() } else { format!("{}/{name}", self.name) }
    }
}

impl Disk for Folder {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.disk.read(&self.full(name))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.disk.write(&self.full(name), bytes)
    }

    fn write_secret(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_secret(&self.full(name), bytes)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(&self.full(name))
    }

    fn remove_folder(&self, name: &str) -> io::Result<()> {
        self.disk.remove_folder(&self.full(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(&self.full(from), &self.full(to))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.disk.list(&self.full(folder))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(&self.full(name))
    }

    fn path(&self) -> Option<PathBuf> {
        Some(self.disk.path()?.join(&self.name))
    }

    fn blocks(&self) -> bool {
        self.disk.blocks()
    }

    fn lag(&self) -> Duration {
        self.disk.lag()
    }
}

/// A disk that is a folder of the host.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// Opens the folder at `root`, and creates it when it does not exist (mode 0700, because it will hold keys).
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        Ok(Self { root: root.canonicalize()? })
    }

    fn full(&self, name: &str) -> io::Result<PathBuf> {
        check_name(name)?;
        Ok(self.root.join(name))
    }

    fn replace(&self, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
        let full = self.full(name)?;
        let parent = make_parent(&full)?;
        let mut draft = full.clone().into_os_string();
        draft.push(".tmp");
        let draft = PathBuf::from(draft);
        // A temporary file that a crash left behind may have another mode; `mode` counts only for new files.
        remove_if_there(&draft)?;
        let written = (|| {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&draft, &full)
        })();
        if written.is_err() {
            let _ = std::fs::remove_file(&draft);
        }
        written?;
        sync_folder(&parent)
    }
}

impl Disk for RealDisk {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.full(name)?)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace(name, bytes, 0o644)
    }

    fn write_secret(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace(name, bytes, 0o600)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let full = self.full(name)?;
        if remove_if_there(&full)? { sync_folder(full.parent().unwrap_or(&self.root)) } else { Ok(()) }
    }

    fn remove_folder(&self, name: &str) -> io::Result<()> {
        let full = self.full(name)?;
        match std::fs::remove_dir_all(&full) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => sync_folder(full.parent().unwrap_or(&self.root)),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.full(from)?, self.full(to)?);
        let parent = make_parent(&to)?;
        std::fs::rename(from, &to)?;
        sync_folder(&parent)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let full = if folder.is_empty() { self.root.clone() } else { self.full(folder)? };
        let entries = match std::fs::read_dir(full) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let full = self.full(name)?;
        let parent = make_parent(&full)?;
        let file =
            std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(full)?;
        sync_folder(&parent)?;
        Ok(Box::new(RealFile(file)))
    }

    fn path(&self) -> Option<PathBuf> {
        Some(self.root.clone())
    }

    fn blocks(&self) -> bool {
        true
    }
}

struct RealFile(std::fs::File);

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// Refuses a name that would lead out of the folder.
pub(super) fn check_name(name: &str) -> io::Result<()> {
    let inside = !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if inside {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not a name inside the data folder")))
}

fn make_parent(full: &Path) -> io::Result<PathBuf> {
    let parent = full.parent().unwrap_or(Path::new("/")).to_owned();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&parent)?;
    Ok(parent)
}

fn remove_if_there(full: &Path) -> io::Result<bool> {
    match std::fs::remove_file(full) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Syncs a folder: a rename is durable only when the folder it happened in is.
fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn fixture() -> (tempfile::TempDir, Arc<dyn Disk>) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = RealDisk::open(folder.path()).expect("it opens");
        (folder, Arc::new(disk))
    }

    #[test]
    fn a_secret_is_readable_by_its_owner_only_even_over_a_left_behind_draft() {
        let (root, disk) = fixture();
        std::fs::create_dir(root.path().join("node")).expect("a folder");
        std::fs::write(root.path().join("node/key.tmp"), b"left by a crash").expect("a draft");
        disk.write_secret("node/key", b"secret").expect("written");
        let mode = std::fs::metadata(root.path().join("node/key")).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(disk.read("node/key").expect("read"), b"secret");
        assert_eq!(disk.list("node").expect("listed"), ["key"]);
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let (_root, disk) = fixture();
        for name in ["", "..", "../x", "/etc/passwd", "a/../../b"] {
            let refused = disk.write(name, b"").expect_err(name);
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }

    #[test]
    fn what_is_not_there_reads_as_nothing_and_is_removed_without_complaint() {
        let (_root, disk) = fixture();
        assert_eq!(disk.find("nothing").expect("no error"), None);
        disk.remove("nothing").expect("no error");
        disk.remove_folder("nothing").expect("no error");
        assert!(disk.list("nothing").expect("no error").is_empty());
    }

    #[test]
    fn a_folder_is_a_disk_of_its_own() {
        let (root, disk) = fixture();
        let raft = folder(&disk, "raft");
        let file = raft.open("log").expect("made");
        file.write_at(3, b"abc").expect("written");
        file.sync().expect("synced");
        let mut bytes = [9; 6];
        file.read_at(0, &mut bytes).expect("read");
        assert_eq!(&bytes, b"\0\0\0abc");
        assert_eq!(disk.list("").expect("listed"), ["raft"]);
        assert_eq!(raft.path(), Some(root.path().canonicalize().expect("real").join("raft")));
        disk.remove_folder("raft").expect("wiped");
        assert!(raft.list("").expect("listed").is_empty());
    }
}
