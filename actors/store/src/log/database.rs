//! The log in redb: one table of sealed entries by index, and one of the few other values.
//!
//! redb copies on write and syncs once per commit. After a power cut it finds the last commit whose checksums hold, so
//! a torn group of entries is gone as a whole and was never acknowledged. Whatever redb returns belongs to a whole
//! commit, and may have been acknowledged. So on opening, every page is checked and every entry is unsealed, and any
//! entry that differs from what was written is a reason not to start: a manager that forgot what it acknowledged could
//! let the group elect a leader without it. redb repairs what its check finds, so the finding is stored in the file,
//! and a second start does not take the repaired file for a sound one.
//!
//! One case cannot be detected: after a power cut, a last commit that was acknowledged and has rotted since looks like
//! a torn one. redb could tell them apart with two syncs per commit, which would double the time of a write.

use super::file::DatabaseFile;
use super::{Found, LogBackend, LogError, Op};
use crate::format::Vote;
use crate::seal::Sealer;
use essaim_system::env::Disk;
use essaim_wire::{decode, encode};
use parking_lot::RwLock;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
const VALUES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
/// Key under which the finding of a check of the whole file is stored, as text. Not sealed, as it is no secret.
const DAMAGE: &str = "damage";

/// Bytes of redb's cache. The tail of the log is in memory anyway; the cache serves a follower that is far behind.
const CACHE_BYTES: usize = 8 << 20;

/// The log in a redb database.
pub(crate) struct LogDatabase {
    /// The database; `None` once closed.
    database: RwLock<Option<Database>>,
    sealer: Arc<Sealer>,
    /// Path of the file, for people.
    place: String,
}

impl LogDatabase {
    /// Opens the file `name`, which is created when it does not exist. A file whose last commit is torn is repaired.
    pub(crate) fn open(disk: &Arc<dyn Disk>, name: &str, sealer: Arc<Sealer>) -> Result<Self, LogError> {
        let place = place(disk, name);
        make_if_missing(disk, name)?;
        let file = DatabaseFile::new(disk.open(name)?)?;
        let refused = file.refused();
        let opened = guarded(|| {
            let mut database = builder().create_with_backend(file).map_err(|error| error.to_string())?;
            // Checks every page against its checksum; a log is never much larger than a snapshot.
            if !database.check_integrity().map_err(|error| error.to_string())? {
                keep_damage(&database).map_err(|error| error.to_string())?;
                return Err(BROKEN_PAGES.into());
            }
            Ok(database)
        });
        match opened {
            Ok(database) => Ok(Self { database: RwLock::new(Some(database)), sealer, place }),
            Err(why) => match refused.get() {
                // Opening writes too. The log may be sound, which cannot be known while the disk refuses writes.
                Some(refused) => Err(LogError::Disk(io::Error::other(format!("the log {place}: {refused}")))),
                None => Err(LogError::Damaged(format!("the log {place} is damaged ({why})"))),
            },
        }
    }

    /// Closes the file.
    pub(crate) fn close(&self) {
        let database = self.database.write().take();
        // redb cleans up when it is dropped, and cannot report a disk that fails then.
        let _ = guarded(|| {
            drop(database);
            Ok(())
        });
    }

    fn with<T>(&self, then: impl FnOnce(&Database) -> Result<T, redb::Error>) -> io::Result<T> {
        let database = self.database.read();
        let Some(database) = database.as_ref() else {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the log is closed"));
        };
        guarded(|| then(database).map_err(|error| error.to_string()))
            .map_err(|why| io::Error::other(format!("the log {}: {why}", self.place)))
    }

    fn unseal(&self, index: u64, sealed: &[u8]) -> Result<Vec<u8>, String> {
        self.sealer.open(&what(index), sealed).map_err(|why| format!("entry {index}: {why}"))
    }

    fn unseal_value<T: bincode::Decode<()>>(&self, name: &str, sealed: &[u8]) -> Result<T, String> {
        let bytes = self.sealer.open(name.as_bytes(), sealed).map_err(|why| format!("{name}: {why}"))?;
        decode(&bytes).map_err(|why| format!("{name}: {why}"))
    }

    fn damaged(&self, why: impl std::fmt::Display) -> LogError {
        LogError::Damaged(format!("the log {} is damaged: {why}", self.place))
    }
}

