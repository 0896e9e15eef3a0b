//! Routes under `/configs`.

use super::{objects, payloads};
use crate::face::Face;
use axum::Router;
use essaim_model::ConfigSpec;

pub(super) fn router() -> Router<Face> {
    objects::router::<ConfigSpec>("configs").merge(payloads::router::<ConfigSpec>("configs"))
}
