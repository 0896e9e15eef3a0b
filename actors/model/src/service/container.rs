//! The container of a service: what one task runs, with everything that a container engine can be told of it.
//!
//! Every part is parsed: a [`ContainerSpec`] that exists holds no signal, mount, capability, variable or reference that
//! an engine could not read. Which settings an engine honours is a separate question; see [`super::support`].

use super::health::HealthCheck;
use super::mount::Mounts;
use super::reference::{ConfigReferences, FileTarget, SecretReferences};
use crate::{Labels, PayloadId, Refusal, Signal};
use bincode::{Decode, Encode};
use essaim_wire::record;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::time::Duration;

/// What one task runs, in Docker's words. For the process engine the image is the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Image of the task, as written.
    pub image: Image,
    /// Labels of the task's container.
    pub labels: Labels,
    /// Program that replaces that of the image, with its first arguments; empty keeps the image's program.
    pub command: Vec<String>,
    /// Arguments of the program.
    pub args: Vec<String>,
    /// Host name that the task sees; a template when it contains `{{`.
    pub hostname: Option<String>,
    /// Environment of the task, in order; the last variable of a name wins.
    pub env: Vec<Variable>,
    /// Working directory of the task.
    pub dir: Option<String>,
    /// User that the task runs as, optionally with `:group`.
    pub user: Option<String>,
    /// Further groups of the user.
    pub groups: Vec<String>,
    /// Settings for the kernel's security modules.
    pub privileges: Option<Privileges>,
    /// Whether a small init process runs inside the container; the engine decides when `None`.
    pub init: Option<bool>,
    /// Signal that asks the task to stop; SIGTERM when `None`.
    pub stop_signal: Option<Signal>,
    /// Time that the task has to stop before it is killed; ten seconds when `None`.
    pub stop_grace: Option<Duration>,
    /// Whether the task has a terminal.
    pub tty: bool,
    /// Whether the task's standard input stays open.
    pub open_stdin: bool,
    /// Whether the task's root file system is read-only.
    pub read_only: bool,
    /// File systems of the task beside its root.
    pub mounts: Mounts,
    /// Health check of the task; that of the image when `None`.
    pub health: Option<HealthCheck>,
    /// Lines added to the task's `/etc/hosts`.
    pub hosts: Vec<HostEntry>,
    /// How the task resolves names; the engine's default when `None`.
    pub dns: Option<DnsConfig>,
    /// Secrets that the task may read.
    pub secrets: SecretReferences,
    /// Configs that the task may read.
    pub configs: ConfigReferences,
    /// Isolation technology of Windows.
    pub isolation: Isolation,
    /// Kernel parameters of the task's namespaces.
    pub sysctls: Labels,
    /// Capabilities of the task beyond the default set.
    pub capability_add: Vec<Capability>,
    /// Capabilities removed from the default set.
    pub capability_drop: Vec<Capability>,
    /// Resource limits of the task's processes.
    pub ulimits: Vec<Ulimit>,
    /// How readily the kernel kills the task when memory is short.
    pub oom_score_adj: OomScoreAdj,
    /// Credentials with which the image is pulled; none when the registry asks for none. Never shown.
    pub registry_auth: Option<RegistryAuth>,
}
record!(ContainerSpec {
    1: image,
    labels,
    command,
    args,
    hostname,
    env,
    dir,
    user,
    groups,
    privileges,
    init,
    stop_signal,
    stop_grace,
    tty,
    open_stdin,
    read_only,
    mounts,
    health,
    hosts,
    dns,
    secrets,
    configs,
    isolation,
    sysctls,
    capability_add,
    capability_drop,
    ulimits,
    oom_score_adj,
    registry_auth
});

impl ContainerSpec {
    /// A container of `image` with nothing else set.
    pub fn new(image: Image) -> Self {
        Self {
            image,
            labels: Labels::new(),
            command: Vec::new(),
            args: Vec::new(),
            hostname: None,
            env: Vec::new(),
            dir: None,
            user: None,
            groups: Vec::new(),
            privileges: None,
            init: None,
            stop_signal: None,
            stop_grace: None,
            tty: false,
            open_stdin: false,
            read_only: false,
            mounts: Mounts::default(),
            health: None,
            hosts: Vec::new(),
            dns: None,
            secrets: SecretReferences::default(),
            configs: ConfigReferences::default(),
            isolation: Isolation::Default,
            sysctls: Labels::new(),
            capability_add: Vec::new(),
            capability_drop: Vec::new(),
            ulimits: Vec::new(),
            oom_score_adj: OomScoreAdj::default(),
            registry_auth: None,
        }
    }

