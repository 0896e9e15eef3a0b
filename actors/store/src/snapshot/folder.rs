//! The folder of snapshots of one history: which exist, which is in force, which may be removed.

use super::frames::{FrameReader, FrameWriter};
use super::{Image, invalid};
use crate::format::{LogId, SnapshotMeta};
use crate::log::database::place;
use crate::seal::Sealer;
use essaim_system::env::Disk;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Snapshots kept: the one in force, and the one before it, which may be on its way to a peer.
const KEPT: usize = 2;

/// Suffix of a snapshot's name while it is written; a draft that a crash has left is removed.
const DRAFT: &str = ".draft";

/// A snapshot on this disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Metadata of the snapshot.
    pub(crate) meta: SnapshotMeta,
    /// Name of the snapshot file.
    pub(crate) name: String,
    /// Length of the snapshot file in bytes.
    pub(crate) len: u64,
}

/// Handle on the folder of snapshots; clones share it.
#[derive(Clone)]
pub(crate) struct Snapshots {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<dyn Disk>,
    sealer: Arc<Sealer>,
    drafts: AtomicU64,
    newest: Mutex<Option<Stored>>,
}

impl Snapshots {
    /// Lists the snapshots, and reads the newest. A newest snapshot that cannot be read is an error that names the
    /// file: the log before it is gone, so an older snapshot is of no help.
    pub(crate) fn open(disk: Arc<dyn Disk>, sealer: Arc<Sealer>) -> io::Result<(Self, Option<Image>)> {
        let inner = Inner { disk, sealer, drafts: AtomicU64::new(0), newest: Mutex::new(None) };
        let snapshots = Self { inner: Arc::new(inner) };
        for draft in snapshots.inner.disk.list("")?.iter().filter(|name| name.ends_with(DRAFT)) {
            snapshots.inner.disk.remove(draft)?;
        }
        let Some(name) = snapshots.names()?.pop() else {
            return Ok((snapshots, None));
        };
        let damaged = |why: io::Error| {
            let place = place(&snapshots.inner.disk, &name);
            invalid(format!("the snapshot {place} is damaged: {why}"))
        };
        let (meta, reader) = snapshots.reader(&name).map_err(damaged)?;
        let image = reader.image(meta.clone()).map_err(damaged)?;
        let len = snapshots.inner.disk.open(&name)?.len()?;
        *snapshots.newest_mut() = Some(Stored { meta, name, len });
        Ok((snapshots, Some(image)))
    }

    /// The newest snapshot, if there is one.
    pub(crate) fn newest(&self) -> Option<Stored> {
        self.newest_mut().clone()
    }

    /// Writes a snapshot of `image`, which is the newest from then on.
    pub(crate) fn write(&self, image: &Image) -> io::Result<Stored> {
        let (draft, writer) = self.begin(image.meta())?;
        let len = image.compress(writer)?.finish()?;
        self.keep(&draft, image.meta(), len)
    }

    /// Begins a draft under a unique name.
    pub(crate) fn begin(&self, meta: SnapshotMeta) -> io::Result<(String, FrameWriter)> {
        let draft = format!("{}{DRAFT}", self.inner.drafts.fetch_add(1, Ordering::Relaxed));
        let file = self.inner.disk.open(&draft)?;
        let writer = FrameWriter::begin(file, Arc::clone(&self.inner.sealer), meta)?;
        Ok((draft, writer))
    }

    /// Gives a finished draft its final name; it is the newest snapshot from then on, unless a newer one came
    /// meanwhile.
    pub(crate) fn keep(&self, draft: &str, meta: SnapshotMeta, len: u64) -> io::Result<Stored> {
        let stored = Stored { name: name(meta.last), meta, len };
        self.inner.disk.rename(draft, &stored.name)?;
        {
            let mut newest = self.newest_mut();
            if newest.as_ref().is_none_or(|newest| newest.meta.last <= stored.meta.last) {
                *newest = Some(stored.clone());
            }
        }
        let mut names = self.names()?;
        let spare = names.len().saturating_sub(KEPT);
        for old in names.drain(..spare) {
            self.inner.disk.remove(&old)?;
        }
        Ok(stored)
    }

