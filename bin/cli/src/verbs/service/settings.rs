//! The flags that `service create` and `service update` share, and the place of each in the spec.
//!
//! A flag that was not given changes nothing: an update sends the spec back as it came, apart from the flags given.

use serde_json::{Value, json};

use super::super::read::object;
use crate::show::units::{parse_bytes, parse_cpus, parse_duration};

/// Flags that `service create` and `service update` share.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Settings {
    /// Number of tasks
    #[arg(long, value_name = "UINT")]
    pub(super) replicas: Option<u64>,
    /// Limit CPUs
    #[arg(long, value_name = "DECIMAL", value_parser = parse_cpus)]
    limit_cpu: Option<i64>,
    /// Limit Memory
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    limit_memory: Option<i64>,
    /// Limit maximum number of processes (default 0 = unlimited)
    #[arg(long, value_name = "INT")]
    limit_pids: Option<i64>,
    /// Reserve CPUs
    #[arg(long, value_name = "DECIMAL", value_parser = parse_cpus)]
    reserve_cpu: Option<i64>,
    /// Reserve Memory
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    reserve_memory: Option<i64>,
    /// Restart when condition is met ("none", "on-failure", "any")
    #[arg(long, value_name = "STRING", value_parser = ["none", "on-failure", "any"])]
    restart_condition: Option<String>,
    /// Delay between restart attempts (ns|us|ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    restart_delay: Option<i64>,
    /// Maximum number of restarts in a row that may fail before giving up
    #[arg(long, value_name = "UINT")]
    restart_max_attempts: Option<u64>,
    /// How long a task has to run for its restart to have succeeded (ns|us|ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    restart_window: Option<i64>,
    /// Signal to stop the task
    #[arg(long, value_name = "STRING")]
    stop_signal: Option<String>,
    /// Time to wait before force killing a task (ns|us|ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    stop_grace_period: Option<i64>,
    /// Working directory of the task
    #[arg(short, long, value_name = "STRING")]
    workdir: Option<String>,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, value_name = "STRING")]
    user: Option<String>,
    /// Container hostname
    #[arg(long, value_name = "STRING")]
    hostname: Option<String>,
    /// Maximum number of tasks per node (default 0 = unlimited)
    #[arg(long, value_name = "UINT")]
    replicas_max_per_node: Option<u64>,
    /// Endpoint mode (vip or dnsrr)
    #[arg(long, value_name = "STRING", value_parser = ["vip", "dnsrr"])]
    endpoint_mode: Option<String>,
    #[command(flatten)]
    update: UpdateFlags,
    #[command(flatten)]
    rollback: RollbackFlags,
}

#[derive(Debug, Default, clap::Args)]
struct UpdateFlags {
    /// Maximum number of tasks updated simultaneously (0 to update all at once)
    #[arg(long, value_name = "UINT")]
    update_parallelism: Option<u64>,
    /// Delay between updates (ns|us|ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    update_delay: Option<i64>,
    /// Action on update failure ("pause", "continue", "rollback")
    #[arg(long, value_name = "STRING", value_parser = ["pause", "continue", "rollback"])]
    update_failure_action: Option<String>,
    /// Duration after each task update to monitor for failure (ns|us|ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    update_monitor: Option<i64>,
    /// Failure rate to tolerate during an update
    #[arg(long, value_name = "FLOAT")]
    update_max_failure_ratio: Option<f64>,
    /// Update order ("start-first", "stop-first")
    #[arg(long, value_name = "STRING", value_parser = ["start-first", "stop-first"])]
    update_order: Option<String>,
}

#[derive(Debug, Default, clap::Args)]
struct RollbackFlags {
    /// Maximum number of tasks rolled back simultaneously (0 to roll back all at once)
    #[arg(long, value_name = "UINT")]
    rollback_parallelism: Option<u64>,
    /// Delay between task rollbacks (ns|us|ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    rollback_delay: Option<i64>,
    /// Action on rollback failure ("pause", "continue")
    #[arg(long, value_name = "STRING", value_parser = ["pause", "continue"])]
    rollback_failure_action: Option<String>,
    /// Duration after each task rollback to monitor for failure (ns|us|ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    rollback_monitor: Option<i64>,
    /// Failure rate to tolerate during a rollback
    #[arg(long, value_name = "FLOAT")]
    rollback_max_failure_ratio: Option<f64>,
    /// Rollback order ("start-first", "stop-first")
    #[arg(long, value_name = "STRING", value_parser = ["start-first", "stop-first"])]
    rollback_order: Option<String>,
}

/// Path and field name of a place in the spec, and the value for it if the flag was given.
type Place<'a> = (&'a [&'a str], &'a str, Option<Value>);

