//! The files in which a node stores its membership in a cluster.
//!
//! - `identity.pem` (0600): the node's key, its certificate chain and the CAs that it trusts. They are one file, so
//!   that
//!   a crash cannot leave a key beside the certificate of another key.
//! - `key` (0600): the key of the first signing request, until the certificate has come.
//! - `socket-key` (0600): signs stateless resets, so that peers learn of a restart at once.
//! - `admission`: the admission table, the exceptions to what certificates allow. Its version never goes back, not even
//!   over restarts.
//! - `admission-changes`: the differences to that table since it was written, one after the other, each with its length
//!   and a checksum. A removal appends to this file, so it writes the same number of bytes however many nodes were
//!   removed before. When the file has outgrown the table, the table is written anew.
//! - `generation`: how often the daemon has started.

use essaim_system::env::{Disk, Seed};
use essaim_transport::{Admission, AdmissionChange, Identity, Key, SocketKey, TrustError};
use essaim_wire::{DecodeError, Generation, Sum, decode, encode};
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::sync::Arc;

const IDENTITY: &str = "identity.pem";
const KEY: &str = "key";
const SOCKET_KEY: &str = "socket-key";
const ADMISSION: &str = "admission";
const ADMISSION_CHANGES: &str = "admission-changes";
const GENERATION: &str = "generation";

/// Format version of the binary files, stored as their first byte.
const FORMAT: u8 = 1;

/// Bytes of the file of changes from which on the whole table is written anew, beside [`REMOVAL_LEN`] for each removal
/// in the table.
const CHANGES_LEN: u64 = 4096;

/// Bytes that a removal takes in the admission table.
const REMOVAL_LEN: u64 = 26;

/// Bytes before each change in its file: its length, and its checksum.
const CHANGE_HEAD: usize = 4 + 8;

const CHAIN_MARK: &str = "# certificate of this node\n";
const ROOTS_MARK: &str = "# trusted authorities\n";

/// A file of the node cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The disk failed to read, write or remove the file.
    #[error("{file}: {error}")]
    Disk {
        /// Name of the file.
        file: &'static str,
        /// Error of the disk.
        error: io::Error,
    },
    /// The file's content cannot be decoded. The way out: remove the node's folder, and join again.
    #[error("{file} is damaged ({why}); remove the node's data folder and join again")]
    Damaged {
        /// Name of the file.
        file: &'static str,
        /// Why the content cannot be decoded.
        why: String,
    },
    /// A newer program wrote the file. Nothing was changed.
    #[error("{file} was {why}; start the newer essaim on this machine again")]
    Newer {
        /// Name of the file.
        file: &'static str,
        /// The format version that the file has and this program does not know.
        why: DecodeError,
    },
}

/// The membership files of a node in one folder. Cheap to clone.
#[derive(Clone)]
pub struct Keep {
    disk: Arc<dyn Disk>,
    /// Where the next change of the admission table is written; none until the file of changes was read.
    changes_end: Arc<Mutex<Option<u64>>>,
}

