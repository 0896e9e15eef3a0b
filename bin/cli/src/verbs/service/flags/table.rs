//! The table of flags. Each row names a flag, the kind of its values, its help, and what it changes in the spec.
//!
//! The help of a flag that docker has is docker's, word for word. Three flags are newer than docker 28: `--memory-swap`,
//! `--memory-swappiness`, and of `update` `--max-concurrent`, which docker 28 accepts there and ignores.

use super::Change::{Add, Command, CredentialSpec, Force, Health, LogDriver, Mode, NoHealth, Remove, Set, Within};
use super::Group::{Restart, Rollback, Update};
use super::Many::{
    Capabilities, Configs, Constraints, ContainerLabels, Dns, DnsOptions, DnsSearch, Env, GenericResources, Groups,
    Hosts, Labels, Mounts, Networks, Ports, Preferences, Secrets, Sysctls, Ulimits,
};
use super::value::Kind;
use super::{CONTAINER, Flag, On, PLACEMENT, RESERVATIONS};

const LIMITS: super::Path = &["TaskTemplate", "Resources", "Limits"];
const RESOURCES: super::Path = &["TaskTemplate", "Resources"];

const fn create(name: &'static str, kind: Kind, help: &'static str, change: super::Change) -> Flag {
    Flag::new(On::Create, name, kind, help, change)
}

const fn update(name: &'static str, kind: Kind, help: &'static str, change: super::Change) -> Flag {
    Flag::new(On::Update, name, kind, help, change)
}

const fn both(name: &'static str, kind: Kind, help: &'static str, change: super::Change) -> Flag {
    Flag::new(On::Both, name, kind, help, change)
}

const ORDERS: Kind = Kind::OneOf(&["start-first", "stop-first"]);