    /// Removes a snapshot draft.
    pub(crate) fn discard(&self, draft: &str) {
        let _ = self.inner.disk.remove(draft);
    }

    /// Opens a snapshot file of this folder for reading.
    pub(crate) fn reader(&self, name: &str) -> io::Result<(SnapshotMeta, FrameReader)> {
        FrameReader::open(self.inner.disk.open(name)?, Arc::clone(&self.inner.sealer))
    }

    /// Whether both handles are of the same folder.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Whether calls of the folder's disk block.
    pub(crate) fn blocks(&self) -> bool {
        self.inner.disk.blocks()
    }

    /// Names of the finished snapshots, oldest first: numbers of fixed width sort as text.
    fn names(&self) -> io::Result<Vec<String>> {
        let is_snapshot = |name: &String| name.starts_with("snapshot-") && name.ends_with(".zst");
        Ok(self.inner.disk.list("")?.into_iter().filter(is_snapshot).collect())
    }

    fn newest_mut(&self) -> parking_lot::MutexGuard<'_, Option<Stored>> {
        self.inner.newest.lock()
    }
}

fn name(last: Option<LogId>) -> String {
    let LogId { term, index } = last.unwrap_or(LogId { term: 0, index: 0 });
    format!("snapshot-{index:016x}-{term:016x}.zst")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Secret;
    use essaim_model::Position;
    use essaim_system::env::SimDisk;
    use essaim_wire::{Index, Term};

    fn sealer() -> Arc<Sealer> {
        Arc::new(Sealer::new(&Secret::new([1; 32]), [2; 16]))
    }

    fn open(disk: &SimDisk) -> io::Result<(Snapshots, Option<Image>)> {
        Snapshots::open(Arc::new(disk.clone()), sealer())
    }

    fn image(index: u64) -> Image {
        let mut image = Image { last: Some(LogId { term: 1, index }), ..Image::default() };
        image.state.pass(Position { term: Term(1), index: Index(index) });
        image
    }

    #[test]
    fn the_newest_is_read_again_and_two_are_kept() {
        let disk = SimDisk::new();
        let (snapshots, none) = open(&disk).expect("an empty folder");
        assert!(none.is_none());
        for index in [3, 5, 9] {
            snapshots.write(&image(index)).expect("written");
        }
        let (again, newest) = open(&disk).expect("opened again");
        let newest = newest.expect("there is one");
        assert_eq!((newest.last, newest.state), (image(9).last, image(9).state));
        assert_eq!(again.names().expect("listed").len(), KEPT);
    }

    #[test]
    fn a_damaged_byte_anywhere_is_an_error_that_names_the_file() {
        let disk = SimDisk::new();
        let stored = open(&disk).expect("empty").0.write(&image(7)).expect("written");
        for offset in 0..stored.len as usize {
            assert!(disk.rot(&stored.name, offset), "byte {offset}");
            let refused = open(&disk).err().unwrap_or_else(|| panic!("byte {offset} went unnoticed")).to_string();
            assert!(refused.contains("snapshot-0000000000000007"), "{refused}");
            assert!(disk.rot(&stored.name, offset), "the same bit again, so it is whole again");
        }
        assert!(open(&disk).is_ok());
    }

    #[test]
    fn a_file_that_was_cut_is_damaged_and_a_draft_is_removed() {
        let disk = SimDisk::new();
        let (snapshots, _) = open(&disk).expect("empty");
        let stored = snapshots.write(&image(7)).expect("written");
        snapshots.begin(image(8).meta()).expect("begun, never finished");
        let (again, newest) = open(&disk).expect("the draft does not matter");
        assert_eq!(newest.expect("there is one").last, image(7).last);
        assert!(!disk.files().iter().any(|(name, _)| name.ends_with(DRAFT)));
        for len in 0..stored.len {
            disk.open(&stored.name).and_then(|file| file.set_len(stored.len.min(len))).expect("cut");
            assert!(open(&disk).is_err(), "cut at {len}");
            again.write(&image(7)).expect("whole again");
        }
    }
}