impl Keep {
    /// Opens the membership files in the folder of this disk.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, changes_end: Arc::default() }
    }

    /// Counts this start of the daemon, and returns a generation greater than that of every start before.
    pub fn boot(&self) -> Result<Generation, KeepError> {
        let last = self.load::<Generation>(GENERATION)?.unwrap_or_default();
        let this = last.next();
        self.save(GENERATION, &this)?;
        Ok(this)
    }

    /// Stores a generation that the cluster told: the present start of the daemon counts as that one. For a node whose disk was
    /// restored from an older copy.
    pub fn boot_as(&self, generation: Generation) -> Result<(), KeepError> {
        self.save(GENERATION, &generation)
    }

    /// The node's identity; `None` when the node was never enrolled.
    pub fn identity(&self) -> Result<Option<Identity>, KeepError> {
        let Some(bytes) = self.find(IDENTITY)? else { return Ok(None) };
        let read = || -> Result<Identity, String> {
            let text = String::from_utf8(bytes).map_err(|why| why.to_string())?;
            let (key, rest) = text.split_once(CHAIN_MARK).ok_or("no certificate in it")?;
            let (chain, roots) = rest.split_once(ROOTS_MARK).ok_or("no authority in it")?;
            Identity::from_pem(chain, key, roots).map_err(|why: TrustError| why.to_string())
        };
        read().map(Some).map_err(|why| KeepError::Damaged { file: IDENTITY, why })
    }

    /// Stores the node's identity, and removes the separate key file: the identity contains the key.
    pub fn save_identity(&self, identity: &Identity) -> Result<(), KeepError> {
        let (key, chain, roots) = (identity.key().to_pem(), identity.chain_pem(), identity.roots_pem());
        let text = format!("{key}{CHAIN_MARK}{chain}{ROOTS_MARK}{roots}");
        self.write_secret(IDENTITY, text.as_bytes())?;
        self.remove(KEY)
    }

    /// The key for the first signing request: drawn once, and the same until a certificate has come.
    pub fn key(&self, seed: &Seed) -> Result<Key, KeepError> {
        if let Some(key) = self.load(KEY)? {
            return Ok(key);
        }
        let key = Key::from_seed(seed.draw_bytes());
        self.write_secret(KEY, &framed(&key))?;
        Ok(key)
    }

    /// The socket's key for stateless resets: drawn once, and the same over restarts.
    pub(crate) fn socket_key(&self, seed: &Seed) -> Result<SocketKey, KeepError> {
        if let Some(key) = self.load(SOCKET_KEY)? {
            return Ok(SocketKey(key));
        }
        let key: [u8; 32] = seed.draw_bytes();
        self.write_secret(SOCKET_KEY, &framed(&key))?;
        Ok(SocketKey(key))
    }

    /// The stored admission table; the empty table when none is stored.
    pub(crate) fn admission(&self) -> Result<Admission, KeepError> {
        let mut table: Admission = self.load(ADMISSION)?.unwrap_or_default();
        let bytes = self.find(ADMISSION_CHANGES)?.unwrap_or_default();
        for change in changes(&bytes) {
            let newer = |why| KeepError::Newer { file: ADMISSION_CHANGES, why };
            match decode::<AdmissionChange>(change) {
                Ok(change) => table.apply(change),
                Err(why @ DecodeError::Newer { .. }) => return Err(newer(why)),
                Err(why) => return Err(KeepError::Damaged { file: ADMISSION_CHANGES, why: why.to_string() }),
            }
        }
        Ok(table)
    }

    /// Stores an admission table if it is newer than the stored one.
    pub fn save_admission(&self, table: &Admission) -> Result<(), KeepError> {
        if table.is_newer_than(&self.admission()?) { self.write_admission(table) } else { Ok(()) }
    }

    /// Stores an admission table in place of `stored`, which must be the table that is stored. Writes the difference,
    /// except now and then.
    pub fn change_admission(&self, stored: &Admission, table: &Admission) -> Result<(), KeepError> {
        let change = if *stored == Admission::default() { None } else { table.since(stored) };
        let Some(change) = change else { return self.write_admission(table) };
        let failed = |error| KeepError::Disk { file: ADMISSION_CHANGES, error };
        let known = *self.changes_end.lock();
        let end = match known {
            Some(end) => end,
            None => {
                // What follows the last whole change was being written when the machine lost its power, and is
                // overwritten.
                let bytes = self.find(ADMISSION_CHANGES)?.unwrap_or_default();
                changes(&bytes).map(|change| CHANGE_HEAD + change.len()).sum::<usize>() as u64
            }
        };
        if end > CHANGES_LEN + REMOVAL_LEN * table.removed.len() as u64 {
            return self.write_admission(table);
        }
        let bytes = framed_change(&change);
        let file = self.disk.open(ADMISSION_CHANGES).map_err(failed)?;
        file.write_at(end, &bytes).map_err(failed)?;
        file.sync().map_err(failed)?;
        *self.changes_end.lock() = Some(end + bytes.len() as u64);
        Ok(())
    }

    fn write_admission(&self, table: &Admission) -> Result<(), KeepError> {
        self.save(ADMISSION, table)?;
        // After a crash at this point, changes are left that the table contains already; they are not applied again.
        self.forget_changes()
    }

    fn forget_changes(&self) -> Result<(), KeepError> {
        *self.changes_end.lock() = None;
        self.remove(ADMISSION_CHANGES)
    }

    /// Removes what belongs to the cluster: identity, key and admission table. The boot counter and the socket's key
    /// stay, because they belong to the daemon and a generation must never repeat.
    pub fn forget_cluster(&self) -> Result<(), KeepError> {
        self.forget_changes()?;
        [IDENTITY, KEY, ADMISSION].into_iter().try_for_each(|file| self.remove(file))
    }

    fn remove(&self, file: &'static str) -> Result<(), KeepError> {
        self.disk.remove(file).map_err(|error| KeepError::Disk { file, error })
    }

    fn load<T: bincode::Decode<()>>(&self, file: &'static str) -> Result<Option<T>, KeepError> {
        let Some(bytes) = self.find(file)? else { return Ok(None) };
        let damaged = |why: String| KeepError::Damaged { file, why };
        match bytes.split_first() {
            Some((&FORMAT, rest)) => decode(rest).map(Some).map_err(|why| match why {
                why @ DecodeError::Newer { .. } => KeepError::Newer { file, why },
                why @ DecodeError::Damaged { .. } => damaged(why.to_string()),
            }),
            Some((&other, _)) if other > FORMAT => {
                let why = DecodeError::Newer { what: "file", found: other.into(), known: FORMAT.into() };
                Err(KeepError::Newer { file, why })
            }
            Some((other, _)) => Err(damaged(format!("it has format {other}, this version knows {FORMAT}"))),
            None => Err(damaged("it is empty".into())),
        }
    }

    fn save<T: bincode::Encode>(&self, file: &'static str, value: &T) -> Result<(), KeepError> {
        self.disk.write(file, &framed(value)).map_err(|error| KeepError::Disk { file, error })
    }

    fn find(&self, file: &'static str) -> Result<Option<Vec<u8>>, KeepError> {
        self.disk.find(file).map_err(|error| KeepError::Disk { file, error })
    }

    fn write_secret(&self, file: &'static str, bytes: &[u8]) -> Result<(), KeepError> {
        self.disk.write_secret(file, bytes).map_err(|error| KeepError::Disk { file, error })
    }
}

