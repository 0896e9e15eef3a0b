//! A task's log: a ring of two segments, written by the shim and read by the daemon.
//!
//! Segments are named `log.0`, `log.1`, …: when a segment is full, the shim begins the next one and removes the one
//! before the last. The output of a task thus takes at most two segments of disk, and a reader only moves on to greater
//! numbers. A record is a time, a stream, a length and the bytes; a record that is not whole yet is read later. The times
//! of a log never go back, also when the machine's clock is set back, so that a reader can go on after a time.

use super::folder::{Folder, failed};
use super::keeper;
use essaim_wire::Timestamp;
use essaim_worker::engine::{EngineError, LogLine, LogOptions, LogPlace, LogStream};
use futures::Stream;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a record's header: time, stream, length.
const HEADER_LEN: usize = 8 + 1 + 4;

/// Bytes of a line per record: a longer line is split into pieces of this size, as Docker does.
pub(crate) const PIECE_LEN: usize = 16 << 10;

/// Bytes read at once: a batch of lines, but never a whole segment.
const BATCH_BYTES: usize = 256 << 10;

/// Polling interval of a reader that follows a log: short enough for a person, and cheap, as it is one `stat` of an
/// open file.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);

/// The log's writer, in the shim.
pub(crate) struct Writer {
    dir: PathBuf,
    segment_bytes: u64,
    number: u64,
    file: File,
    len: u64,
    buffer: Vec<u8>,
    /// Time of the last line.
    last: Timestamp,
}

impl Writer {
    /// Creates the log of a task that starts now.
    pub(crate) fn create(dir: &Path, segment_bytes: u64) -> io::Result<Self> {
        let file = File::create(segment(dir, 0))?;
        let last = Timestamp::default();
        Ok(Self { dir: dir.into(), segment_bytes, number: 0, file, len: 0, buffer: Vec::new(), last })
    }

    /// Buffers a line; the next [`Self::flush`] writes it to the file.
    pub(crate) fn push(&mut self, at: Timestamp, stream: LogStream, line: &[u8]) {
        let record_len = (HEADER_LEN + line.len()) as u64;
        let len = self.len + self.buffer.len() as u64;
        if len > 0 && len + record_len > self.segment_bytes {
            self.flush();
            self.begin_next();
        }
        self.last = self.last.max(at);
        self.buffer.extend_from_slice(&self.last.as_micros().to_le_bytes());
        self.buffer.push(match stream {
            LogStream::Stdout => 1,
            LogStream::Stderr => 2,
        });
        self.buffer.extend_from_slice(&(line.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(line);
        if self.buffer.len() > BATCH_BYTES {
            self.flush();
        }
    }

    /// Writes the buffered lines. When the disk refuses, these lines are lost and the task goes on.
    pub(crate) fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        match self.file.write_all(&self.buffer) {
            Ok(()) => self.len += self.buffer.len() as u64,
            // A partial record would make all later records unreadable.
            Err(_) => {
                let _ = self.file.set_len(self.len);
                let _ = io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.len));
            }
        }
        self.buffer.clear();
        self.buffer.shrink_to(BATCH_BYTES);
    }

    fn begin_next(&mut self) {
        let Ok(file) = File::create(segment(&self.dir, self.number + 1)) else { return };
        self.number += 1;
        (self.file, self.len) = (file, 0);
        if let Some(old) = self.number.checked_sub(2) {
            let _ = std::fs::remove_file(segment(&self.dir, old));
        }
    }
}

/// The lines of the task in `folder`. At most one batch of them is in memory, however far the reader is behind.
pub(super) fn read(folder: Folder, options: LogOptions) -> impl Stream<Item = Result<LogLine, EngineError>> + Send {
    let state = Reading { folder, options, reader: Reader::default(), lines: VecDeque::new(), bounds: None };
    futures::stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        loop {
            if let Some(line) = state.lines.pop_front() {
                return Some((Ok(line), Some(state)));
            }
            // Asked before reading: if the task has ended by now, the read below gets everything that it wrote.
            let look = tokio::task::spawn_blocking(move || {
                let over = !state.options.follow || keeper::is_over(&state.folder);
                let more = state.fill()?;
                Ok::<_, io::Error>((state, over, more))
            });
            match look.await.map_err(io::Error::other).and_then(|found| found) {
                Err(why) => return Some((Err(failed("cannot read the log", why)), None)),
                Ok((next, over, more)) => {
                    state = next;
                    if state.lines.is_empty() && !more {
                        if over {
                            return None;
                        }
                        tokio::time::sleep(FOLLOW_EVERY).await;
                    }
                }
            }
        }
    })
}

