//! The face without a socket: requests and answers as values, within the process.
//!
//! For tests, where a socket would bring real time into a simulation, and for a program that runs a daemon inside and
//! asks it what its operators would ask. Every route is available. [`Direct::ask`] reads a stream to its end; an answer
//! that follows what happens is read piece by piece with [`Direct::begin`].

use crate::engine::EngineInside;
use crate::face::Face;
use crate::host::Host;
use crate::routes::router;
use axum::Router;
use axum::body::{Body, BodyDataStream, to_bytes};
use axum::http::{HeaderName, HeaderValue, Request, header};
use bytes::Bytes;
use essaim_node::Handle;
use futures::StreamExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use std::collections::BTreeMap;

/// Bytes that an answer may have: ten thousand nodes are shown in a few megabytes.
const ANSWER_LEN_MAX: usize = 64 << 20;

/// The face of a node, asked within the process.
#[derive(Clone)]
pub struct Direct {
    routes: TowerToHyperService<Router>,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status of the answer.
    pub status: u16,
    /// Headers whose value is text, by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body of the answer: JSON, with few exceptions.
    pub body: Bytes,
}

/// The head of an answer whose body is still under way.
#[derive(Debug)]
pub struct StreamedReply {
    /// HTTP status of the answer.
    pub status: u16,
    /// Headers whose value is text, by their names in lower case.
    pub headers: BTreeMap<String, String>,
    body: BodyDataStream,
}

impl Direct {
    /// The face of the node behind `handle`, which describes its machine as `host`.
    pub fn of(handle: Handle, host: Host) -> Self {
        let face = Face::new(handle, host);
        Self { routes: TowerToHyperService::new(router(face)) }
    }

    /// The same face on a machine with a Docker Engine.
    pub fn beside(handle: Handle, host: Host, engine: EngineInside) -> Self {
        let face = Face::new(handle, host).with_engine_inside(engine);
        Self { routes: TowerToHyperService::new(router(face)) }
    }

    /// Sends a request and waits for its answer. The body, if any, is JSON.
    pub async fn ask(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> Result<Reply, axum::Error> {
        let StreamedReply { status, headers, body } = self.begin(method, path, body).await?;
        let body = to_bytes(Body::from_stream(body), ANSWER_LEN_MAX).await?;
        Ok(Reply { status, headers, body })
    }

    /// Sends a request and waits until its answer begins. The body, if any, is JSON.
    pub async fn begin(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> Result<StreamedReply, axum::Error> {
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Body::from(body.unwrap_or_default())).map_err(axum::Error::new)?;
        let response = self.routes.call(request).await.unwrap_or_else(|never| match never {});
        let status = response.status().as_u16();
        let text =
            |(name, value): (&HeaderName, &HeaderValue)| Some((name.to_string(), value.to_str().ok()?.to_owned()));
        let headers = response.headers().iter().filter_map(text).collect();
        Ok(StreamedReply { status, headers, body: response.into_body().into_data_stream() })
    }
}

impl StreamedReply {
    /// The next piece of the body; `None` when the body has ended or broke off. Cancel-safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.body.next().await?.ok()
    }
}

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Direct")
    }
}
