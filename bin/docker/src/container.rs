//! The container of a service: the program that a task runs, its environment, and everything a container engine can be
//! told about it.
#![allow(missing_docs, reason = "the fields are Docker's; the engine API's reference says what each means")]

use crate::base::{Empty, is_empty, is_false, is_zero, or_default};
use crate::network::Driver;
use crate::{Labels, Nanos};
use serde::{Deserialize, Serialize};

/// The program that a task runs, and its environment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ContainerSpec {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub command: Vec<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub args: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub env: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dir: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileges: Option<Privileges>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    #[serde(rename = "TTY", default, skip_serializing_if = "is_false")]
    pub tty: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub open_stdin: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub mounts: Vec<Mount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_grace_period: Option<Nanos>,
    #[serde(rename = "Healthcheck", alias = "HealthCheck", default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub hosts: Vec<String>,
    #[serde(rename = "DNSConfig", default, skip_serializing_if = "Option::is_none")]
    pub dns_config: Option<DnsConfig>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub secrets: Vec<SecretReference>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub configs: Vec<ConfigReference>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub isolation: String,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Labels::is_empty")]
    pub sysctls: Labels,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub capability_add: Vec<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub capability_drop: Vec<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub ulimits: Vec<Ulimit>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub oom_score_adj: i64,
}

/// Settings for the kernel's security modules. The CLI sends this object for a stack with every field unset.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privileges {
    #[serde(rename = "CredentialSpec", default)]
    pub credential_spec: Option<CredentialSpec>,
    #[serde(rename = "SELinuxContext", default)]
    pub selinux_context: Option<SeLinuxContext>,
    #[serde(rename = "Seccomp", default, skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Seccomp>,
    #[serde(rename = "AppArmor", default, skip_serializing_if = "Option::is_none")]
    pub app_armor: Option<AppArmor>,
    #[serde(rename = "NoNewPrivileges", default)]
    pub no_new_privileges: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct CredentialSpec {
    #[serde(default)]
    pub config: String,
    #[serde(default)]
    pub file: String,
    #[serde(default)]
    pub registry: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct SeLinuxContext {
    #[serde(default)]
    pub disable: bool,
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub role: String,
    #[serde(rename = "Type", default)]
    pub kind: String,
    #[serde(default)]
    pub level: String,
}

/// The seccomp filter of a task. `profile` is bytes, which Go writes as base64.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Seccomp {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mode: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub profile: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct AppArmor {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mode: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Mount {
    #[serde(rename = "Type", default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub consistency: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_options: Option<ImageOptions>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_options: Option<Empty>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct BindOptions {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub propagation: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub non_recursive: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub create_mountpoint: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only_non_recursive: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only_force_recursive: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct VolumeOptions {
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_copy: bool,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subpath: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<Driver>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ImageOptions {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subpath: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct TmpfsOptions {
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size_bytes: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mode: u32,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub options: Vec<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct HealthConfig {
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub test: Vec<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: Nanos,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: Nanos,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: Nanos,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: Nanos,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct DnsConfig {
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub nameservers: Vec<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub search: Vec<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub options: Vec<String>,
}

/// The file of the container in which a secret or config appears.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileTarget {
    #[serde(rename = "Name")]
    pub name: String,
    #[serde(rename = "UID")]
    pub uid: String,
    #[serde(rename = "GID")]
    pub gid: String,
    #[serde(rename = "Mode")]
    pub mode: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretReference {
    #[serde(rename = "File", default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileTarget>,
    #[serde(rename = "SecretID", default)]
    pub secret_id: String,
    #[serde(rename = "SecretName", default)]
    pub secret_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigReference {
    #[serde(rename = "File", default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileTarget>,
    #[serde(rename = "Runtime", default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Empty>,
    #[serde(rename = "ConfigID", default)]
    pub config_id: String,
    #[serde(rename = "ConfigName", default)]
    pub config_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Ulimit {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hard: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub soft: i64,
}