struct Reading {
    folder: Folder,
    options: LogOptions,
    reader: Reader,
    lines: VecDeque<LogLine>,
    /// What was found out when the read began; none before.
    bounds: Option<ReadBounds>,
}

/// What is found out about the log when a read of it begins.
#[derive(Debug, Clone, Copy)]
struct ReadBounds {
    /// End of the log at that time: a read that does not follow ends there, however fast the task writes.
    end: Place,
    /// Lines to leave out because only the last ones are wanted, and the segment in which they are.
    leave_out: (u64, u64),
}

/// A place in the ring: the number of a segment, and an offset in it.
type Place = (u64, u64);

impl Reading {
    /// Reads the next batch into the buffer of lines. Returns whether anything was read, wanted or not.
    fn fill(&mut self) -> io::Result<bool> {
        let bounds = match &mut self.bounds {
            Some(bounds) => bounds,
            bounds => bounds.insert(begin(self.folder.path(), &self.options)?),
        };
        if !self.options.follow && self.reader.place() >= bounds.end {
            return Ok(false);
        }
        let (options, lines) = (self.options, &mut self.lines);
        self.reader.batch(self.folder.path(), |segment, line| {
            if !options.wants(&line) {
                return;
            }
            // A segment that is gone by now took its lines with it, those to leave out as well.
            let (of, left) = &mut bounds.leave_out;
            match segment.cmp(of) {
                Ordering::Less => return,
                Ordering::Equal if *left > 0 => return *left -= 1,
                Ordering::Equal | Ordering::Greater => (),
            }
            lines.push_back(line);
        })
    }
}

/// Looks through the log for its end, and for the place at which the wanted last lines begin. The lines are counted and
/// not kept: a reader that asks for the last million of them takes no memory for it.
fn begin(dir: &Path, options: &LogOptions) -> io::Result<ReadBounds> {
    let mut reader = Reader::default();
    let Some(tail) = options.tail else {
        let end = match newest(dir)? {
            Some(number) => (number, std::fs::metadata(segment(dir, number)).map_or(u64::MAX, |file| file.len())),
            None => (0, 0),
        };
        return Ok(ReadBounds { end, leave_out: (0, 0) });
    };
    let mut counts: Vec<(u64, u64)> = Vec::new();
    while reader.batch(dir, |segment, line| {
        let wanted = u64::from(options.wants(&line));
        match counts.last_mut() {
            Some((last, count)) if *last == segment => *count += wanted,
            _ => counts.push((segment, wanted)),
        }
    })? {}
    let mut surplus = counts.iter().map(|(_, count)| count).sum::<u64>().saturating_sub(tail);
    let mut leave_out = (0, 0);
    for (segment, count) in counts {
        leave_out = (segment, surplus.min(count));
        surplus -= leave_out.1;
        // The last segment is looked through even if all of its lines are left out: what is written later is wanted.
        if surplus == 0 && leave_out.1 < count {
            break;
        }
    }
    Ok(ReadBounds { end: reader.place(), leave_out })
}

/// The log's reader: a position in the ring of segments.
#[derive(Default)]
struct Reader {
    open: Option<(u64, File)>,
    offset: u64,
    /// Time of the last line that was read, and the number of lines of this time.
    last: LogPlace,
}

impl Reader {
    /// The place up to which the log was read.
    fn place(&self) -> Place {
        (self.open.as_ref().map_or(0, |(number, _)| *number), self.offset)
    }

    /// Passes the records of the next batch to `each`, each with the number of its segment. Returns whether there was
    /// any.
    fn batch(&mut self, dir: &Path, mut each: impl FnMut(u64, LogLine)) -> io::Result<bool> {
        loop {
            let (number, file) = match &self.open {
                Some((number, file)) => (*number, file),
                None => match oldest(dir, 0)? {
                    None => return Ok(false),
                    Some(number) => {
                        self.begin(dir, number)?;
                        continue;
                    }
                },
            };
            // Looked up before reading: a segment that has a successor no longer grows.
            let next = oldest(dir, number + 1)?;
            let mut bytes = vec![0; BATCH_BYTES];
            let len = read_up_to(file, &mut bytes, self.offset)?;
            let last = &mut self.last;
            let used = records(&bytes[..len], &mut |mut line| {
                line.nth = if line.at == last.at { last.lines } else { 0 };
                *last = LogPlace::after(&line);
                each(number, line);
            });
            self.offset += used as u64;
            if used > 0 {
                return Ok(true);
            }
            match next {
                Some(next) => self.begin(dir, next)?,
                None => return Ok(false),
            }
        }
    }

