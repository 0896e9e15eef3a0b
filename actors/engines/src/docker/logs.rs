//! The log of a container, line by line.

use super::client::Fault;
use super::state::time;
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::query_parameters::{LogsOptions, LogsOptionsBuilder};
use essaim_wire::Timestamp;
use essaim_worker::engine::{EngineError, LogLine, LogOptions, LogPlace, LogStream};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use std::sync::Arc;

/// Reads the log of a container. No more of it is in memory than one line: the engine waits for a slow reader.
pub(super) fn read(
    docker: &Docker,
    container: &str,
    options: LogOptions,
) -> BoxStream<'static, Result<LogLine, EngineError>> {
    let lines = once(docker, container, options);
    if !options.follow {
        return lines;
    }
    // Docker Engine 20.10 may end a followed log just before the container's last lines. So when it has ended, the log is
    // read once more, from its last line on.
    let (docker, container) = (docker.clone(), container.to_owned());
    let read = Arc::new(Mutex::new(None));
    let noting = Arc::clone(&read);
    let lines = lines.inspect_ok(move |line| *noting.lock() = Some(LogPlace::after(line)));
    let rest = async move {
        let place = *read.lock();
        let (since, tail) = match place {
            Some(LogPlace { at, .. }) => (Some(at), None),
            None => (options.since, options.tail),
        };
        let missed = once(&docker, &container, LogOptions { follow: false, since, tail, ..options });
        // That the log is gone by now is no error: it was read to its end.
        missed.filter(move |line| std::future::ready(line.as_ref().is_ok_and(|line| is_after(line, place))))
    };
    lines.chain(rest.flatten_stream()).boxed()
}

/// Whether a line comes after this place of a log.
fn is_after(line: &LogLine, place: Option<LogPlace>) -> bool {
    place.is_none_or(|place| (line.at, line.nth) >= (place.at, place.lines))
}

fn once(docker: &Docker, container: &str, options: LogOptions) -> BoxStream<'static, Result<LogLine, EngineError>> {
    let lines = docker.logs(container, Some(asked(options)));
    // The lines of one time are counted before any is left out; the times of a container's log do not go back, unless
    // the machine's clock does.
    let mut last = LogPlace::default();
    let counted = move |mut line: LogLine| {
        line.at = line.at.max(last.at);
        line.nth = if line.at == last.at { last.lines } else { 0 };
        last = LogPlace::after(&line);
        line
    };
    // The engine's `since` and `until` are in whole seconds.
    let wanted = move |line: &Result<LogLine, EngineError>| line.as_ref().map_or(true, |line| options.wants(line));
    lines
        .map(|line| line.map_err(|why| refused(why.into())).map(|output| read_line(output, Timestamp::default())))
        .map_ok(counted)
        .filter(move |line| std::future::ready(wanted(line)))
        .boxed()
}

fn asked(options: LogOptions) -> LogsOptions {
    // The engine's client cannot ask for the details of a log driver, so lines come without them.
    let LogOptions { since, until, tail, follow, stdout, stderr, details: _ } = options;
    let seconds = |at: Timestamp| i32::try_from(at.as_micros() / 1_000_000).unwrap_or(i32::MAX);
    LogsOptionsBuilder::new()
        .follow(follow)
        .stdout(stdout)
        .stderr(stderr)
        .since(since.map_or(0, seconds))
        .until(until.map_or(0, |until| seconds(until).saturating_add(1)))
        .timestamps(true)
        .tail(&tail.map_or("all".into(), |lines| lines.to_string()))
        .build()
}

/// The error of a read that brought nothing. A log driver that cannot be read never can.
fn refused(fault: Fault) -> EngineError {
    match fault {
        Fault::Refused(_, words) if words.contains("does not support reading") => EngineError::Rejected(words),
        other => other.into(),
    }
}

/// A line, or a part of a long one, with the time that the engine wrote before it; `now` when there is none.
pub(super) fn read_line(output: LogOutput, now: Timestamp) -> LogLine {
    let (stream, message) = match output {
        LogOutput::StdErr { message } => (LogStream::Stderr, message),
        // A task with a terminal has one stream.
        LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message } => {
            (LogStream::Stdout, message)
        }
    };
    let stamped = message.iter().position(|byte| *byte == b' ').and_then(|end| {
        let at = time(std::str::from_utf8(&message[..end]).ok()?)?;
        Some((at, message[end + 1..].to_vec()))
    });
    let (at, bytes) = stamped.unwrap_or_else(|| (now, message.to_vec()));
    LogLine::new(at, stream, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_time_that_the_engine_wrote_before_it() {
        let line = LogOutput::StdErr { message: "1970-01-01T00:00:01.000002003Z hello world\n".into() };
        let read = read_line(line, Timestamp::default());
        assert_eq!((read.at, read.stream), (Timestamp::from_micros(1_000_002), LogStream::Stderr));
        assert_eq!(read.bytes, b"hello world\n");
    }

    #[test]
    fn a_log_that_is_read_again_yields_only_lines_after_those_that_were_read() {
        let line = |at, nth| {
            let mut line = LogLine::new(Timestamp::from_micros(at), LogStream::Stdout, Vec::new());
            line.nth = nth;
            line
        };
        let place = Some(LogPlace::after(&line(2, 1)));
        let again = [line(1, 5), line(2, 0), line(2, 1), line(2, 2), line(3, 0)];
        assert_eq!(again.map(|line| is_after(&line, place)), [false, false, false, true, true]);
        assert!(is_after(&line(0, 0), None));
    }

    #[test]
    fn the_engine_is_asked_for_whole_seconds_and_all_lines() {
        let options = LogOptions { since: Some(Timestamp::from_micros(2_900_000)), ..LogOptions::default() };
        let asked = asked(options);
        assert_eq!((asked.since, asked.tail.as_str(), asked.timestamps), (2, "all", true));
    }
}
