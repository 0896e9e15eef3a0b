//! Routes under `/configs`.

use super::objects;
use crate::face::Face;
use axum::Router;
use essaim_model::ConfigSpec;

pub(super) fn router() -> Router<Face> {
    objects::router::<ConfigSpec>("configs")
}
