//! A simulated disk that loses what was not synced when the power is cut.
//!
//! Every file has two contents: what reads see, and what would survive a crash. A write changes the first only; `sync`
//! makes the second equal to it. [`SimDisk::crash`] drops what was not synced, or, with torn writes, keeps some of the
//! pending writes whole, some in part and some not at all, in any order, as a disk with a cache may. Names (created,
//! renamed, removed) and whole-file writes are durable at once, since the real disk syncs their folder before it
//! returns.
//!
//! After a crash every handle opened before it answers with an error, because the process that held it is dead. Space,
//! errors and slowness are set from outside while the node runs.

use super::disk::{Disk, DiskFile, check_name};
use parking_lot::{Mutex, MutexGuard};
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A fault of the simulated disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskFault {
    /// The disk works.
    #[default]
    None,
    /// Every write and sync fails with an I/O error; reads work.
    WritesFail,
    /// Every sync fails; reads and writes work.
    SyncsFail,
    /// Every write stores a part of its bytes and then fails.
    WritesTear,
    /// Every read and write fails.
    Dead,
    /// The disk has room for this many bytes in all files together; holes in files take no room.
    Full(u64),
    /// Every sync takes this long; see [`Disk::lag`].
    Slow(Duration),
}

/// A folder in memory. Clones are the same disk, which outlives the node that crashed on it.
#[derive(Clone, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    files: BTreeMap<String, File>,
    fault: DiskFault,
    /// Number of crashes so far; a handle opened before the last crash is dead.
    era: u64,
}

#[derive(Default)]
struct File {
    /// The content that reads see.
    seen: Vec<u8>,
    /// The content that survives a crash.
    durable: Vec<u8>,
    /// Writes that are seen by reads and not synced yet, in order.
    pending: Vec<Pending>,
    /// End of the furthest write, in bytes: a file that was only extended is sparse and takes no room beyond this.
    taken: usize,
}

enum Pending {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl SimDisk {
    /// A disk without files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts the power: what was not synced is lost. With `torn`, that generator decides for each pending write whether
    /// it survives whole, in part or not at all.
    pub fn crash(&self, mut torn: Option<&mut StdRng>) {
        let mut inner = self.inner();
        inner.era += 1;
        for file in inner.files.values_mut() {
            for pending in std::mem::take(&mut file.pending) {
                let Some(rng) = torn.as_deref_mut() else { continue };
                match (rng.random_range(0..3u8), pending) {
                    (0, _) => (),
                    (1, Pending::Write { offset, mut bytes }) => {
                        bytes.truncate(rng.random_range(0..=bytes.len()));
                        apply(&mut file.durable, &Pending::Write { offset, bytes });
                    }
                    (_, whole) => apply(&mut file.durable, &whole),
                }
            }
            file.seen.clone_from(&file.durable);
        }
    }

    /// Sets the disk's fault from now on.
    pub fn set_fault(&self, fault: DiskFault) {
        self.inner().fault = fault;
    }

    /// Flips one bit of a file, as bit rot does. Returns whether the file has a byte at `offset`.
    pub fn rot(&self, name: &str, offset: usize) -> bool {
        let mut inner = self.inner();
        let Some(file) = inner.files.get_mut(name) else { return false };
        for content in [&mut file.seen, &mut file.durable] {
            if let Some(byte) = content.get_mut(offset) {
                *byte ^= 1;
            }
        }
        offset < file.seen.len()
    }

    /// Room that all files take together, in bytes.
    pub fn used(&self) -> u64 {
        self.inner().used()
    }

