//! The log of a container, line by line.

use super::client::{CallError, Client};
use super::frames::{Form, Messages};
use super::state::time;
use bytes::Bytes;
use essaim_wire::Timestamp;
use essaim_worker::engine::{EngineError, LogLine, LogOptions, LogPlace, LogStream};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use parking_lot::Mutex;
use std::sync::Arc;

/// Reads the log of a container. No more of it is in memory than one read of the connection and one line: the engine
/// waits for a slow reader.
pub(super) fn read(
    client: Arc<Client>,
    container: String,
    form: Form,
    options: LogOptions,
) -> BoxStream<'static, Result<LogLine, EngineError>> {
    let lines = once(Arc::clone(&client), &container, form, options);
    if !options.follow {
        return lines;
    }
    // Docker Engine 20.10 may end a followed log just before the container's last lines. So when it has ended, the log is
    // read once more, from its last line on.
    let read = Arc::new(Mutex::new(None));
    let noting = Arc::clone(&read);
    let lines = lines.inspect_ok(move |line| *noting.lock() = Some(LogPlace::after(line)));
    let rest = async move {
        let place = *read.lock();
        let (since, tail) = match place {
            Some(LogPlace { at, .. }) => (Some(at), None),
            None => (options.since, options.tail),
        };
        let missed = once(client, &container, form, LogOptions { follow: false, since, tail, ..options });
        // That the log is gone by now is no error: it was read to its end.
        missed.filter(move |line| std::future::ready(line.as_ref().is_ok_and(|line| is_after(line, place))))
    };
    lines.chain(rest.flatten_stream()).boxed()
}

/// Whether a line comes after this place of a log.
fn is_after(line: &LogLine, place: Option<LogPlace>) -> bool {
    place.is_none_or(|place| (line.at, line.nth) >= (place.at, place.lines))
}

fn once(
    client: Arc<Client>,
    container: &str,
    form: Form,
    options: LogOptions,
) -> BoxStream<'static, Result<LogLine, EngineError>> {
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
    messages(client, path(container, options), form, options.details)
        .map_err(refused)
        .map_ok(move |(stream, message)| read_line(stream, &message, options.details))
        .map_ok(counted)
        .filter(move |line| std::future::ready(wanted(line)))
        .boxed()
}

/// The messages of a log as the engine sends them.
fn messages(
    client: Arc<Client>,
    path: String,
    form: Form,
    details: bool,
) -> BoxStream<'static, Result<(LogStream, Vec<u8>), CallError>> {
    let reading = async move {
        let source = client.read(&path).await?;
        let begin = (Some(source), Messages::new(form, details), Bytes::new());
        Ok(futures::stream::try_unfold(begin, async |(mut source, mut messages, mut chunk)| {
            loop {
                if let Some(message) = messages.next(&mut chunk)? {
                    return Ok(Some((message, (source, messages, chunk))));
                }
                let Some(open) = &mut source else { return Ok(None) };
                match open.next().await? {
                    Some(next) => chunk = next,
                    None => return Ok(messages.rest().map(|message| (message, (None, messages, Bytes::new())))),
                }
            }
        }))
    };
    reading.try_flatten_stream().boxed()
}

/// Path and query of a log. The engine's times are whole seconds here.
fn path(container: &str, options: LogOptions) -> String {
    let LogOptions { since, until, tail, follow, stdout, stderr, details } = options;
    let seconds = |at: Timestamp| at.as_micros() / 1_000_000;
    let since = since.map_or(0, seconds);
    let until = until.map_or(0, |until| seconds(until) + 1);
    let tail = tail.map_or("all".into(), |lines| lines.to_string());
    format!(
        "/containers/{container}/logs?timestamps=true&follow={follow}&stdout={stdout}&stderr={stderr}\
         &since={since}&until={until}&tail={tail}&details={details}"
    )
}

/// The error of a read that brought nothing. A log driver that cannot be read never can.
fn refused(error: CallError) -> EngineError {
    match error {
        CallError::Refused(_, words) if words.contains("does not support reading") => EngineError::Rejected(words),
        other => other.into(),
    }
}

/// A line, or a part of a long one, behind the time and, if they were asked for, the details that the engine wrote before
/// it.
fn read_line(stream: LogStream, message: &[u8], details: bool) -> LogLine {
    let stamped = blank_in(message).and_then(|(at, rest)| Some((time(std::str::from_utf8(at).ok()?)?, rest)));
    let Some((at, rest)) = stamped else { return LogLine::new(Timestamp::default(), stream, message.to_vec()) };
    let (said, rest) = if details { blank_in(rest).unwrap_or((&[], rest)) } else { (&[][..], rest) };
    LogLine { details: read_details(said), ..LogLine::new(at, stream, rest.to_vec()) }
}

/// What stands before and behind the first blank.
fn blank_in(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = bytes.iter().position(|byte| *byte == b' ')?;
    Some((&bytes[..blank], &bytes[blank + 1..]))
}

/// Reads `name=value,…`, where names and values are escaped as in the query of a URL.
fn read_details(said: &[u8]) -> Vec<(String, String)> {
    said.split(|byte| *byte == b',')
        .filter(|pair| !pair.is_empty())
        .flat_map(form_urlencoded::parse)
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_time_that_the_engine_wrote_before_it() {
        let read = read_line(LogStream::Stderr, b"1970-01-01T00:00:01.000002003Z hello world\n", false);
        assert_eq!((read.at, read.stream), (Timestamp::from_micros(1_000_002), LogStream::Stderr));
        assert_eq!(read.bytes, b"hello world\n");
    }

    #[test]
    fn details_stand_between_the_time_and_the_line() {
        let read =
            |message: &str| read_line(LogStream::Stdout, format!("1970-01-01T00:00:01Z {message}").as_bytes(), true);
        let line = read("env=a+b%2C%3D,tier=%26 hello world\n");
        let pairs = [("env", "a b,="), ("tier", "&")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!((line.bytes.as_slice(), line.details), (&b"hello world\n"[..], pairs.into()));
        let line = read(" hello world\n");
        assert_eq!((line.bytes.as_slice(), line.details), (&b"hello world\n"[..], Vec::new()));
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
        let moment = Some(Timestamp::from_micros(2_900_000));
        let asked = path("c1", LogOptions { since: moment, until: moment, ..LogOptions::default() });
        let expected =
            "/containers/c1/logs?timestamps=true&follow=false&stdout=true&stderr=true&since=2&until=3&tail=all";
        assert_eq!(asked, format!("{expected}&details=false"));
    }
}
