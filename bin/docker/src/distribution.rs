//! `GET /distribution/{name}/json`: what a registry says of an image.
#![allow(missing_docs, reason = "the fields are Docker's; the engine API's reference says what each means")]

use serde::{Deserialize, Serialize};

/// An image as a registry describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DistributionInspect {
    pub descriptor: Descriptor,
    pub platforms: Vec<ImagePlatform>,
}

/// Digest and type of an image's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
}

/// A platform that an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagePlatform {
    pub architecture: String,
    pub os: String,
}