impl fmt::Debug for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keep")
    }
}

fn framed<T: bincode::Encode>(value: &T) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    bytes.extend(encode(value));
    bytes
}

/// A change as it is stored: its length, its checksum and its bytes.
fn framed_change(change: &AdmissionChange) -> Vec<u8> {
    let body = encode(change);
    let len = u32::try_from(body.len()).expect("a table has less than four gigabytes");
    let mut bytes = Vec::with_capacity(CHANGE_HEAD + body.len());
    bytes.extend(len.to_le_bytes());
    bytes.extend(Sum::of(&body).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// The whole changes at the beginning of the file of changes.
fn changes(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = bytes.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        bytes = rest;
        (Sum::of(body) == u64::from_le_bytes(*sum) && !body.is_empty()).then_some(body)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_system::env::SimDisk;
    use essaim_transport::{Authority, Grant, Serial, SigningRequest};
    use essaim_wire::{ClusterId, Index, Lineage, NodeId, Role, Timestamp};
    use std::time::Duration;

    fn fixture() -> (SimDisk, Keep, Seed) {
        let disk = SimDisk::new();
        let keep = Keep::new(Arc::new(disk.clone()));
        (disk, keep, Seed::from_number(1))
    }

    fn identity(key: Key) -> Identity {
        let serial = |nonce| Serial { granted: Index(1), nonce };
        let now = Timestamp::from_micros(1_000_000_000_000_000);
        let cluster = ClusterId::from_bits(9);
        let authority = Authority::create(cluster, Key::from_seed([1; 32]), serial(1), now);
        let grant = Grant {
            cluster,
            node: NodeId::from_bits(3),
            role: Role::Worker,
            serial: serial(2),
            now,
            lifetime: Duration::from_secs(3600),
        };
        let own = authority.sign(&SigningRequest::create(&key), &grant).expect("signed");
        Identity::new(vec![own], key, vec![authority.certificate().clone()]).expect("it fits")
    }

    #[test]
    fn every_start_has_a_greater_generation_and_a_crash_does_not_take_it_back() {
        let (disk, keep, _) = fixture();
        assert_eq!(keep.boot().expect("kept"), Generation(1));
        disk.crash(None);
        assert_eq!(keep.boot().expect("kept"), Generation(2));
        keep.forget_cluster().expect("forgotten");
        assert_eq!(keep.boot().expect("kept"), Generation(3));
    }

    #[test]
    fn an_identity_survives_its_file_and_the_key_asked_with_goes() {
        let (disk, keep, seed) = fixture();
        assert!(keep.identity().expect("no error").is_none());
        let key = keep.key(&seed).expect("drawn");
        assert_eq!(keep.key(&seed).expect("kept"), key, "asking again asks for the same");
        keep.save_identity(&identity(key.clone())).expect("kept");
        let read = keep.identity().expect("no error").expect("it is there");
        assert_eq!((read.node(), read.key(), read.roots().len()), (NodeId::from_bits(3), &key, 1));
        assert_eq!(disk.files().len(), 1);
    }

    #[test]
    fn a_damaged_file_is_named_with_the_way_out() {
        let (disk, keep, seed) = fixture();
        for (file, act) in [
            (IDENTITY, (|keep: &Keep, _: &Seed| keep.identity().map(drop)) as fn(&Keep, &Seed) -> _),
            (KEY, |keep, seed| keep.key(seed).map(drop)),
            (ADMISSION, |keep, _| keep.admission().map(drop)),
            (GENERATION, |keep, _| keep.boot().map(drop)),
        ] {
            disk.write(file, b"\x01").expect("written");
            let error = act(&keep, &seed).expect_err(file).to_string();
            assert!(error.starts_with(file) && error.contains("join again"), "{error}");
            disk.remove(file).expect("removed");
        }
    }

    #[test]
    fn a_table_never_goes_back_on_disk() {
        let (_, keep, _) = fixture();
        let at = |index| Admission {
            lineage: Lineage { ordinal: 1, nonce: 1 },
            index: Index(index),
            ..Admission::default()
        };
        keep.save_admission(&at(5)).expect("kept");
        keep.save_admission(&at(4)).expect("no error");
        assert_eq!(keep.admission().expect("kept").index, Index(5));
    }

    fn removed(count: u128) -> Admission {
        let removal = |node| (NodeId::from_bits(node), Timestamp::from_micros(u64::MAX));
        Admission {
            lineage: Lineage { ordinal: 1, nonce: 1 },
            index: Index(count as u64),
            removed: (1..=count).map(removal).collect(),
            ..Admission::default()
        }
    }

    fn remove_one_more(table: &Admission) -> Admission {
        let mut next = table.clone();
        next.index = Index(table.index.0 + 1);
        next.removed.insert(NodeId::from_bits(u128::from(next.index.0)), Timestamp::from_micros(u64::MAX));
        next
    }

    #[test]
    fn a_removal_writes_as_many_bytes_however_many_nodes_were_removed_before() {
        let (disk, keep, _) = fixture();
        let mut table = removed(10_000);
        keep.save_admission(&table).expect("kept");
        let whole = disk.read(ADMISSION).expect("written");
        for _ in 0..100 {
            let next = remove_one_more(&table);
            keep.change_admission(&table, &next).expect("kept");
            table = next;
        }
        assert_eq!(disk.read(ADMISSION).expect("written"), whole);
        let changes = disk.read(ADMISSION_CHANGES).expect("written").len();
        assert!(changes < 100 * 100, "{changes} bytes for a hundred removals");
        assert_eq!(Keep::new(Arc::new(disk)).admission().expect("kept"), table);
    }

    #[test]
    fn the_changes_of_a_table_never_outgrow_it_and_survive_every_crash() {
        let (disk, mut keep, _) = fixture();
        let (mut table, mut longest) = (removed(3), 0);
        keep.save_admission(&table).expect("kept");
        for step in 0..2_000 {
            let next = remove_one_more(&table);
            keep.change_admission(&table, &next).expect("kept");
            table = next;
            longest = longest.max(disk.read(ADMISSION_CHANGES).unwrap_or_default().len());
            if step % 7 == 0 {
                disk.crash(None);
                keep = Keep::new(Arc::new(disk.clone()));
                assert_eq!(keep.admission().expect("kept"), table);
            }
        }
        assert!(longest < 4096 + 26 * 2_003 + 100, "{longest}");
    }

    #[test]
    fn a_change_that_was_cut_by_a_crash_is_no_part_of_the_table_and_is_overwritten() {
        let (disk, keep, _) = fixture();
        let table = removed(3);
        keep.save_admission(&table).expect("kept");
        let (next, other) = (remove_one_more(&table), remove_one_more(&removed(3)));
        keep.change_admission(&table, &next).expect("kept");
        let whole = disk.read(ADMISSION_CHANGES).expect("written");
        for cut in 0..whole.len() {
            disk.write(ADMISSION_CHANGES, &whole[..cut]).expect("written");
            let keep = Keep::new(Arc::new(disk.clone()));
            assert_eq!(keep.admission().expect("kept"), table, "{cut}");
            keep.change_admission(&table, &other).expect("kept");
            assert_eq!(keep.admission().expect("kept"), other);
        }
        let mut damaged = whole;
        damaged[CHANGE_HEAD + 3] ^= 1;
        disk.write(ADMISSION_CHANGES, &damaged).expect("written");
        assert_eq!(keep.admission().expect("kept"), table);
    }

    #[test]
    fn a_table_of_another_history_and_a_forgotten_cluster_leave_no_changes_behind() {
        let (disk, keep, _) = fixture();
        let table = removed(3);
        keep.save_admission(&table).expect("kept");
        keep.change_admission(&table, &remove_one_more(&table)).expect("kept");
        let other = Admission { lineage: Lineage { ordinal: 2, nonce: 9 }, ..removed(5) };
        keep.change_admission(&remove_one_more(&table), &other).expect("kept");
        assert_eq!(keep.admission().expect("kept"), other);
        assert_eq!(disk.find(ADMISSION_CHANGES).expect("no error"), None);
        keep.change_admission(&other, &remove_one_more(&other)).expect("kept");
        keep.forget_cluster().expect("forgotten");
        assert_eq!(keep.admission().expect("none"), Admission::default());
    }

    #[test]
    fn the_bytes_of_the_small_files_never_change() {
        assert_eq!(framed(&Generation(3)), [1, 3]);
        assert_eq!(framed(&Admission::default()), [1, 1, 0, 0, 0, 0, 0]);
        assert_eq!(framed(&[7u8; 32]), [[1].as_slice(), &[7; 32]].concat());
    }
}
