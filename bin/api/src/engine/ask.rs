//! The face's own questions to the engine, for answers that are made of both.

use super::client::{AnswerBody, LocalEngine, Trouble};
use super::proxy::ClientVersion;
use super::version::path_for;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use serde_json::Value;
use std::time::Duration;

/// Bytes that the answer to a question may have. `info` and `version` of an engine are a few kilobytes.
const ANSWER_LEN_MAX: usize = 4 << 20;

impl LocalEngine {
    /// Asks for a JSON object, within `deadline`.
    pub(crate) async fn ask(
        &self,
        version: Option<&ClientVersion>,
        path: &str,
        deadline: Duration,
    ) -> Result<Value, Trouble> {
        let asked = async {
            let answer = self.get(version, path).await?;
            let status = answer.status();
            let body = axum::body::to_bytes(Body::new(answer.into_body()), ANSWER_LEN_MAX).await;
            let body = body.map_err(|why| self.unusable(why.to_string()))?;
            if !status.is_success() {
                return Err(self.unusable(format!("{status}: {}", String::from_utf8_lossy(&body).trim())));
            }
            serde_json::from_slice(&body).map_err(|why| self.unusable(why.to_string()))
        };
        match tokio::time::timeout(deadline, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(Trouble::Silent(self.socket.clone())),
        }
    }

    /// Sends a GET request and waits for the head of the answer.
    pub(super) async fn get(
        &self,
        version: Option<&ClientVersion>,
        path: &str,
    ) -> Result<Response<AnswerBody>, Trouble> {
        let path = path_for(self.api().await, version.map(|version| version.0.as_str()), path);
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = path.parse().map_err(|why| self.unusable(format!("{path:?} is no path: {why}")))?;
        request.headers_mut().insert(header::HOST, HeaderValue::from_static(super::client::HOST));
        self.send(request).await
    }

    pub(super) fn unusable(&self, why: String) -> Trouble {
        Trouble::Strange(self.socket.clone(), why)
    }
}
