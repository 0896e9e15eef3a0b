//! The engine's events, line by line.

use super::client::{AnswerBody, LocalEngine, Trouble};
use super::proxy::ClientVersion;
use bytes::{Bytes, BytesMut};
use hyper::body::Body;
use std::fmt::Write;
use std::future::poll_fn;
use std::pin::Pin;

/// Bytes that a line may have. An event of an engine has a few hundred, and some for each label.
const LINE_LEN_MAX: usize = 1 << 20;

/// Lines that arrive from the engine. Dropping it ends the engine's stream. What the reader does not take stays in the
/// engine, behind one buffer.
pub(crate) struct Lines {
    body: AnswerBody,
    buffer: BytesMut,
}

impl LocalEngine {
    /// The engine's events from `since` on: those until `until`, or without an end. Both are nanoseconds since 1970.
    pub(crate) async fn events(
        &self,
        version: Option<&ClientVersion>,
        since: i64,
        until: Option<i64>,
        filters: &str,
    ) -> Result<Lines, Trouble> {
        let mut path = format!("/events?since={}", seconds(since));
        if let Some(until) = until {
            path += &format!("&until={}", seconds(until));
        }
        if !filters.is_empty() {
            path += &format!("&filters={}", encoded(filters));
        }
        let answer = self.get(version, &path).await?;
        if !answer.status().is_success() {
            return Err(self.unusable(format!("{} for its events", answer.status())));
        }
        Ok(Lines { body: answer.into_body(), buffer: BytesMut::new() })
    }
}

impl Lines {
    /// The next line, without its end; `None` when the stream has ended, broke off, or is no text in lines. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1).freeze();
                let line = line.slice(..end);
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Some(line);
            }
            if self.buffer.len() > LINE_LEN_MAX {
                return None;
            }
            let frame = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await?.ok()?;
            self.buffer.extend_from_slice(frame.data_ref()?);
        }
    }
}

/// A time as a query carries it: seconds since 1970 with nine decimals.
fn seconds(nanos: i64) -> String {
    format!("{}.{:09}", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000))
}

/// A text as a query may contain it.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_texts_are_written_as_queries_carry_them() {
        assert_eq!(seconds(1_795_201_042_000_000_005), "1795201042.000000005");
        assert_eq!(encoded(r#"{"a":["b c"]}"#), "%7B%22a%22%3A%5B%22b%20c%22%5D%7D");
    }
}
