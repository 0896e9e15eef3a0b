//! Answers and refusals, as they go out.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use essaim_docker::{ErrorBody, status};
use essaim_model::Refusal;
use serde::Serialize;

/// What a route answers: something, or a refusal.
pub(crate) type Answer = Result<Response, Refused>;

/// A refusal on its way out, with the status that its kind has.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    message: String,
}

impl Refused {
    /// One whose status is not that of a kind.
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

/// A JSON body, ended by a line feed as Go's encoder does.
pub(crate) fn json(value: &impl Serialize) -> Response {
    encoded(encode(value))
}

/// A JSON body that is encoded already.
pub(crate) fn encoded(body: Bytes) -> Response {
    typed(Body::from(body), "application/json")
}

/// The bytes of a value.
pub(crate) fn encode(value: &impl Serialize) -> Bytes {
    let mut bytes = serde_json::to_vec(value).expect("our types are JSON");
    bytes.push(b'\n');
    bytes.into()
}

/// A body of some type.
pub(crate) fn typed(body: Body, kind: &'static str) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// An answer without a body.
pub(crate) fn done() -> Response {
    StatusCode::OK.into_response()
}