    /// Name and length in bytes of every file, for tests and for the simulator's digest of a run.
    pub fn files(&self) -> Vec<(String, usize)> {
        self.inner().files.iter().map(|(name, file)| (name.clone(), file.seen.len())).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

impl Inner {
    fn may_read(&self) -> io::Result<()> {
        if self.fault == DiskFault::Dead { Err(broken("the disk is dead")) } else { Ok(()) }
    }

    fn may_write(&self, more: usize) -> io::Result<()> {
        match self.fault {
            DiskFault::Dead | DiskFault::WritesFail => Err(broken("the disk refuses writes")),
            // An operation that takes no more room, above all a removal, works on a full disk.
            DiskFault::Full(limit) if more > 0 && self.used() + more as u64 > limit => {
                Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"))
            }
            _ => Ok(()),
        }
    }

    fn may_sync(&self) -> io::Result<()> {
        match self.fault {
            DiskFault::Dead | DiskFault::WritesFail | DiskFault::WritesTear | DiskFault::SyncsFail => {
                Err(broken("the disk did not sync"))
            }
            _ => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.files.values().map(|file| file.taken as u64).sum()
    }
}

impl Disk for SimDisk {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        check_name(name)?;
        let inner = self.inner();
        inner.may_read()?;
        inner.files.get(name).map(|file| file.seen.clone()).ok_or_else(|| missing(name))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        check_name(name)?;
        let mut inner = self.inner();
        inner.may_write(bytes.len())?;
        inner.may_sync()?;
        let taken = bytes.len();
        let file = File { seen: bytes.to_vec(), durable: bytes.to_vec(), pending: Vec::new(), taken };
        inner.files.insert(name.to_owned(), file);
        Ok(())
    }

    fn write_secret(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.write(name, bytes)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        let mut inner = self.inner();
        inner.may_write(0)?;
        inner.files.remove(name);
        Ok(())
    }

    fn remove_folder(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        let mut inner = self.inner();
        inner.may_write(0)?;
        let below = format!("{name}/");
        inner.files.retain(|file, _| !file.starts_with(&below));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        let mut inner = self.inner();
        inner.may_write(0)?;
        inner.may_sync()?;
        let file = inner.files.remove(from).ok_or_else(|| missing(from))?;
        inner.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let inner = self.inner();
        inner.may_read()?;
        let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let names: BTreeSet<String> = inner
            .files
            .keys()
            .filter_map(|name| name.strip_prefix(&below))
            .filter_map(|rest| rest.split('/').next().map(str::to_owned))
            .collect();
        Ok(names.into_iter().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        check_name(name)?;
        let mut inner = self.inner();
        inner.may_read()?;
        if !inner.files.contains_key(name) {
            inner.may_write(0)?;
            inner.files.insert(name.to_owned(), File::default());
        }
        Ok(Box::new(SimFile { disk: self.clone(), name: name.to_owned(), era: inner.era }))
    }

    fn path(&self) -> Option<PathBuf> {
        None
    }

    fn blocks(&self) -> bool {
        false
    }

    fn lag(&self) -> Duration {
        match self.inner().fault {
            DiskFault::Slow(lag) => lag,
            _ => Duration::ZERO,
        }
    }
}

struct SimFile {
    disk: SimDisk,
    name: String,
    era: u64,
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut Inner, &str) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.disk.inner();
        if inner.era != self.era {
            return Err(broken("the machine crashed since the file was opened"));
        }
        if !inner.files.contains_key(&self.name) {
            return Err(missing(&self.name));
        }
        act(&mut inner, &self.name)
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|inner, name| {
            inner.may_read()?;
            Ok(inner.files[name].seen.len() as u64)
        })
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.with(|inner, name| {
            inner.may_read()?;
            let start = place(offset)?;
            let seen = inner.files[name].seen.get(start..start.saturating_add(bytes.len()));
            bytes.copy_from_slice(seen.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|inner, name| {
            let offset = place(offset)?;
            let grows = (offset + bytes.len()).saturating_sub(inner.files[name].taken);
            inner.may_write(grows)?;
            let tears = inner.fault == DiskFault::WritesTear;
            let bytes = if tears { &bytes[..bytes.len() / 2] } else { bytes };
            if let Some(file) = inner.files.get_mut(name) {
                file.change(Pending::Write { offset, bytes: bytes.to_vec() });
            }
            if tears { Err(broken("the write stopped half-way")) } else { Ok(()) }
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|inner, name| {
            let len = place(len)?;
            inner.may_write(0)?;
            if let Some(file) = inner.files.get_mut(name) {
                file.change(Pending::SetLen(len));
            }
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|inner, name| {
            inner.may_sync()?;
            if let Some(file) = inner.files.get_mut(name) {
                for pending in std::mem::take(&mut file.pending) {
                    apply(&mut file.durable, &pending);
                }
            }
            Ok(())
        })
    }
}

impl File {
    fn change(&mut self, pending: Pending) {
        self.taken = match &pending {
            Pending::Write { offset, bytes } => self.taken.max(offset + bytes.len()),
            Pending::SetLen(len) => self.taken.min(*len),
        };
        apply(&mut self.seen, &pending);
        self.pending.push(pending);
    }
}

fn apply(content: &mut Vec<u8>, pending: &Pending) {
    match pending {
        Pending::Write { offset, bytes } => {
            let end = offset + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[*offset..end].copy_from_slice(bytes);
        }
        Pending::SetLen(len) => content.resize(*len, 0),
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {name}"))
}

fn broken(why: &str) -> io::Error {
    io::Error::other(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn bytes_of(disk: &SimDisk, name: &str) -> Vec<u8> {
        disk.read(name).expect("it is there")
    }

    #[test]
    fn what_was_not_synced_is_lost_in_a_crash() {
        let disk = SimDisk::new();
        let file = disk.open("log").expect("opened");
        file.write_at(0, b"synced").expect("written");
        file.sync().expect("synced");
        file.write_at(6, b" and not").expect("written");
        assert_eq!(bytes_of(&disk, "log"), b"synced and not");
        disk.crash(None);
        assert_eq!(bytes_of(&disk, "log"), b"synced");
        file.write_at(0, b"x").expect_err("its process is dead");
    }

    #[test]
    fn a_torn_crash_keeps_some_pending_writes_in_part_and_every_synced_byte() {
        let mut kinds = BTreeSet::new();
        for number in 0..64 {
            let disk = SimDisk::new();
            let file = disk.open("log").expect("opened");
            file.write_at(0, b"base").expect("written");
            file.sync().expect("synced");
            file.write_at(4, b"aaaa").expect("written");
            file.write_at(8, b"bbbb").expect("written");
            disk.crash(Some(&mut StdRng::seed_from_u64(number)));
            let left = bytes_of(&disk, "log");
            assert_eq!(&left[..4], b"base");
            kinds.insert(left);
        }
        assert!(kinds.contains(b"base".as_slice()), "all lost");
        assert!(kinds.contains(b"baseaaaabbbb".as_slice()), "all kept");
        assert!(kinds.contains(b"base\0\0\0\0bbbb".as_slice()), "the later kept without the earlier");
        assert!(kinds.len() > 5, "and cut in the middle");
    }

    #[test]
    fn a_file_written_as_a_whole_survives_a_crash() {
        let disk = SimDisk::new();
        disk.write("node/identity", b"one").expect("written");
        disk.set_fault(DiskFault::SyncsFail);
        disk.write("node/identity", b"two").expect_err("not durable, so not done");
        disk.crash(None);
        assert_eq!(bytes_of(&disk, "node/identity"), b"one");
        assert_eq!(disk.list("").expect("listed"), ["node"]);
    }

    #[test]
    fn a_torn_write_fails_and_leaves_a_part_of_itself_that_a_crash_takes_back() {
        let disk = SimDisk::new();
        let file = disk.open("log").expect("opened");
        file.write_at(0, b"base").expect("written");
        file.sync().expect("synced");
        disk.set_fault(DiskFault::WritesTear);
        file.write_at(4, b"abcd").expect_err("half of it");
        assert_eq!(bytes_of(&disk, "log"), b"baseab");
        file.sync().expect_err("a disk that tears writes syncs nothing");
        disk.write("whole", b"content").expect_err("and no file is replaced");
        disk.crash(None);
        assert_eq!(bytes_of(&disk, "log"), b"base");
    }

    #[test]
    fn a_full_disk_refuses_what_grows_and_takes_what_does_not() {
        let disk = SimDisk::new();
        let file = disk.open("log").expect("opened");
        file.write_at(0, b"12345678").expect("written");
        disk.set_fault(DiskFault::Full(8));
        let refused = file.write_at(8, b"9").expect_err("no room");
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        file.write_at(0, b"87654321").expect("in place");
        file.sync().expect("synced");
        file.set_len(1_000).expect("a hole takes no room");
        assert_eq!(disk.used(), 8);
        file.write_at(500, b"x").expect_err("until it is filled");
        disk.set_fault(DiskFault::Full(0));
        disk.remove("log").expect("a removal makes room");
        assert_eq!(disk.used(), 0);
        disk.set_fault(DiskFault::Slow(Duration::from_secs(1)));
        assert_eq!(disk.lag(), Duration::from_secs(1));
    }
}
