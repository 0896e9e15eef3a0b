//! Snapshots: the state up to an index of the log, so that the log before it can be purged.
//!
//! A file is a sequence of sealed frames (length, sealed bytes). The first has the snapshot's metadata; those after it
//! are one zstd stream in slices of a quarter MiB; the last is empty except for the number of slices, so that a
//! truncated file is detected. Each frame is sealed with its number, so none can be left out, doubled or exchanged. The
//! stream contains the pieces of the state, each after its length: neither the state nor the stream is ever one buffer.
//!
//! [`frames`] writes and reads files. [`folder`] lists them: each is written under another name, synced and renamed,
//! and two are kept. A peer gets the compressed stream, unsealed, since every manager has a key of its own; the session
//! that carries it is encrypted.

pub(crate) mod folder;
pub(crate) mod frames;

use crate::format::{LogId, SnapshotMeta, StoredMembership};
use essaim_model::State;
use essaim_model::snapshot::Piece;
use essaim_wire::{decode_prefix, encode_into};
use std::io::{self, Read, Write};

/// zstd's fastest level: the state is encoded integers and text, and time matters more than the last tenth of the size.
const LEVEL: i32 = 1;

/// A state, with the log entry and the membership that it belongs to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
    pub(crate) state: State,
}

impl Image {
    /// Metadata of the snapshot.
    pub(crate) fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last: self.last, membership: self.membership.clone() }
    }

    /// Writes the state as a compressed stream.
    pub(crate) fn compress<W: Write>(&self, out: W) -> io::Result<W> {
        let mut stream = zstd::stream::write::Encoder::new(out, LEVEL)?;
        let mut bytes = Vec::new();
        for piece in self.state.pieces() {
            bytes.clear();
            encode_into(&piece, &mut bytes).map_err(invalid)?;
            let len = u32::try_from(bytes.len()).map_err(invalid)?;
            stream.write_all(&len.to_le_bytes())?;
            stream.write_all(&bytes)?;
        }
        stream.finish()
    }

    /// Reads the state that [`Image::compress`] wrote.
    pub(crate) fn decompress(meta: SnapshotMeta, from: impl Read) -> io::Result<Self> {
        let mut stream = zstd::stream::read::Decoder::new(from)?;
        let mut state = State::default();
        let mut bytes = Vec::new();
        let mut len = [0; 4];
        while read_or_end(&mut stream, &mut len)? {
            let wanted = u64::from(u32::from_le_bytes(len));
            bytes.clear();
            if (&mut stream).take(wanted).read_to_end(&mut bytes)? as u64 != wanted {
                return Err(invalid("the stream ends inside a piece"));
            }
            let (piece, used) = decode_prefix::<Piece>(&bytes).map_err(invalid)?;
            if used != bytes.len() {
                return Err(invalid("a piece has bytes too many"));
            }
            state.insert(piece);
        }
        Ok(Self { last: meta.last, membership: meta.membership, state })
    }
}

/// Fills `bytes`. Returns false when the stream ended before the first byte.
fn read_or_end(stream: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < bytes.len() {
        match stream.read(&mut bytes[filled..])? {
            0 if filled == 0 => return Ok(false),
            0 => return Err(invalid("the stream ends inside a length")),
            some => filled += some,
        }
    }
    Ok(true)
}

pub(crate) fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
