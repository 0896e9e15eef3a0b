//! `/configs`: configs, bytes that tasks read.
#![allow(missing_docs, reason = "the fields are Docker's; the engine API's reference says what each means")]

use crate::Labels;
use crate::base::{base64_bytes, is_empty, or_default};
use crate::network::Driver;
use crate::object::Plain;
use crate::payload;
use essaim_model as model;
use essaim_model::Refusal;
use serde::{Deserialize, Serialize};

/// Settings of a config that operators make.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ConfigSpec {
    #[serde(default)]
    pub name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub labels: Labels,
    #[serde(default, with = "base64_bytes", skip_serializing_if = "is_empty")]
    pub data: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templating: Option<Driver>,
}

impl Plain for model::ConfigSpec {
    type Spec = ConfigSpec;

    fn read(asked: ConfigSpec) -> Result<Self, Refusal> {
        let data = payload::read(asked.data, asked.templating)?;
        Ok(Self { name: asked.name, labels: asked.labels, data })
    }

    fn show(&self) -> ConfigSpec {
        let Self { name, labels, data } = self;
        ConfigSpec {
            name: name.clone(),
            labels: labels.clone(),
            data: data.to_vec(),
            templating: payload::templating(data),
        }
    }
}
