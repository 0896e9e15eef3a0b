//! Plain nouns (`model::noun`) on the wire: an object with an id, a version, two dates, and the noun's own spec.
//!
//! The file of a noun (such as [`config`](crate::config)) has its spec in Docker's shape, and implements [`Plain`] to
//! convert it. Lists, their filters and the answer to a creation are the same for all plain nouns.
#![allow(missing_docs, reason = "the fields are Docker's; the engine API's reference says what each means")]

use crate::{Filters, ObjectVersion, Time};
use essaim_model as model;
use essaim_model::{Noun, Refusal};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A plain noun in Docker's API.
pub trait Plain: Noun {
    /// The spec in Docker's shape.
    type Spec: Serialize + DeserializeOwned + Send;

    /// Parses the spec of a request.
    fn read(asked: Self::Spec) -> Result<Self, Refusal>;

    /// The spec in Docker's shape.
    fn show(&self) -> Self::Spec;
}

/// An object of a plain noun whose spec in Docker's shape is `S`.
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

/// The answer to the creation of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    #[serde(rename = "ID")]
    pub id: String,
}

/// The object in Docker's shape.
pub fn show<N: Plain>(object: &model::Object<N>) -> Object<N::Spec> {
    Object {
        id: object.id.to_string(),
        version: ObjectVersion { index: object.meta.version.0 },
        created_at: object.meta.created_at.into(),
        updated_at: object.meta.updated_at.into(),
        spec: object.spec.show(),
    }
}

/// Filter keys that a list of a plain noun accepts. `names` matches whole names, `name` the beginning of a name.
pub(crate) const FILTERS: [&str; 4] = ["id", "label", "name", "names"];

/// Refuses filters with keys that a list of a plain noun does not know.
pub fn check_filters(filters: &Filters) -> Result<(), Refusal> {
    filters.expect(&FILTERS)
}

/// Whether a list with these filters contains this object.
pub fn matches<N: Noun>(filters: &Filters, object: &model::Object<N>) -> bool {
    filters.begins("id", &object.id.to_string())
        && filters.begins("name", object.spec.name())
        && filters.equals("names", object.spec.name())
        && filters.labels("label", object.spec.labels())
}