impl Settings {
    /// Writes the flags that were given into the spec.
    pub(super) fn apply(&self, spec: &mut Value) {
        const CONTAINER: &[&str] = &["TaskTemplate", "ContainerSpec"];
        const LIMITS: &[&str] = &["TaskTemplate", "Resources", "Limits"];
        const RESERVATIONS: &[&str] = &["TaskTemplate", "Resources", "Reservations"];
        const PLACEMENT: &[&str] = &["TaskTemplate", "Placement"];
        let places: [Place<'_>; 13] = [
            (LIMITS, "NanoCPUs", self.limit_cpu.map(Value::from)),
            (LIMITS, "MemoryBytes", self.limit_memory.map(Value::from)),
            (LIMITS, "Pids", self.limit_pids.map(Value::from)),
            (RESERVATIONS, "NanoCPUs", self.reserve_cpu.map(Value::from)),
            (RESERVATIONS, "MemoryBytes", self.reserve_memory.map(Value::from)),
            (CONTAINER, "StopSignal", self.stop_signal.clone().map(Value::from)),
            (CONTAINER, "StopGracePeriod", self.stop_grace_period.map(Value::from)),
            (CONTAINER, "Dir", self.workdir.clone().map(Value::from)),
            (CONTAINER, "User", self.user.clone().map(Value::from)),
            (CONTAINER, "Hostname", self.hostname.clone().map(Value::from)),
            (PLACEMENT, "MaxReplicas", self.replicas_max_per_node.map(Value::from)),
            (&["EndpointSpec"], "Mode", self.endpoint_mode.clone().map(Value::from)),
            (&["Mode", "Replicated"], "Replicas", self.replicas.map(Value::from)),
        ];
        for (names, last, value) in places {
            if let Some(value) = value {
                object(spec, names).insert(last.to_owned(), value);
            }
        }
        let restart = [
            ("Condition", self.restart_condition.clone().map(Value::from)),
            ("Delay", self.restart_delay.map(Value::from)),
            ("MaxAttempts", self.restart_max_attempts.map(Value::from)),
            ("Window", self.restart_window.map(Value::from)),
        ];
        let restart_default = json!({"Condition": "any", "Delay": 5_000_000_000_i64, "MaxAttempts": 0});
        group(spec, &["TaskTemplate", "RestartPolicy"], &restart, &restart_default);
        let flow = json!({
            "Parallelism": 1, "FailureAction": "pause", "Monitor": 5_000_000_000_i64, "MaxFailureRatio": 0,
            "Order": "stop-first",
        });
        group(spec, &["UpdateConfig"], &self.update.values(), &flow);
        group(spec, &["RollbackConfig"], &self.rollback.values(), &flow);
    }
}

/// Writes a group of settings that the API takes as a whole: a setting that is neither given nor in the spec gets
/// docker's default.
fn group(spec: &mut Value, names: &[&str], values: &[(&str, Option<Value>)], default: &Value) {
    if values.iter().all(|(_, value)| value.is_none()) {
        return;
    }
    let group = object(spec, names);
    if group.is_empty()
        && let Some(default) = default.as_object()
    {
        group.clone_from(default);
    }
    for (name, value) in values {
        if let Some(value) = value {
            group.insert((*name).to_owned(), value.clone());
        }
    }
}

impl UpdateFlags {
    fn values(&self) -> [(&'static str, Option<Value>); 6] {
        [
            ("Parallelism", self.update_parallelism.map(Value::from)),
            ("Delay", self.update_delay.map(Value::from)),
            ("FailureAction", self.update_failure_action.clone().map(Value::from)),
            ("Monitor", self.update_monitor.map(Value::from)),
            ("MaxFailureRatio", self.update_max_failure_ratio.map(Value::from)),
            ("Order", self.update_order.clone().map(Value::from)),
        ]
    }
}

impl RollbackFlags {
    fn values(&self) -> [(&'static str, Option<Value>); 6] {
        [
            ("Parallelism", self.rollback_parallelism.map(Value::from)),
            ("Delay", self.rollback_delay.map(Value::from)),
            ("FailureAction", self.rollback_failure_action.clone().map(Value::from)),
            ("Monitor", self.rollback_monitor.map(Value::from)),
            ("MaxFailureRatio", self.rollback_max_failure_ratio.map(Value::from)),
            ("Order", self.rollback_order.clone().map(Value::from)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_that_was_not_given_changes_nothing() {
        let spec =
            json!({"Name": "web", "Unknown": {"kept": [1]}, "TaskTemplate": {"ContainerSpec": {"Image": "sleep"}}});
        let mut after = spec.clone();
        Settings::default().apply(&mut after);
        assert_eq!(after, spec);
    }

    #[test]
    fn one_restart_flag_sends_the_whole_policy() {
        let mut spec = json!({});
        Settings { restart_delay: Some(1), ..Settings::default() }.apply(&mut spec);
        assert_eq!(
            spec,
            json!({"TaskTemplate": {"RestartPolicy": {"Condition": "any", "Delay": 1, "MaxAttempts": 0}}})
        );
        Settings { restart_max_attempts: Some(3), ..Settings::default() }.apply(&mut spec);
        assert_eq!(spec["TaskTemplate"]["RestartPolicy"], json!({"Condition": "any", "Delay": 1, "MaxAttempts": 3}));
    }

    #[test]
    fn limits_and_replicas_find_their_places() {
        let mut spec = json!({"Mode": {"Replicated": {"Replicas": 1}}});
        let settings =
            Settings { replicas: Some(4), limit_memory: Some(5), reserve_cpu: Some(6), ..Settings::default() };
        settings.apply(&mut spec);
        let expected = json!({
            "Mode": {"Replicated": {"Replicas": 4}},
            "TaskTemplate": {"Resources": {"Limits": {"MemoryBytes": 5}, "Reservations": {"NanoCPUs": 6}}},
        });
        assert_eq!(spec, expected);
    }
}
