//! `/secrets`: secrets, bytes that tasks read and that the API never shows.
#![allow(missing_docs, reason = "the fields are Docker's; the engine API's reference says what each means")]

use crate::Labels;
use crate::base::{base64_bytes, is_empty, or_default};
use crate::error::texts::unsupported;
use crate::network::Driver;
use crate::object::Plain;
use crate::payload;
use essaim_model as model;
use essaim_model::Refusal;
use serde::{Deserialize, Serialize};

/// Settings of a secret that operators make. An answer has no `Data`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct SecretSpec {
    #[serde(default)]
    pub name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub labels: Labels,
    #[serde(default, with = "base64_bytes", skip_serializing_if = "is_empty")]
    pub data: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templating: Option<Driver>,
}

impl Plain for model::SecretSpec {
    type Spec = SecretSpec;

    fn read(asked: SecretSpec) -> Result<Self, Refusal> {
        if asked.driver.is_some() {
            return Err(unsupported("--driver"));
        }
        let data = payload::read(asked.data, asked.templating)?;
        Ok(Self { name: asked.name, labels: asked.labels, data })
    }

    fn show(&self) -> SecretSpec {
        let Self { name, labels, data } = self;
        let templating = payload::templating(data);
        SecretSpec { name: name.clone(), labels: labels.clone(), templating, ..SecretSpec::default() }
    }
}
