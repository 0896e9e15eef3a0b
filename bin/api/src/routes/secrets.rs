//! Routes under `/secrets`.

use super::{objects, payloads};
use crate::face::Face;
use axum::Router;
use essaim_model::SecretSpec;

pub(super) fn router() -> Router<Face> {
    objects::router::<SecretSpec>("secrets").merge(payloads::router::<SecretSpec>("secrets"))
}