impl LogBackend for LogDatabase {
    fn load(&self) -> Result<Found, LogError> {
        let mut values = [None, None, None, None];
        let mut sealed: Vec<(u64, Vec<u8>)> = Vec::new();
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(VALUES)?;
            for (value, name) in values.iter_mut().zip([VOTE, COMMITTED, PURGED, DAMAGE]) {
                *value = table.get(name)?.map(|found| found.value().to_vec());
            }
            for item in read.open_table(ENTRIES)?.iter()? {
                let (index, record) = item?;
                sealed.push((index.value(), record.value().to_vec()));
            }
            Ok(())
        })
        .map_err(|why| self.damaged(why))?;

        let [vote, committed, purged, damage] = values;
        if let Some(damage) = damage {
            return Err(self.damaged(String::from_utf8_lossy(&damage)));
        }
        let mut found = Found {
            vote: open(vote, |bytes| self.unseal_value::<Vote>(VOTE, bytes)).map_err(|why| self.damaged(why))?,
            committed: open(committed, |bytes| self.unseal_value(COMMITTED, bytes)).map_err(|why| self.damaged(why))?,
            purged: open(purged, |bytes| self.unseal_value(PURGED, bytes)).map_err(|why| self.damaged(why))?,
            ..Found::default()
        };
        let mut next = found.purged.map_or_else(|| sealed.first().map_or(0, |(index, _)| *index), |id| id.index + 1);
        for (index, record) in sealed {
            if index < next {
                continue;
            }
            if index > next {
                return Err(self.damaged(format!("entry {next} is missing")));
            }
            let bytes = self.unseal(index, &record).map_err(|why| self.damaged(why))?;
            found.entries.push((index, bytes));
            next = index + 1;
        }
        Ok(found)
    }

    fn commit(&self, ops: &[Op]) -> io::Result<()> {
        self.with(|database| {
            let write = database.begin_write()?;
            {
                let mut entries = write.open_table(ENTRIES)?;
                let mut values = write.open_table(VALUES)?;
                let mut set = |name: &str, bytes: Vec<u8>| {
                    values.insert(name, self.sealer.seal(name.as_bytes(), &bytes).as_slice()).map(|_| ())
                };
                for op in ops {
                    match op {
                        Op::Append(records) => {
                            for (index, record) in records {
                                entries.insert(index, self.sealer.seal(&what(*index), record).as_slice())?;
                            }
                        }
                        Op::TruncateFrom(from) => entries.retain_in::<u64, _>(*from.., |_, _| false)?,
                        Op::Purge(upto) => {
                            set(PURGED, encode(upto))?;
                            entries.retain_in::<u64, _>(..=upto.index, |_, _| false)?;
                        }
                        Op::Vote(vote) => set(VOTE, encode(vote))?,
                        Op::Committed(Some(id)) => set(COMMITTED, encode(id))?,
                        Op::Committed(None) => (),
                    }
                }
            }
            write.commit()?;
            Ok(())
        })
    }

    fn read(&self, range: Range<u64>) -> io::Result<Vec<(u64, Vec<u8>)>> {
        let sealed = self.with(|database| {
            let table = database.begin_read()?.open_table(ENTRIES)?;
            let mut records = Vec::new();
            for item in table.range(range)? {
                let (index, record) = item?;
                records.push((index.value(), record.value().to_vec()));
            }
            Ok(records)
        })?;
        let open = |(index, record): (u64, Vec<u8>)| match self.unseal(index, &record) {
            Ok(bytes) => Ok((index, bytes)),
            Err(why) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("the log {}: {why}", self.place))),
        };
        sealed.into_iter().map(open).collect()
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Finding for a file in which redb had to repair pages.
const BROKEN_PAGES: &str = "some of its pages are not what was written, and entries that this manager acknowledged may \
                            be gone";

/// Stores in the file that it was damaged: the check repaired its pages, so they would pass the next check.
fn keep_damage(database: &Database) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(VALUES)?.insert(DAMAGE, BROKEN_PAGES.as_bytes())?;
    write.commit()?;
    Ok(())
}

/// Creates an empty log under another name, and renames it when it is whole: a power cut in between leaves no log
/// rather than half of one.
fn make_if_missing(disk: &Arc<dyn Disk>, name: &str) -> Result<(), LogError> {
    if disk.list("")?.iter().any(|there| there == name) {
        return Ok(());
    }
    let draft = format!("{name}.draft");
    disk.remove(&draft)?;
    let file = DatabaseFile::new(disk.open(&draft)?)?;
    let made = guarded(|| {
        let database = builder().create_with_backend(file).map_err(|error| error.to_string())?;
        let begin = database.begin_write().map_err(|error| error.to_string())?;
        begin.open_table(ENTRIES).map_err(|error| error.to_string())?;
        begin.open_table(VALUES).map_err(|error| error.to_string())?;
        begin.commit().map_err(|error| error.to_string())
    });
    made.map_err(|why| io::Error::other(format!("the log {}: {why}", place(disk, &draft))))?;
    Ok(disk.rename(&draft, name)?)
}

/// The associated data with which the entry of this index is sealed.
fn what(index: u64) -> [u8; 9] {
    let mut what = [b'e'; 9];
    what[1..].copy_from_slice(&index.to_le_bytes());
    what
}

fn open<T>(sealed: Option<Vec<u8>>, unseal: impl FnOnce(&[u8]) -> Result<T, String>) -> Result<Option<T>, String> {
    sealed.as_deref().map(unseal).transpose()
}

/// Path of a file of the store, for people.
pub(crate) fn place(disk: &Arc<dyn Disk>, name: &str) -> String {
    disk.path().map_or_else(|| name.to_owned(), |folder| folder.join(name).display().to_string())
}

thread_local! {
    /// Whether a panic of this thread is about to be turned into an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs redb code and turns a panic into an error: redb asserts what a sound file guarantees, and panics on a damaged
/// one. The text of the panic goes into the error only.
fn guarded<T>(then: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                before(panic);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(then));
    GUARDED.set(outer);
    done.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
        Err(text.unwrap_or("it does not hold together").to_owned())
    })
}
