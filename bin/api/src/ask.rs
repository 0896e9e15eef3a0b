//! Parsing of requests: paths, queries and bodies, each refused in JSON when it is malformed; versions, filters and
//! flags.

use crate::reply::Refused;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use essaim_docker::Filters;
use essaim_model::Refusal;
use essaim_wire::Index;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Bytes that a body may have: the largest config, 1,000 KiB, is 1.4 MB of base64, and what is made of a body must fit
/// into a proposal of 1 MiB.
const BODY_LEN_MAX: usize = 2 << 20;

/// The parsed query of a request.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(fields)) => Ok(Self(fields)),
            Err(why) => Err(Refusal::invalid(why.body_text()).into()),
        }
    }
}

/// The one variable part of a path, which names an object.
pub(crate) struct Path(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Path {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        match axum::extract::Path::<String>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(text)) => Ok(Self(text)),
            Err(why) => Err(Refusal::invalid(why.body_text()).into()),
        }
    }
}

/// The parsed JSON body of a request.
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
        // An array would be read as the fields of an object in their order.
        if bytes.trim_ascii_start().starts_with(b"[") {
            return Err(Refusal::invalid("invalid JSON: expected an object, found an array").into());
        }
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Self(value)),
            Err(_) if bytes.is_empty() => {
                Err(Refusal::invalid("invalid JSON: got EOF while reading request body").into())
            }
            Err(why) => Err(Refusal::invalid(format!("invalid JSON: {why}")).into()),
        }
    }
}

/// The head of a request and its body, read whole.
pub(crate) async fn body(request: Request) -> Result<(Parts, bytes::Bytes), Refused> {
    let (parts, body) = request.into_parts();
    Ok((parts, read(body).await?))
}

async fn read(body: Body) -> Result<bytes::Bytes, Refused> {
    axum::body::to_bytes(body, BODY_LEN_MAX).await.map_err(|_| {
        let text = format!("the request's body is longer than {BODY_LEN_MAX} bytes, or broke off");
        Refused::with_status(StatusCode::PAYLOAD_TOO_LARGE, Refusal::invalid(text))
    })
}

/// Query of a list: `?filters=`, and `?status=` for services.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ListQuery {
    #[serde(default)]
    filters: String,
    /// Whether services are listed with the counts of their tasks.
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

    /// Key of this list among the encoded lists: the noun and every setting of the query.
    pub(crate) fn key(&self, noun: &str) -> String {
        format!("{noun}?{}&{}", self.status(), self.filters)
    }
}

/// Parses a flag as Docker's daemon does: every text except these few means true.
pub(crate) fn flag(text: &str) -> bool {
    !matches!(text.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
}

/// Parses `?version=`, which every update must name.
pub(crate) fn version(noun: &str, text: &str) -> Result<Index, Refused> {
    match text.parse() {
        Ok(index) => Ok(Index(index)),
        Err(why) => Err(Refusal::invalid(format!("invalid {noun} version '{text}': {why}")).into()),
    }
}