    fn begin(&mut self, dir: &Path, number: u64) -> io::Result<()> {
        self.offset = 0;
        match File::open(segment(dir, number)) {
            Ok(file) => self.open = Some((number, file)),
            // The segment was removed meanwhile: the task writes faster than this reads. Continue with the oldest
            // segment.
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                self.open = match oldest(dir, number + 1)? {
                    Some(next) => Some((next, File::open(segment(dir, next))?)),
                    None => None,
                }
            }
            Err(why) => return Err(why),
        }
        Ok(())
    }
}

/// Passes the whole records at the start of `bytes` to `each`; returns the number of bytes they took.
fn records(bytes: &[u8], each: &mut impl FnMut(LogLine)) -> usize {
    let mut used = 0;
    while let Some(header) = bytes.get(used..used + HEADER_LEN) {
        let at = u64::from_le_bytes(header[..8].try_into().expect("eight bytes"));
        let len = u32::from_le_bytes(header[9..].try_into().expect("four bytes")) as usize;
        let start = used + HEADER_LEN;
        let Some(line) = start.checked_add(len).and_then(|end| bytes.get(start..end)) else { break };
        let stream = if header[8] == 2 { LogStream::Stderr } else { LogStream::Stdout };
        each(LogLine::new(Timestamp::from_micros(at), stream, line.to_vec()));
        used = start + len;
    }
    used
}

fn read_up_to(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut len = 0;
    while len < bytes.len() {
        match file.read_at(&mut bytes[len..], offset + len as u64) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => (),
            Err(why) => return Err(why),
        }
    }
    Ok(len)
}

/// The oldest segment with a number of at least `from`.
fn oldest(dir: &Path, from: u64) -> io::Result<Option<u64>> {
    Ok(segments(dir)?.into_iter().filter(|number| *number >= from).min())
}

fn newest(dir: &Path) -> io::Result<Option<u64>> {
    Ok(segments(dir)?.into_iter().max())
}

/// Numbers of the segments that exist: two, and for a moment three.
fn segments(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(|name| name.strip_prefix("log.")?.parse::<u64>().ok()));
    }
    Ok(found)
}

fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("log.{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(dir: &Path) -> Vec<LogLine> {
        let mut found = Vec::new();
        let mut reader = Reader::default();
        while reader.batch(dir, |_, line| found.push(line)).unwrap() {}
        found
    }

    #[test]
    fn the_bytes_of_a_record_never_change() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(dir.path(), 1 << 20).unwrap();
        writer.push(Timestamp::from_micros(258), LogStream::Stderr, b"no\n");
        writer.flush();
        let golden = [2, 1, 0, 0, 0, 0, 0, 0, 2, 3, 0, 0, 0, b'n', b'o', b'\n'];
        assert_eq!(std::fs::read(segment(dir.path(), 0)).unwrap(), golden);
    }

    #[test]
    fn a_log_takes_two_segments_at_most_and_keeps_the_newest_lines() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(dir.path(), 1000).unwrap();
        for number in 0..1000 {
            writer.push(Timestamp::from_micros(number), LogStream::Stdout, format!("line {number}\n").as_bytes());
        }
        writer.flush();
        let sizes: Vec<u64> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| *size <= 1000), "{sizes:?}");
        let found = lines(dir.path());
        let times: Vec<u64> = found.iter().map(|line| line.at.as_micros()).collect();
        assert_eq!(times, ((1000 - times.len() as u64)..1000).collect::<Vec<_>>(), "in order, without a gap");
    }

    #[test]
    fn half_a_record_waits_for_its_other_half() {
        let dir = tempfile::tempdir().unwrap();
        let whole = [2, 1, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, b'o', b'k'];
        let mut reader = Reader::default();
        let mut found = Vec::new();
        for cut in 0..whole.len() {
            std::fs::write(segment(dir.path(), 0), &whole[..cut]).unwrap();
            assert!(!reader.batch(dir.path(), |_, line| found.push(line)).unwrap(), "after {cut} bytes");
        }
        std::fs::write(segment(dir.path(), 0), whole).unwrap();
        assert!(reader.batch(dir.path(), |_, line| found.push(line)).unwrap());
        assert_eq!(found[0].bytes, b"ok");
    }

    #[test]
    fn a_slow_reader_goes_on_with_the_oldest_line_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(dir.path(), 100).unwrap();
        let mut reader = Reader::default();
        let mut found = Vec::new();
        writer.push(Timestamp::from_micros(0), LogStream::Stdout, b"first\n");
        writer.flush();
        assert!(reader.batch(dir.path(), |_, line| found.push(line)).unwrap());
        for number in 1..100 {
            writer.push(Timestamp::from_micros(number), LogStream::Stdout, b"more\n");
            writer.flush();
        }
        while reader.batch(dir.path(), |_, line| found.push(line)).unwrap() {}
        assert_eq!(found.last().unwrap().at.as_micros(), 99);
    }

    /// Reads the log with these options to its end, or to the first pause of the task.
    fn texts(reading: &mut Reading) -> Vec<String> {
        let mut found = Vec::new();
        while reading.fill().unwrap() {
            found.extend(reading.lines.drain(..).map(|line| String::from_utf8(line.bytes).unwrap()));
        }
        found
    }

    fn reading(dir: &Path, options: LogOptions) -> Reading {
        let folder = Folder::at(&dir.join(essaim_model::TaskId::from_bits(1).to_string())).unwrap();
        Reading { folder, options, reader: Reader::default(), lines: VecDeque::new(), bounds: None }
    }

    /// A log with lines of its numbers, of which 10 fit into a segment.
    fn written(dir: &Path, lines: std::ops::Range<u64>) -> Writer {
        let folder = dir.join(essaim_model::TaskId::from_bits(1).to_string());
        std::fs::create_dir(&folder).unwrap();
        let mut writer = Writer::create(&folder, 10 * (HEADER_LEN as u64 + 3)).unwrap();
        write(&mut writer, lines);
        writer
    }

    fn write(writer: &mut Writer, lines: std::ops::Range<u64>) {
        for number in lines {
            let stream = if number % 2 == 0 { LogStream::Stdout } else { LogStream::Stderr };
            writer.push(Timestamp::from_micros(number), stream, format!("{number:03}").as_bytes());
        }
        writer.flush();
    }

    #[test]
    fn the_last_lines_are_those_of_the_wanted_stream_and_time_and_what_is_written_later() {
        for (lines, tail, stderr, expected) in [
            (0..15, 3, true, vec!["012", "013", "014"]),
            (0..15, 3, false, vec!["010", "012", "014"]),
            (0..15, 8, true, vec!["007", "008", "009", "010", "011", "012", "013", "014"]),
            (0..15, 0, true, vec![]),
            (0..10, 0, true, vec![]),
            (0..35, 100, false, vec!["020", "022", "024", "026", "028", "030", "032", "034"]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let mut writer = written(dir.path(), lines);
            let options = LogOptions { tail: Some(tail), stderr, follow: true, ..LogOptions::default() };
            let mut reading = reading(dir.path(), options);
            assert_eq!(texts(&mut reading), expected, "{options:?}");
            write(&mut writer, 100..101);
            assert_eq!(texts(&mut reading), ["100"], "{options:?}");
        }
    }

    #[test]
    fn a_read_that_does_not_follow_ends_however_fast_the_task_writes() {
        for tail in [None, Some(4)] {
            let dir = tempfile::tempdir().unwrap();
            let mut writer = written(dir.path(), 0..5);
            let mut reading = reading(dir.path(), LogOptions { tail, ..LogOptions::default() });
            let mut next = 5;
            let mut found = 0;
            while reading.fill().unwrap() {
                found += reading.lines.drain(..).len();
                write(&mut writer, next..next + 30);
                next += 30;
                assert!(next < 200, "{found} lines so far");
            }
            assert!(found >= 4, "{found}");
        }
    }

    #[test]
    fn the_times_of_a_log_never_go_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(dir.path(), 1000).unwrap();
        for at in [5, 3, 7] {
            writer.push(Timestamp::from_micros(at), LogStream::Stdout, b"x");
        }
        writer.flush();
        let times: Vec<_> = lines(dir.path()).iter().map(|line| (line.at.as_micros(), line.nth)).collect();
        assert_eq!(times, [(5, 0), (5, 1), (7, 0)]);
    }
}
