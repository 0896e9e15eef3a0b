//! A redb database on a file of the node's [`Disk`](essaim_system::env::Disk). A simulated disk thus sits below
//! everything: it decides what is lost or kept of the data that redb has written.

use essaim_system::env::DiskFile;
use parking_lot::{Mutex, RwLock};
use redb::StorageBackend;
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

/// First error of the disk, as text. It is kept, because redb would report it as if the file were damaged.
pub(crate) type Refused = Arc<OnceLock<String>>;

/// The file, until the database closes it.
pub(crate) struct DatabaseFile {
    file: RwLock<Option<Box<dyn DiskFile>>>,
    /// Length of the file in bytes. It is kept because redb asks for it often, and grows the file from several places.
    len: Mutex<u64>,
    refused: Refused,
}

impl DatabaseFile {
    pub(crate) fn new(file: Box<dyn DiskFile>) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self { file: RwLock::new(Some(file)), len: Mutex::new(len), refused: Refused::default() })
    }

    /// Handle on the first error of the disk.
    pub(crate) fn refused(&self) -> Refused {
        Arc::clone(&self.refused)
    }

    fn with<T>(&self, then: impl FnOnce(&dyn DiskFile) -> io::Result<T>) -> io::Result<T> {
        let file = self.file.read();
        match file.as_deref() {
            Some(file) => then(file).inspect_err(|why| {
                // A file that ends too early is damaged; the disk did not refuse.
                if why.kind() != io::ErrorKind::UnexpectedEof {
                    self.refused.get_or_init(|| why.to_string());
                }
            }),
            None => Err(io::Error::new(io::ErrorKind::NotConnected, "the log is closed")),
        }
    }
}

impl fmt::Debug for DatabaseFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseFile")
    }
}

impl StorageBackend for DatabaseFile {
    fn len(&self) -> io::Result<u64> {
        Ok(*self.len.lock())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|file| file.read_at(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut known = self.len.lock();
        self.with(|file| file.set_len(len))?;
        *known = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|file| file.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut known = self.len.lock();
        self.with(|file| file.write_at(offset, data))?;
        *known = (*known).max(offset + data.len() as u64);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.write().take();
        Ok(())
    }
}
