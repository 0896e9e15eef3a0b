//! What every plain noun (`model::noun`) is on the wire: an id, a version, two dates, and the noun's own spec.
//!
//! A noun's file (such as [`config`](crate::config)) has its spec as Docker spells it, and says with [`Plain`] how that
//! is read and shown. Lists, their filters and the answer to a creation are the same for all.
#![allow(missing_docs, reason = "the fields are Docker's; the engine API's reference says what each means")]

use crate::{Filters, ObjectVersion, Time};
use essaim_model as model;
use essaim_model::{Noun, Refusal};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A noun that has nothing but a spec, as Docker's API has it.
pub trait Plain: Noun {
    /// The spec as Docker spells it.
    type Spec: Serialize + DeserializeOwned + Send;

    /// Reads what a client asked for.
    fn read(asked: Self::Spec) -> Result<Self, Refusal>;

    /// The spec as Docker shows it.
    fn show(&self) -> Self::Spec;
}

/// An object with a spec that Docker spells as `S`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Object<S> {
    #[serde(rename = "ID")]
    pub id: String,
    pub version: ObjectVersion,
    pub created_at: Time,
    pub updated_at: Time,
    pub spec: S,
}

/// The answer to a creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    #[serde(rename = "ID")]
    pub id: String,
}

/// As Docker shows it.
pub fn show<N: Plain>(object: &model::Object<N>) -> Object<N::Spec> {
    Object {
        id: object.id.to_string(),
        version: ObjectVersion { index: object.meta.version.0 },
        created_at: object.meta.created_at.into(),
        updated_at: object.meta.updated_at.into(),
        spec: object.spec.show(),
    }
}

/// The filters that a list knows. `names` are whole, `name` is how one begins.
pub const FILTERS: [&str; 4] = ["id", "label", "name", "names"];

/// Refuses what no list can be narrowed to.
pub fn check_filters(filters: &Filters) -> Result<(), Refusal> {
    filters.expect(&FILTERS)
}

/// Whether a list with these filters has this object.
pub fn matches<N: Noun>(filters: &Filters, object: &model::Object<N>) -> bool {
    filters.begins("id", &object.id.to_string())
        && filters.begins("name", object.spec.name())
        && filters.equals("names", object.spec.name())
        && filters.labels("label", object.spec.labels())
}