#[rustfmt::skip]
pub(super) const FLAGS: &[Flag] = &[
    // Who the service is.
    create("name", Kind::Text, "Service name", Set(&[], "Name")),
    create("label", Kind::Label, "Service labels", Add(Labels)).short('l'),
    update("label-add", Kind::Label, "Add or update a service label", Add(Labels)),
    update("label-rm", Kind::Key, "Remove a label by its key", Remove(Labels)),
    create("container-label", Kind::Label, "Container labels", Add(ContainerLabels)),
    update("container-label-add", Kind::Label, "Add or update a container label", Add(ContainerLabels)),
    update("container-label-rm", Kind::Key, "Remove a container label by its key", Remove(ContainerLabels)),
    both("hostname", Kind::Text, "Container hostname", Set(CONTAINER, "Hostname")),
    // What runs.
    update("image", Kind::Text, "Service image tag", Set(CONTAINER, "Image")),
    update("args", Kind::Words, "Service command args", Set(CONTAINER, "Args")),
    both("entrypoint", Kind::Words, "Overwrite the default ENTRYPOINT of the image", Set(CONTAINER, "Command")),
    create("env-file", Kind::EnvFile, "Read in a file of environment variables", Add(Env)),
    create("env", Kind::Env, "Set environment variables", Add(Env)).short('e'),
    update("env-add", Kind::Env, "Add or update an environment variable", Add(Env)),
    update("env-rm", Kind::Key, "Remove an environment variable", Remove(Env)),
    both("workdir", Kind::Text, "Working directory inside the container", Set(CONTAINER, "Dir")).short('w'),
    both("user", Kind::Text, "Username or UID (format: <name|uid>[:<group|gid>])", Set(CONTAINER, "User")).short('u'),
    create("group", Kind::Key, "Set one or more supplementary user groups for the container", Add(Groups)),
    update("group-add", Kind::Key, "Add an additional supplementary user group to the container", Add(Groups)),
    update("group-rm", Kind::Key, "Remove a previously added supplementary user group from the container", Remove(Groups)),
    both("tty", Kind::Bool, "Allocate a pseudo-TTY", Set(CONTAINER, "TTY")).short('t'),
    both("init", Kind::Bool, "Use an init inside each service container to forward signals and reap processes", Set(CONTAINER, "Init")),
    both("read-only", Kind::Bool, "Mount the container's root filesystem as read only", Set(CONTAINER, "ReadOnly")),
    both("stop-signal", Kind::Text, "Signal to stop the container", Set(CONTAINER, "StopSignal")),
    both("stop-grace-period", Kind::Duration, "Time to wait before force killing a container (ns|us|ms|s|m|h)", Set(CONTAINER, "StopGracePeriod")).default("10s"),
    both("cap-add", Kind::Key, "Add Linux capabilities", Add(Capabilities)),
    both("cap-drop", Kind::Key, "Drop Linux capabilities", Remove(Capabilities)),
    create("sysctl", Kind::Label, "Sysctl options", Add(Sysctls)),
    update("sysctl-add", Kind::Label, "Add or update a Sysctl option", Add(Sysctls)),
    update("sysctl-rm", Kind::Key, "Remove a Sysctl option", Remove(Sysctls)),
    create("ulimit", Kind::Ulimit, "Ulimit options", Add(Ulimits)),
    update("ulimit-add", Kind::Ulimit, "Add or update a ulimit option", Add(Ulimits)),
    update("ulimit-rm", Kind::Key, "Remove a ulimit option", Remove(Ulimits)),
    both("oom-score-adj", Kind::Int, "Tune host's OOM preferences (-1000 to 1000)", Set(CONTAINER, "OomScoreAdj")),
    both("isolation", Kind::Text, "Service container isolation mode", Set(CONTAINER, "Isolation")),
    both("credential-spec", Kind::CredentialSpec, "Credential spec for managed service account (Windows only)", CredentialSpec),
    // Health.
    both("health-cmd", Kind::Text, "Command to run to check health", Health("Test")),
    both("health-interval", Kind::Duration, "Time between running the check (ms|s|m|h)", Health("Interval")),
    both("health-timeout", Kind::Duration, "Maximum time to allow one check to run (ms|s|m|h)", Health("Timeout")),
    both("health-retries", Kind::Int, "Consecutive failures needed to report unhealthy", Health("Retries")),
    both("health-start-period", Kind::Duration, "Start period for the container to initialize before counting retries towards unstable (ms|s|m|h)", Health("StartPeriod")),
    both("health-start-interval", Kind::Duration, "Time between running the check during the start period (ms|s|m|h)", Health("StartInterval")),
    both("no-healthcheck", Kind::Bool, "Disable any container-specified HEALTHCHECK", NoHealth),
    // Names that the container knows.
    create("dns", Kind::Ip, "Set custom DNS servers", Add(Dns)),
    update("dns-add", Kind::Ip, "Add or update a custom DNS server", Add(Dns)),
    update("dns-rm", Kind::Key, "Remove a custom DNS server", Remove(Dns)),
    create("dns-option", Kind::Key, "Set DNS options", Add(DnsOptions)),
    update("dns-option-add", Kind::Key, "Add or update a DNS option", Add(DnsOptions)),
    update("dns-option-rm", Kind::Key, "Remove a DNS option", Remove(DnsOptions)),
    create("dns-search", Kind::Key, "Set custom DNS search domains", Add(DnsSearch)),
    update("dns-search-add", Kind::Key, "Add or update a custom DNS search domain", Add(DnsSearch)),
    update("dns-search-rm", Kind::Key, "Remove a DNS search domain", Remove(DnsSearch)),
    create("host", Kind::ExtraHost, "Set one or more custom host-to-IP mappings (host:ip)", Add(Hosts)),
    update("host-add", Kind::ExtraHost, "Add a custom host-to-IP mapping (\"host:ip\")", Add(Hosts)),
    update("host-rm", Kind::Key, "Remove a custom host-to-IP mapping (\"host:ip\")", Remove(Hosts)),
    // Resources.
    both("limit-cpu", Kind::Cpus, "Limit CPUs", Set(LIMITS, "NanoCPUs")),
    both("limit-memory", Kind::Bytes, "Limit Memory", Set(LIMITS, "MemoryBytes")),
    both("limit-pids", Kind::Int, "Limit maximum number of processes (default 0 = unlimited)", Set(LIMITS, "Pids")),
    both("reserve-cpu", Kind::Cpus, "Reserve CPUs", Set(RESERVATIONS, "NanoCPUs")),
    both("reserve-memory", Kind::Bytes, "Reserve Memory", Set(RESERVATIONS, "MemoryBytes")),
    both("memory-swap", Kind::Swap, "Swap Bytes (-1 for unlimited)", Set(RESOURCES, "SwapBytes")),
    both("memory-swappiness", Kind::Int, "Tune memory swappiness (0-100), -1 to reset to default", Set(RESOURCES, "MemorySwappiness")),
    create("generic-resource", Kind::GenericResource, "User defined resources", Add(GenericResources)),
    update("generic-resource-add", Kind::GenericResource, "Add a Generic resource", Add(GenericResources)),
    update("generic-resource-rm", Kind::Key, "Remove a Generic resource", Remove(GenericResources)),
    // Files.
    create("mount", Kind::Mount, "Attach a filesystem mount to the service", Add(Mounts)),
    update("mount-add", Kind::Mount, "Add or update a mount on a service", Add(Mounts)),
    update("mount-rm", Kind::Key, "Remove a mount by its target path", Remove(Mounts)),
    create("secret", Kind::Secret, "Specify secrets to expose to the service", Add(Secrets)),
    update("secret-add", Kind::Secret, "Add or update a secret on a service", Add(Secrets)),
    update("secret-rm", Kind::Key, "Remove a secret", Remove(Secrets)),
    create("config", Kind::Config, "Specify configurations to expose to the service", Add(Configs)),
    update("config-add", Kind::Config, "Add or update a config file on a service", Add(Configs)),
    update("config-rm", Kind::Key, "Remove a configuration file", Remove(Configs)),
    // Where and how many.
    create("constraint", Kind::Key, "Placement constraints", Add(Constraints)),
    update("constraint-add", Kind::Key, "Add or update a placement constraint", Add(Constraints)),
    update("constraint-rm", Kind::Key, "Remove a constraint", Remove(Constraints)),
    create("placement-pref", Kind::Preference, "Add a placement preference", Add(Preferences)),
    update("placement-pref-add", Kind::Preference, "Add a placement preference", Add(Preferences)),
    update("placement-pref-rm", Kind::Preference, "Remove a placement preference", Remove(Preferences)),
    both("replicas-max-per-node", Kind::Uint, "Maximum number of tasks per node (default 0 = unlimited)", Set(PLACEMENT, "MaxReplicas")),
    create("mode", Kind::OneOf(&["replicated", "global", "replicated-job", "global-job"]), "Service mode (\"replicated\", \"global\", \"replicated-job\", \"global-job\")", Mode).default("\"replicated\""),
    both("replicas", Kind::Uint, "Number of tasks", Mode),
    both("max-concurrent", Kind::Uint, "Number of job tasks to run concurrently (default equal to --replicas)", Mode),
    // Networks.
    create("network", Kind::Network, "Network attachments", Add(Networks)),
    update("network-add", Kind::Network, "Add a network", Add(Networks)),
    update("network-rm", Kind::Key, "Remove a network", Remove(Networks)),
    create("publish", Kind::Port, "Publish a port as a node port", Add(Ports)).short('p'),
    update("publish-add", Kind::Port, "Add or update a published port", Add(Ports)),
    update("publish-rm", Kind::Port, "Remove a published port by its target port", Remove(Ports)),
    both("endpoint-mode", Kind::OneOf(&["vip", "dnsrr"]), "Endpoint mode (vip or dnsrr)", Set(&["EndpointSpec"], "Mode")).default("\"vip\""),
    // Restarts, updates, rollbacks.
    both("restart-condition", Kind::OneOf(&["none", "on-failure", "any"]), "Restart when condition is met (\"none\", \"on-failure\", \"any\")", Within(Restart, "Condition")).default("\"any\""),
    both("restart-delay", Kind::Duration, "Delay between restart attempts (ns|us|ms|s|m|h)", Within(Restart, "Delay")).default("5s"),
    both("restart-max-attempts", Kind::Uint, "Maximum number of restarts before giving up", Within(Restart, "MaxAttempts")),
    both("restart-window", Kind::Duration, "Window used to evaluate the restart policy (ns|us|ms|s|m|h)", Within(Restart, "Window")),
    both("update-parallelism", Kind::Uint, "Maximum number of tasks updated simultaneously (0 to update all at once)", Within(Update, "Parallelism")).default("1"),
    both("update-delay", Kind::Duration, "Delay between updates (ns|us|ms|s|m|h)", Within(Update, "Delay")).default("0s"),
    both("update-monitor", Kind::Duration, "Duration after each task update to monitor for failure (ns|us|ms|s|m|h)", Within(Update, "Monitor")).default("5s"),
    both("update-failure-action", Kind::OneOf(&["pause", "continue", "rollback"]), "Action on update failure (\"pause\", \"continue\", \"rollback\")", Within(Update, "FailureAction")).default("\"pause\""),
    both("update-max-failure-ratio", Kind::Float, "Failure rate to tolerate during an update", Within(Update, "MaxFailureRatio")).default("0"),
    both("update-order", ORDERS, "Update order (\"start-first\", \"stop-first\")", Within(Update, "Order")).default("\"stop-first\""),
    both("rollback-parallelism", Kind::Uint, "Maximum number of tasks rolled back simultaneously (0 to roll back all at once)", Within(Rollback, "Parallelism")).default("1"),
    both("rollback-delay", Kind::Duration, "Delay between task rollbacks (ns|us|ms|s|m|h)", Within(Rollback, "Delay")).default("0s"),
    both("rollback-monitor", Kind::Duration, "Duration after each task rollback to monitor for failure (ns|us|ms|s|m|h)", Within(Rollback, "Monitor")).default("5s"),
    both("rollback-failure-action", Kind::OneOf(&["pause", "continue"]), "Action on rollback failure (\"pause\", \"continue\")", Within(Rollback, "FailureAction")).default("\"pause\""),
    both("rollback-max-failure-ratio", Kind::Float, "Failure rate to tolerate during a rollback", Within(Rollback, "MaxFailureRatio")).default("0"),
    both("rollback-order", ORDERS, "Rollback order (\"start-first\", \"stop-first\")", Within(Rollback, "Order")).default("\"stop-first\""),
    // Logs.
    both("log-driver", Kind::Text, "Logging driver for service", LogDriver),
    both("log-opt", Kind::Env, "Logging driver options", LogDriver),
    // What the command does beside the spec.
    both("with-registry-auth", Kind::Bool, "Send registry authentication details to swarm agents", Command),
    both("no-resolve-image", Kind::Bool, "Do not query the registry to resolve image digest and supported platforms", Command),
    update("force", Kind::Bool, "Force update even if no changes require it", Force),
    update("rollback", Kind::Bool, "Rollback to previous specification", Command),
];
