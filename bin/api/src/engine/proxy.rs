//! A client's request handed on to the engine.

use super::client::{AnswerBody, HOST, LocalEngine, Trouble};
use super::splice::{Side, splice};
use super::version::path_for;
use crate::reply::Answer;
use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;

/// The API version in the path of a client's request; an extension of the request, whose path no longer has it.
#[derive(Debug, Clone)]
pub(crate) struct ClientVersion(pub(crate) String);

/// Headers that concern one connection and not the request (RFC 9110, section 7.6.1). `Expect` is among them, because
/// the face has asked the client to go on already when it reads the body.
const OF_ONE_CONNECTION: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::EXPECT,
];

impl LocalEngine {
    /// Hands a request on, and returns the engine's answer. Both bodies are streams.
    pub(crate) async fn hand_on(&self, mut request: Request) -> Answer {
        let client = hyper::upgrade::on(&mut request);
        let (mut parts, body) = request.into_parts();
        let upgrade = wanted_protocol(&parts.headers);
        let version = parts.extensions.remove::<ClientVersion>();
        let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let path = path_for(self.api().await, version.as_ref().map(|version| version.0.as_str()), path);
        let mut onward = Request::new(body);
        *onward.method_mut() = parts.method;
        *onward.uri_mut() = path.parse().map_err(|why| self.strange(format!("{path:?} is no path: {why}")))?;
        *onward.headers_mut() = parts.headers;
        *onward.version_mut() = Version::HTTP_11;
        strip(onward.headers_mut());
        onward.headers_mut().insert(header::HOST, HeaderValue::from_static(HOST));
        if let Some(protocol) = &upgrade {
            switch(onward.headers_mut(), protocol.clone());
        }
        let mut answer = self.send(onward).await?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            if upgrade.is_none() {
                return Err(self.strange("it switches protocols though nobody asked".into()).into());
            }
            return Ok(joined(client, answer));
        }
        strip(answer.headers_mut());
        Ok(answer.map(Body::new))
    }

    fn strange(&self, why: String) -> Trouble {
        Trouble::Strange(self.socket.clone(), why)
    }
}

/// The protocol that a client wants to switch to: `tcp` for the terminal of a container, `h2c` for BuildKit.
fn wanted_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let options = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut options = options.flat_map(|value| value.split(','));
    if !options.any(|option| option.trim().eq_ignore_ascii_case("upgrade")) {
        return None;
    }
    headers.get(header::UPGRADE).cloned()
}

/// Removes what concerns one connection alone.
fn strip(headers: &mut HeaderMap) {
    OF_ONE_CONNECTION.iter().for_each(|name| drop(headers.remove(name)));
    headers.remove(header::UPGRADE);
}

/// Marks a head as one that switches protocols.
fn switch(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// The answer that switches protocols. Once it is sent, the two connections are joined until one side is gone; this needs
/// neither the actor nor the server, so such a stream also outlives a restart of the actor.
fn joined(client: OnUpgrade, mut answer: Response<AnswerBody>) -> Response<Body> {
    let engine = hyper::upgrade::on(&mut answer);
    let protocol = answer.headers().get(header::UPGRADE).cloned();
    let (mut parts, held) = answer.into_parts();
    tokio::spawn(async move {
        // Keeps the connection and its place until the end.
        let _held = held;
        let sides = async { Ok::<_, hyper::Error>((Side::of(client.await?), Side::of(engine.await?))) };
        match sides.await {
            Ok((Some(client), Some(engine))) => splice(client, engine).await,
            Ok(_) => tracing::error!("a connection that switched protocols is no unix socket"),
            Err(why) => tracing::debug!(%why, "a connection ended before it switched protocols"),
        }
    });
    strip(&mut parts.headers);
    switch(&mut parts.headers, protocol.unwrap_or(HeaderValue::from_static("tcp")));
    Response::from_parts(parts, Body::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_request_that_names_a_protocol_and_says_so_in_connection_switches() {
        let wanted = |pairs: &[(&'static str, &'static str)]| {
            let pairs =
                pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            wanted_protocol(&pairs.collect()).map(|value| value.to_str().expect("text").to_owned())
        };
        assert_eq!(wanted(&[("connection", "Upgrade"), ("upgrade", "tcp")]).as_deref(), Some("tcp"));
        assert_eq!(wanted(&[("connection", "keep-alive, upgrade"), ("upgrade", "h2c")]).as_deref(), Some("h2c"));
        assert_eq!(wanted(&[("upgrade", "tcp")]), None);
        assert_eq!(wanted(&[("connection", "upgrade")]), None);
    }
}