    /// Whether both describe the same container. Credentials do not count: they say how an image is fetched, and no
    /// task that has it needs to be replaced for new ones.
    pub(crate) fn is_same_container(&self, other: &Self) -> bool {
        if self.registry_auth == other.registry_auth {
            return self == other;
        }
        let without = |it: &Self| Self { registry_auth: None, ..it.clone() };
        without(self) == without(other)
    }

    /// Time that the task has to stop before it is killed: ten seconds unless set, as in Swarm.
    pub fn stop_grace(&self) -> Duration {
        self.stop_grace.unwrap_or(Duration::from_secs(10))
    }

    /// The files that secrets and configs become: whose payload, its name in the service's spec, and the file.
    pub fn files(&self) -> impl Iterator<Item = (PayloadId, &str, &FileTarget)> {
        let secrets = self.secrets.iter().map(|it| (PayloadId::Secret(it.id), it.name.as_str(), &it.file));
        let configs = self.configs.iter();
        secrets.chain(configs.filter_map(|it| Some((PayloadId::Config(it.id), it.name.as_str(), it.target.file()?))))
    }

    /// The payloads of secrets and configs that the task uses, also those that are no files.
    pub fn payloads(&self) -> impl Iterator<Item = PayloadId> {
        let secrets = self.secrets.iter().map(|it| PayloadId::Secret(it.id));
        secrets.chain(self.configs.iter().map(|it| PayloadId::Config(it.id)))
    }

    /// Whether the spec itself asks for a health check. A check that the image brings is known to the engine only.
    pub(crate) fn has_health_check(&self) -> bool {
        self.health.as_ref().is_some_and(HealthCheck::is_active)
    }
}

/// Name of an image: `nginx:1.27`, `ghcr.io/a/b@sha256:…`, or a program of the host for the process engine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Image(String);

/// Bytes that an image's name may have: 255 of a repository, 128 of a tag, the digest, and their separators.
pub(crate) const IMAGE_LEN_MAX: usize = 512;

impl Image {
    /// Accepts `text` as the name of an image.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() {
            return Err(Refusal::invalid("ContainerSpec: image reference must be provided"));
        }
        if text.len() > IMAGE_LEN_MAX || text.chars().any(|it| it.is_whitespace() || it.is_control()) {
            let shown: String = text.chars().take(IMAGE_LEN_MAX).collect();
            return Err(Refusal::invalid(format!("ContainerSpec: {shown:?} is not a valid repository/tag")));
        }
        Ok(Self(text.into()))
    }

    /// The name, as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Image {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<&str> for Image {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Converts a name that is known to be valid, for tests and constants.
///
/// # Panics
/// When the text is no name of an image.
#[cfg(any(test, feature = "fixtures"))]
impl From<&str> for Image {
    fn from(text: &str) -> Self {
        Self::parse(text).expect("the name of an image")
    }
}

/// Credentials for the registry of an image, as clients send them in the header `X-Registry-Auth`: the base64 of a JSON
/// object. Only the engine that pulls the image reads them. No answer, record or debug output shows them.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct RegistryAuth(String);

/// Bytes of credentials at most: tokens of registries have a few thousand.
const REGISTRY_AUTH_LEN_MAX: usize = 64 << 10;

impl RegistryAuth {
    /// Accepts the value of a header: characters of base64, or of what clients send in its place.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() || text.len() > REGISTRY_AUTH_LEN_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Refusal::invalid("invalid X-Registry-Auth header: it must be the base64 of a JSON object"));
        }
        Ok(Self(text.into()))
    }

    /// The value of the header, for the engine that pulls the image.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryAuth(hidden)")
    }
}

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    name: String,
    value: Option<String>,
}
record!(Variable { 1: name, value });

impl Variable {
    /// Parses `NAME=value`, or `NAME` alone, which removes a variable of the image.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        if name.is_empty() || text.contains('\0') {
            return Err(Refusal::invalid(format!("invalid environment variable: {text}")));
        }
        Ok(Self { name: name.into(), value: value.map(Into::into) })
    }

    /// Name of the variable.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Value of the variable; `None` removes the image's variable of this name.
    pub fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A line of `/etc/hosts`: an address and its names.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HostEntry(String);

impl HostEntry {
    /// Parses `ADDRESS NAME…`; `host-gateway` stands for the address of the host.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let mut words = text.split_whitespace();
        let address = words.next().unwrap_or_default();
        let known = address == "host-gateway" || address.parse::<IpAddr>().is_ok();
        if known && words.next().is_some() && !text.contains(['\n', '\0']) {
            Ok(Self(text.into()))
        } else {
            Err(Refusal::invalid(format!("invalid host entry {text:?}: expected ADDRESS NAME")))
        }
    }

    /// The line, as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How a task resolves names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DnsConfig {
    /// Name servers that the task asks.
    pub nameservers: Vec<IpAddr>,
    /// Domains in which a short name is looked up.
    pub search: Vec<String>,
    /// Options of the resolver (`ndots:1`).
    pub options: Vec<String>,
}
record!(DnsConfig { 1: nameservers, search, options });

