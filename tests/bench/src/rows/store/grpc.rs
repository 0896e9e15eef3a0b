//! The subset of gRPC that a load on etcd needs: unary calls over plain HTTP/2, with byte strings as requests, and
//! replies of which at most one number is read. etcd's own client would use more processor time here than the servers.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Method, Request};
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// An HTTP/2 connection, shared by its clones.
#[derive(Clone)]
pub(super) struct Channel {
    requests: SendRequest<Bytes>,
    host: SocketAddr,
}

impl Channel {
    /// Opens a connection to this address.
    pub(super) async fn connect(host: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(host).await.map_err(|why| why.to_string())?;
        stream.set_nodelay(true).map_err(|why| why.to_string())?;
        let (requests, connection) = h2::client::handshake(stream).await.map_err(|why| why.to_string())?;
        tokio::spawn(connection);
        Ok(Self { requests, host })
    }

    /// Calls a method of etcd and returns the reply's message.
    pub(super) async fn call(&self, method: &str, message: &[u8]) -> Result<Bytes, String> {
        let words = |why: h2::Error| why.to_string();
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}/etcdserverpb.{method}", self.host))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(|why| why.to_string())?;
        let mut requests = self.requests.clone().ready().await.map_err(words)?;
        let (response, mut body) = requests.send_request(request, false).map_err(words)?;
        let mut framed = BytesMut::with_capacity(5 + message.len());
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).map_err(|why| why.to_string())?);
        framed.put_slice(message);
        body.send_data(framed.freeze(), true).map_err(words)?;
        let (head, mut body) = response.await.map_err(words)?.into_parts();
        let mut reply = BytesMut::new();
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(words)?;
            body.flow_control().release_capacity(piece.len()).map_err(words)?;
            reply.put(piece);
        }
        let trailers = body.trailers().await.map_err(words)?;
        let status = trailers.as_ref().unwrap_or(&head.headers).get("grpc-status");
        if status.is_none_or(|status| status != "0") || reply.len() < 5 {
            return Err(format!("{method} failed: {status:?}"));
        }
        reply.advance(5);
        Ok(reply.freeze())
    }
}

/// Encodes a protobuf message with these byte strings as fields 1, 2, ….
pub(super) fn message(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, field) in (1u8..).zip(fields) {
        // Wire type 2 is a length-delimited field.
        bytes.push(number << 3 | 2);
        let mut len = field.len();
        while len >= 0x80 {
            bytes.push(len as u8 | 0x80);
            len >>= 7;
        }
        bytes.push(len as u8);
        bytes.extend_from_slice(field);
    }
    bytes
}

/// A field of a received protobuf message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field<'b> {
    /// A varint.
    Number(u64),
    /// A byte string, or an encoded message.
    Bytes(&'b [u8]),
}

/// Number and value of each field of a protobuf message, up to the first field that cannot be read.
pub(super) fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut found = Vec::new();
    while let Some(tag) = varint(&mut bytes) {
        let field = match (tag & 7, varint(&mut bytes)) {
            (0, Some(number)) => Field::Number(number),
            (2, Some(len)) if len as usize <= bytes.len() => {
                let (field, rest) = bytes.split_at(len as usize);
                bytes = rest;
                Field::Bytes(field)
            }
            _ => break,
        };
        found.push((tag >> 3, field));
    }
    found
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let long = [7; 300];
        let written = message(&[b"key", &long]);
        assert_eq!(fields(&written), [(1, Field::Bytes(b"key")), (2, Field::Bytes(&long))]);
        assert_eq!(fields(&[0x20, 0xac, 0x02]), [(4, Field::Number(300))]);
    }
}
