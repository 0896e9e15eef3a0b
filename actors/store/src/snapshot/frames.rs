//! Snapshot files, written and read frame by frame.

use super::{Image, invalid};
use crate::format::{SnapshotHead, SnapshotMeta};
use crate::seal::{OVERHEAD, Sealer};
use essaim_system::env::DiskFile;
use essaim_wire::{decode, encode};
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Bytes of the compressed stream per frame, and per message to a peer.
pub(crate) const SLICE: usize = 256 << 10;

/// Upper bound in bytes on a frame; a greater length is damage, and is not allocated.
const FRAME_MAX: usize = (16 << 20) + OVERHEAD;

/// Kind of a frame, which is sealed with it.
#[derive(Clone, Copy)]
enum FrameKind {
    Head,
    Slice,
    End,
}

fn what(kind: FrameKind, number: u64) -> [u8; 10] {
    let mut what = [b's'; 10];
    what[1] = kind as u8;
    what[2..].copy_from_slice(&number.to_le_bytes());
    what
}

/// Writes a snapshot file. The bytes written to it are the compressed stream.
pub(crate) struct FrameWriter {
    file: Box<dyn DiskFile>,
    sealer: Arc<Sealer>,
    offset: u64,
    slices: u64,
    slice: Vec<u8>,
}

impl FrameWriter {
    /// Begins a file with its head.
    pub(crate) fn begin(file: Box<dyn DiskFile>, sealer: Arc<Sealer>, meta: SnapshotMeta) -> io::Result<Self> {
        file.set_len(0)?;
        let mut writer = Self { file, sealer, offset: 0, slices: 0, slice: Vec::with_capacity(SLICE) };
        writer.frame(FrameKind::Head, 0, &encode(&SnapshotHead::V1(meta)))?;
        Ok(writer)
    }

    /// Writes the last frame and syncs; returns the length of the file.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        if !self.slice.is_empty() {
            self.flush_slice()?;
        }
        self.frame(FrameKind::End, self.slices, &[])?;
        self.file.sync()?;
        Ok(self.offset)
    }

    fn flush_slice(&mut self) -> io::Result<()> {
        let slice = std::mem::replace(&mut self.slice, Vec::with_capacity(SLICE));
        self.frame(FrameKind::Slice, self.slices, &slice)?;
        self.slices += 1;
        Ok(())
    }

    fn frame(&mut self, kind: FrameKind, number: u64, plain: &[u8]) -> io::Result<()> {
        let sealed = self.sealer.seal(&what(kind, number), plain);
        let len = u32::try_from(sealed.len()).map_err(invalid)?;
        self.file.write_at(self.offset, &len.to_le_bytes())?;
        self.file.write_at(self.offset + 4, &sealed)?;
        self.offset += 4 + u64::from(len);
        Ok(())
    }
}

impl Write for FrameWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(SLICE - self.slice.len());
        self.slice.extend_from_slice(&bytes[..taken]);
        if self.slice.len() == SLICE {
            self.flush_slice()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a snapshot file. The bytes read from it are the compressed stream; the last frame is checked.
pub(crate) struct FrameReader {
    file: Box<dyn DiskFile>,
    sealer: Arc<Sealer>,
    len: u64,
    offset: u64,
    slices: u64,
    slice: Vec<u8>,
    used: usize,
    ended: bool,
}

impl FrameReader {
    /// Opens a file and reads its head.
    pub(crate) fn open(file: Box<dyn DiskFile>, sealer: Arc<Sealer>) -> io::Result<(SnapshotMeta, Self)> {
        let len = file.len()?;
        let mut reader = Self { file, sealer, len, offset: 0, slices: 0, slice: Vec::new(), used: 0, ended: false };
        let sealed = reader.sealed()?;
        let head =
            reader.sealer.open(&what(FrameKind::Head, 0), &sealed).map_err(|why| invalid(format!("head: {why}")))?;
        let SnapshotHead::V1(meta) = decode(&head).map_err(invalid)?;
        Ok((meta, reader))
    }

    /// The next slice of the compressed stream; `None` after the last.
    pub(crate) fn next_slice(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        let sealed = self.sealed()?;
        if let Ok(slice) = self.sealer.open(&what(FrameKind::Slice, self.slices), &sealed) {
            self.slices += 1;
            return Ok(Some(slice));
        }
        match self.sealer.open(&what(FrameKind::End, self.slices), &sealed) {
            Ok(_) if self.offset == self.len => {
                self.ended = true;
                Ok(None)
            }
            Ok(_) => Err(invalid("there is something after its end")),
            Err(why) => Err(invalid(format!("frame {}: {why}", self.slices))),
        }
    }

    /// Reads the whole state.
    pub(crate) fn image(mut self, meta: SnapshotMeta) -> io::Result<Image> {
        let image = Image::decompress(meta, &mut self)?;
        // zstd stops at the end of its own stream; the file must end there too.
        match self.next_slice()? {
            None => Ok(image),
            Some(_) => Err(invalid("there is something after the end of its stream")),
        }
    }

    fn sealed(&mut self) -> io::Result<Vec<u8>> {
        let mut len = [0; 4];
        self.file.read_at(self.offset, &mut len).map_err(|_| invalid("it ends too early"))?;
        let len = u32::from_le_bytes(len) as usize;
        if len > FRAME_MAX || self.offset + 4 + len as u64 > self.len {
            return Err(invalid("it ends too early, or a length in it is damaged"));
        }
        let mut sealed = vec![0; len];
        self.file.read_at(self.offset + 4, &mut sealed)?;
        self.offset += 4 + len as u64;
        Ok(sealed)
    }
}

impl Read for FrameReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.used == self.slice.len() {
            match self.next_slice()? {
                Some(slice) => (self.slice, self.used) = (slice, 0),
                None => return Ok(0),
            }
        }
        let taken = out.len().min(self.slice.len() - self.used);
        out[..taken].copy_from_slice(&self.slice[self.used..self.used + taken]);
        self.used += taken;
        Ok(taken)
    }
}