impl DnsConfig {
    /// Parses the addresses in `nameservers`; the other settings are taken as they are.
    pub fn parse(nameservers: &[String], search: Vec<String>, options: Vec<String>) -> Result<Self, Refusal> {
        let address = |text: &String| {
            let parsed = text.trim().parse();
            parsed.map_err(|_| Refusal::invalid(format!("IP address is not correctly formatted: {text}")))
        };
        let nameservers = nameservers.iter().map(address).collect::<Result<_, _>>()?;
        Ok(Self { nameservers, search, options })
    }
}

/// Isolation technology of Windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub enum Isolation {
    /// The engine decides; the only choice on Linux.
    #[default]
    Default,
    /// The task is isolated as a process of the host.
    Process,
    /// The task runs in a virtual machine.
    HyperV,
}

impl Isolation {
    /// Parses Docker's word for an isolation technology.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        match text.to_ascii_lowercase().as_str() {
            "" | "default" => Ok(Self::Default),
            "process" => Ok(Self::Process),
            "hyperv" => Ok(Self::HyperV),
            _ => Err(Refusal::invalid(format!("Unsupported isolation: {text:?}"))),
        }
    }

    /// Docker's word for the isolation technology.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Process => "process",
            Self::HyperV => "hyperv",
        }
    }
}

/// A capability of the kernel (`CAP_NET_ADMIN`), or `ALL` of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Capability(String);

impl Capability {
    /// Parses the name of a capability with or without `CAP_`, in any case.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let upper = text.trim().to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if upper == "ALL" {
            Ok(Self(upper))
        } else if CAPABILITIES.contains(&name) {
            Ok(Self(format!("CAP_{name}")))
        } else {
            Err(Refusal::invalid(format!("invalid capability: {text:?}")))
        }
    }

    /// Name of the capability: `CAP_NET_ADMIN`, or `ALL`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Capabilities of Linux 6.
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// A resource limit of each process, as set by `setrlimit`. −1 means no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    name: String,
    soft: i64,
    hard: i64,
}
record!(Ulimit { 1: name, soft, hard });

impl Ulimit {
    /// Accepts a limit of a known resource; the soft limit may not exceed the hard one.
    pub fn parse(name: &str, soft: i64, hard: i64) -> Result<Self, Refusal> {
        if !ULIMITS.contains(&name) {
            return Err(Refusal::invalid(format!("invalid ulimit type: {name}")));
        }
        if hard != -1 && (soft == -1 || soft > hard) {
            let text = format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}");
            return Err(Refusal::invalid(text));
        }
        Ok(Self { name: name.into(), soft, hard })
    }

    /// Resource that is limited (`nofile`).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Soft limit: a process may raise it itself, up to the hard limit.
    pub const fn soft(&self) -> i64 {
        self.soft
    }

    /// Hard limit: only root may raise it.
    pub const fn hard(&self) -> i64 {
        self.hard
    }
}

/// Resources that `setrlimit` limits.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// How readily the kernel kills a task when memory is short: −1000 (never) to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct OomScoreAdj(i16);

impl OomScoreAdj {
    /// Accepts a value from −1000 to 1000.
    pub fn parse(value: i64) -> Result<Self, Refusal> {
        match i16::try_from(value) {
            Ok(fits) if (-1000..=1000).contains(&fits) => Ok(Self(fits)),
            _ => Err(Refusal::invalid(format!("Invalid value {value}, range for oom score adj is [-1000, 1000]"))),
        }
    }

    /// The value, from −1000 to 1000.
    pub const fn get(self) -> i16 {
        self.0
    }
}

/// A task's settings for the kernel's security modules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Privileges {
    /// Credentials of a Windows account.
    pub credential_spec: Option<CredentialSpec>,
    /// SELinux context of the task.
    pub selinux: Option<SeLinux>,
    /// Seccomp filter of the task's system calls.
    pub seccomp: Option<Seccomp>,
    /// AppArmor profile of the task.
    pub apparmor: Option<AppArmor>,
    /// Whether the task's processes are kept from gaining privileges by executing a file.
    pub no_new_privileges: bool,
}
record!(Privileges { 1: credential_spec, selinux, seccomp, apparmor, no_new_privileges });

