//! Requests, as they come in: bodies with a limit, versions, filters and flags in queries.

use crate::reply::Refused;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use essaim_docker::Filters;
use essaim_model::Refusal;
use essaim_wire::Index;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// No body is longer: the longest spec anybody wrote by hand is far below.
const BODY_LEN_MAX: usize = 1 << 20;

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
        if !kind.is_empty() && kind.split(';').next().map(str::trim) != Some("application/json") {
            let text = format!("unsupported Content-Type header ({kind}): must be 'application/json'");
            return Err(Refusal::invalid(text).into());
        }
        let bytes = read(request.into_body()).await?;
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Self(value)),
            Err(_) if bytes.is_empty() => {
                Err(Refusal::invalid("invalid JSON: got EOF while reading request body").into())
            }
            Err(why) => Err(Refusal::invalid(format!("invalid JSON: {why}")).into()),
        }
    }
}

async fn read(body: Body) -> Result<bytes::Bytes, Refused> {
    axum::body::to_bytes(body, BODY_LEN_MAX).await.map_err(|_| {
        let text = format!("the request's body is longer than {BODY_LEN_MAX} bytes, or broke off");
        Refused::with_status(StatusCode::PAYLOAD_TOO_LARGE, Refusal::invalid(text))
    })
}

/// `?filters=` and what else lists take.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ListQuery {
    #[serde(default)]
    filters: String,
    /// Counts of tasks beside each service.
    #[serde(default)]
    status: String,
}

impl ListQuery {
    pub(crate) fn filters(&self) -> Result<Filters, Refused> {
        Ok(Filters::parse(&self.filters)?)
    }

    pub(crate) fn status(&self) -> bool {
        flag(&self.status)
    }

    /// What tells this list from others of the same noun.
    pub(crate) fn key(&self, noun: &str) -> String {
        format!("{noun}?{}&{}", self.status(), self.filters)
    }
}

/// A flag as Go reads it: anything but these is yes.
pub(crate) fn flag(text: &str) -> bool {
    !matches!(text.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
}

/// `?version=`, without which nothing is updated.
pub(crate) fn version(noun: &str, text: &str) -> Result<Index, Refused> {
    match text.parse() {
        Ok(index) => Ok(Index(index)),
        Err(why) => Err(Refusal::invalid(format!("invalid {noun} version '{text}': {why}")).into()),
    }
}
