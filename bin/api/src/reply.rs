//! Encoding of answers and refusals.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use essaim_docker::{ErrorBody, status};
use essaim_model::Refusal;
use serde::Serialize;

/// The result of a route: an answer or a refusal.
pub(crate) type Answer = Result<Response, Refused>;

/// A refusal with its HTTP status.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    message: String,
}

impl Refused {
    /// A refusal whose status is not the one that its kind has by default.
    pub(crate) fn with_status(status: StatusCode, refusal: Refusal) -> Self {
        Self { status, message: refusal.text }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(status(&refusal)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, message: refusal.text }
    }
}

impl From<essaim_docker::InvalidFilters> for Refused {
    fn from(invalid: essaim_docker::InvalidFilters) -> Self {
        Refusal::from(invalid).into()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, json(&ErrorBody { message: self.message })).into_response()
    }
}

/// An answer with a JSON body, which ends with a line feed as that of Go's encoder does.
pub(crate) fn json(value: &impl Serialize) -> Response {
    encoded(encode(value))
}

/// An answer with a JSON body that is encoded already.
pub(crate) fn encoded(body: Bytes) -> Response {
    typed(Body::from(body), "application/json")
}

/// The JSON bytes of a value, ended by a line feed.
pub(crate) fn encode(value: &impl Serialize) -> Bytes {
    let mut bytes = serde_json::to_vec(value).expect("our types are JSON");
    bytes.push(b'\n');
    bytes.into()
}

/// An answer with a body of the content type `kind`.
pub(crate) fn typed(body: Body, kind: &'static str) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// An answer without a body.
pub(crate) fn done() -> Response {
    StatusCode::OK.into_response()
}