/// Source of the credentials of a Windows account: exactly one.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum CredentialSpec {
    /// A config of the cluster, by id.
    Config(String),
    /// A file of the host.
    File(String),
    /// A value of the host's registry.
    Registry(String),
}

/// The SELinux context of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeLinux {
    /// Whether SELinux labels are switched off for the task.
    pub disable: bool,
    /// User of the SELinux label.
    pub user: String,
    /// Role of the SELinux label.
    pub role: String,
    /// Type of the SELinux label.
    pub kind: String,
    /// Level of the SELinux label.
    pub level: String,
}
record!(SeLinux { 1: disable, user, role, kind, level });

/// The seccomp filter of a task's system calls.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Seccomp {
    /// The engine's default filter.
    Default,
    /// No seccomp filter.
    Unconfined,
    /// A filter of the operator's, in Docker's JSON.
    Custom(Vec<u8>),
}

/// The AppArmor profile of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum AppArmor {
    /// The engine's default profile.
    Default,
    /// No AppArmor profile.
    Disabled,
}

#[cfg(test)]
essaim_wire::golden_bytes!("service-container": Image, RegistryAuth, HostEntry, Isolation, Capability, OomScoreAdj, CredentialSpec, Seccomp, AppArmor, ContainerSpec, Variable, DnsConfig, Ulimit, Privileges, SeLinux);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_image_has_no_blanks_and_is_not_empty() {
        for good in ["nginx", "essaim", "/usr/bin/sleep", "ghcr.io/a/b:1@sha256:00"] {
            assert_eq!(Image::parse(good).map(|image| image.to_string()), Ok(good.to_owned()));
        }
        let empty = Image::parse("").expect_err("no image").text;
        assert_eq!(empty, "ContainerSpec: image reference must be provided");
        for bad in ["a b", "a\n", &"x".repeat(IMAGE_LEN_MAX + 1)] {
            assert!(Image::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn credentials_are_not_shown_and_make_no_other_container() {
        let auth = |text| Some(RegistryAuth::parse(text).expect("credentials"));
        let with = |registry_auth| ContainerSpec { registry_auth, ..ContainerSpec::new("web".into()) };
        let (old, new) = (with(auth("c2VjcmV0")), with(auth("b3RoZXI=")));
        assert!(!format!("{old:?}").contains("c2VjcmV0"));
        assert!(old.is_same_container(&new) && old.is_same_container(&with(None)));
        let other = ContainerSpec { tty: true, ..new.clone() };
        assert!(!old.is_same_container(&other) && !new.is_same_container(&other));
        for bad in ["", "a b", "a\n", &"x".repeat(REGISTRY_AUTH_LEN_MAX + 1)] {
            assert!(RegistryAuth::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_variable_is_shown_as_it_was_written() {
        for text in ["A=b=c", "EMPTY=", "UNSET"] {
            assert_eq!(Variable::parse(text).map(|it| it.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "=x", "A=\0"] {
            assert!(Variable::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Variable::parse("UNSET").expect("a variable").value(), None);
    }

    #[test]
    fn a_capability_gets_its_prefix_and_must_exist() {
        for text in ["net_admin", "CAP_NET_ADMIN", "NET_ADMIN"] {
            assert_eq!(Capability::parse(text).map(|it| it.0), Ok("CAP_NET_ADMIN".to_owned()));
        }
        assert_eq!(Capability::parse("all").map(|it| it.0), Ok("ALL".to_owned()));
        assert_eq!(Capability::parse("CAP_FLY").expect_err("none").text, "invalid capability: \"CAP_FLY\"");
    }

    #[test]
    fn limits_and_scores_stay_in_their_range() {
        assert!(Ulimit::parse("nofile", 1024, 2048).is_ok());
        assert!(Ulimit::parse("nofile", 1024, -1).is_ok());
        assert!(Ulimit::parse("nofile", 4096, 2048).is_err());
        assert!(Ulimit::parse("nofile", -1, 2048).is_err());
        assert_eq!(Ulimit::parse("files", 1, 1).expect_err("none").text, "invalid ulimit type: files");
        assert!(OomScoreAdj::parse(-1000).is_ok() && OomScoreAdj::parse(1001).is_err());
        assert!(OomScoreAdj::parse(70_000).is_err());
    }

    #[test]
    fn a_line_of_hosts_has_an_address_and_a_name() {
        for good in ["10.0.0.9 a", "::1 a b", "host-gateway gw"] {
            assert!(HostEntry::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "10.0.0.9", "a 10.0.0.9", "10.0.0.9 a\n1.1.1.1 b"] {
            assert!(HostEntry::parse(bad).is_err(), "{bad}");
        }
    }
}
