//! Labels with a meaning: settings beyond Swarm's, which any of Docker's clients can send. Each is off unless it is set.
//!
//! A service's labels that begin with `essaim.` are checked when the service is created or updated: an unknown one, or an
//! unknown value, is a typing error and refused. `docs/labels.md` has the same table for operators.

use super::{Mode, ServiceSpec};
use crate::cron::Cron;
use crate::{Labels, PortProtocol, Refusal};
use std::collections::BTreeSet;
use std::time::Duration;

/// Chooses the engine of the service's tasks.
pub const ENGINE_LABEL: &str = "essaim.engine";

/// Says whether the tasks of an unreachable node are replaced at once (`replace`) or only when the node is down (`wait`).
pub const ON_UNREACHABLE_LABEL: &str = "essaim.on-unreachable";

/// Says what a worker does with the service's tasks when it has had no manager for [`DISCONNECT_LEASE`]: with `stop` it ends
/// them, and their replacements wait until they have ended for certain; with `keep`, the default, they go on.
pub const ON_DISCONNECT_LABEL: &str = "essaim.on-disconnect";

/// Time for which a worker without a manager keeps tasks of services with `essaim.on-disconnect=stop`. Managers renew it
/// every two seconds; a leader that is lost is replaced within a second or two, which must not end tasks.
pub const DISCONNECT_LEASE: Duration = Duration::from_secs(10);

/// For draining nodes: `stop-first` stops the old task before its replacement starts.
pub const DRAIN_LABEL: &str = "essaim.drain";

/// Number of the service's slots that are moved away from draining nodes at a time.
pub const DRAIN_PARALLELISM_LABEL: &str = "essaim.drain-parallelism";

/// Longest restart delay: the delay doubles with each restart that fails, up to this one.
pub const RESTART_DELAY_MAX_LABEL: &str = "essaim.restart-delay-max";

/// Pause between two slots that move to a node with fewer tasks of the service, such as one that returned.
pub const REBALANCE_LABEL: &str = "essaim.rebalance";

/// Binds each slot to the node on which its data is: the slot's next task waits for that node, for ever (`wait`) or for a
/// time after which it starts elsewhere.
pub const STICKY_LABEL: &str = "essaim.sticky";

/// Chooses among the tasks behind a port that every node publishes: the one with the fewest connections
/// (`least-connections`, the default), or one of the node itself while there is one (`local-first`).
pub const BALANCE_LABEL: &str = "essaim.balance";

/// Ports inside the tasks, each of whose connections begins with the header of PROXY protocol, version 2.
pub const PROXY_PROTOCOL_LABEL: &str = "essaim.proxy-protocol";

/// Times at which a job runs, as a cron expression in UTC.
pub const SCHEDULE_LABEL: &str = "essaim.schedule";

/// What happens when a scheduled run is due and the one before it is not complete: `forbid` waits for its end, `replace`
/// ends it.
pub const SCHEDULE_OVERLAP_LABEL: &str = "essaim.schedule-overlap";

/// Number of complete runs of a scheduled job whose tasks are kept.
pub const SCHEDULE_KEPT_LABEL: &str = "essaim.schedule-kept";

/// Shortest pause of [`REBALANCE_LABEL`]: a task that moved needs time to serve before the next one moves.
const REBALANCE_PAUSE_MIN: Duration = Duration::from_secs(1);

/// Runs of a scheduled job whose tasks are kept if nothing else was asked for.
const SCHEDULE_KEPT: u64 = 3;

/// Labels with a fixed set of values.
const WORDS: &[(&str, &[&str])] = &[
    (ENGINE_LABEL, &["process", "docker", "actor"]),
    (ON_UNREACHABLE_LABEL, &["replace", "wait"]),
    (ON_DISCONNECT_LABEL, &["keep", "stop"]),
    (DRAIN_LABEL, &["start-first", "stop-first"]),
    (BALANCE_LABEL, &["least-connections", "local-first"]),
    (SCHEDULE_OVERLAP_LABEL, &["forbid", "replace"]),
];

/// Refuses an unknown label that begins with `essaim.`, or a value that a known one cannot have.
pub fn check(spec: &ServiceSpec) -> Result<(), Refusal> {
    for (label, value) in spec.labels.iter().filter(|(label, _)| label.starts_with("essaim.")) {
        let fault = match label.as_str() {
            DRAIN_PARALLELISM_LABEL | SCHEDULE_KEPT_LABEL => {
                number(value).is_none().then(|| "expected a whole number of at least 1".to_owned())
            }
            RESTART_DELAY_MAX_LABEL => {
                duration(value).is_none().then(|| "expected a time such as 30s or 5m".to_owned())
            }
            REBALANCE_LABEL => duration(value)
                .is_none_or(|pause| pause < REBALANCE_PAUSE_MIN)
                .then(|| "expected the pause between two moves, at least 1s, such as 30s".to_owned()),
            STICKY_LABEL => sticky(value)
                .is_none()
                .then(|| "expected wait, or a time after which the slot starts elsewhere, such as 10m".to_owned()),
            PROXY_PROTOCOL_LABEL => {
                numbers(value).is_none().then(|| "expected ports inside the tasks, such as 80 or 80,443".to_owned())
            }
            SCHEDULE_LABEL => value.parse::<Cron>().err().map(|invalid| invalid.to_string()),
            other => match WORDS.iter().find(|(known, _)| *known == other) {
                Some((_, values)) => {
                    (!values.contains(&value.as_str())).then(|| format!("expected one of {}", values.join(", ")))
                }
                None => {
                    let text =
                        format!("no label is called {label} here (labels that begin with \"essaim.\" have a meaning)");
                    return Err(Refusal::invalid(text));
                }
            },
        };
        if let Some(fault) = fault.or_else(|| misplaced(spec, label)) {
            return Err(Refusal::invalid(format!("label {label}={value}: {fault}")));
        }
    }
    Ok(())
}

/// The fault of a label that has no effect in this spec.
fn misplaced(spec: &ServiceSpec, label: &str) -> Option<String> {
    let is_replicated = matches!(spec.mode, Mode::Replicated { .. });
    let fault = match label {
        SCHEDULE_LABEL | SCHEDULE_OVERLAP_LABEL | SCHEDULE_KEPT_LABEL if !spec.mode.is_job() => {
            "only a job can have it".to_owned()
        }
        REBALANCE_LABEL | STICKY_LABEL if !is_replicated => "only a replicated service can have it".to_owned(),
        STICKY_LABEL if !spec.keeps_data() => {
            "only a service that writes to a named volume or a path of its node can have it".to_owned()
        }
        BALANCE_LABEL if spec.ingress().next().is_none() => {
            "only a service with a port that every node publishes can have it".to_owned()
        }
        PROXY_PROTOCOL_LABEL => {
            let is_tcp = |number: &u16| {
                let mut ports = spec.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
                ports.any(|port| port.target == *number && port.protocol == PortProtocol::Tcp)
            };
            let unknown = spec.label(label).and_then(numbers)?.into_iter().find(|number| !is_tcp(number))?;
            format!("the service publishes no TCP port whose target is {unknown}")
        }
        STICKY_LABEL if spec.labels.contains_key(REBALANCE_LABEL) => {
            format!("a slot that stays where its data is cannot move: leave out {REBALANCE_LABEL}")
        }
        _ => return None,
    };
    Some(fault)
}

/// How long a slot waits for the node on which its data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sticky {
    /// For ever.
    Wait,
    /// For this time; then it starts elsewhere.
    For(Duration),
}

fn sticky(text: &str) -> Option<Sticky> {
    if text == "wait" { Some(Sticky::Wait) } else { duration(text).map(Sticky::For) }
}

/// Numbers of ports, separated by commas.
fn numbers(text: &str) -> Option<BTreeSet<u16>> {
    text.split(',').map(|number| number.trim().parse().ok().filter(|number| *number != 0)).collect()
}

/// A whole number of at least 1.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number > 0)
}

/// A time as Docker's clients write it: `90s`, `1m30s`, `500ms`, `1h`.
fn duration(text: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !it.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|it: char| it.is_ascii_digit()).unwrap_or(rest.len());
        let millis = match &rest[..end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        rest = &rest[end..];
        sum = sum.checked_add(Duration::from_millis(count.checked_mul(millis)?))?;
    }
    (!text.is_empty()).then_some(sum)
}

/// The settings that the labels of a service make. A value that `check` refuses counts as not set.
impl ServiceSpec {
    fn label(&self, label: &str) -> Option<&str> {
        labelled(&self.labels, label)
    }

    /// Slots that are moved away from draining nodes at a time; no limit when `None`.
    pub fn drain_parallelism(&self) -> Option<u64> {
        self.label(DRAIN_PARALLELISM_LABEL).and_then(number)
    }

    /// Longest delay of the restart back-off; the delay is always the same when `None`.
    pub fn restart_delay_max(&self) -> Option<Duration> {
        self.label(RESTART_DELAY_MAX_LABEL).and_then(duration)
    }

    /// Pause between two slots that move to nodes with fewer tasks; none moves when `None`.
    pub fn rebalance_pause(&self) -> Option<Duration> {
        self.label(REBALANCE_LABEL).and_then(duration).filter(|_| matches!(self.mode, Mode::Replicated { .. }))
    }

    /// How long a slot waits for the node on which its data is; it starts anywhere when `None`.
    pub fn sticky(&self) -> Option<Sticky> {
        self.label(STICKY_LABEL).and_then(sticky).filter(|_| misplaced(self, STICKY_LABEL).is_none())
    }

    /// Whether a node prefers its own tasks for connections to the ports that every node publishes.
    pub fn is_local_first(&self) -> bool {
        self.label(BALANCE_LABEL) == Some("local-first")
    }

    /// Ports inside the tasks, each of whose connections begins with the header of PROXY protocol.
    pub fn proxied(&self) -> BTreeSet<u16> {
        self.label(PROXY_PROTOCOL_LABEL).and_then(numbers).unwrap_or_default()
    }

    /// Times at which the job runs; it runs only when it is created or updated when `None`.
    pub fn schedule(&self) -> Option<Cron> {
        self.label(SCHEDULE_LABEL).filter(|_| self.mode.is_job()).and_then(|text| text.parse().ok())
    }

    /// Whether a scheduled run that is due ends the one before it.
    pub fn schedule_replaces(&self) -> bool {
        self.label(SCHEDULE_OVERLAP_LABEL) == Some("replace")
    }

    /// Earlier runs of a scheduled job whose tasks are kept; `None` for a service without a schedule, whose history is
    /// the cluster's.
    pub fn schedule_kept(&self) -> Option<u64> {
        self.label(SCHEDULE_LABEL)?;
        Some(self.label(SCHEDULE_KEPT_LABEL).and_then(number).unwrap_or(SCHEDULE_KEPT))
    }
}

fn labelled<'a>(labels: &'a Labels, label: &str) -> Option<&'a str> {
    labels.get(label).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EndpointSpec, PortConfig, PublishMode};

    #[test]
    fn a_time_is_written_as_dockers_clients_write_it() {
        for (text, millis) in [("500ms", 500), ("90s", 90_000), ("1m30s", 90_000), ("1h", 3_600_000), ("0s", 0)] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "5", "s", "5x", "5 s", "-5s", "1.5s", "99999999999999999999s", "999999999999999999h"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_label_refuses_what_it_cannot_have_and_says_what_it_expects() {
        let job = Mode::GlobalJob;
        let web = Mode::Replicated { replicas: 1 };
        for (mode, label, good, bad, words) in [
            (web, ENGINE_LABEL, "docker", "vm", "expected one of process, docker, actor"),
            (web, ON_UNREACHABLE_LABEL, "wait", "stop", "expected one of replace, wait"),
            (web, DRAIN_LABEL, "stop-first", "yes", "expected one of start-first, stop-first"),
            (web, DRAIN_PARALLELISM_LABEL, "2", "0", "expected a whole number of at least 1"),
            (web, RESTART_DELAY_MAX_LABEL, "5m", "5", "expected a time such as 30s or 5m"),
            (web, REBALANCE_LABEL, "30s", "0s", "expected the pause between two moves, at least 1s, such as 30s"),
            (
                job,
                SCHEDULE_LABEL,
                "*/5 * * * *",
                "* * *",
                "a schedule has five fields (minute, hour, day, month, weekday), not 3",
            ),
            (job, SCHEDULE_OVERLAP_LABEL, "replace", "allow", "expected one of forbid, replace"),
            (job, SCHEDULE_KEPT_LABEL, "10", "-1", "expected a whole number of at least 1"),
        ] {
            let mut spec = crate::fixtures::service("web", 1);
            spec.mode = mode;
            spec.labels.insert(label.into(), good.into());
            assert_eq!(check(&spec), Ok(()), "{label}");
            spec.labels.insert(label.into(), bad.into());
            assert_eq!(check(&spec).expect_err(label).text, format!("label {label}={bad}: {words}"));
        }
    }

    #[test]
    fn a_slot_is_bound_to_its_data_where_there_is_some_and_the_slot_does_not_move() {
        let fault = |edit: &dyn Fn(&mut ServiceSpec)| {
            let mut spec = crate::fixtures::service("db", 1);
            spec.labels.insert(STICKY_LABEL.into(), "10m".into());
            edit(&mut spec);
            (check(&spec).err().map(|it| it.text), spec.sticky())
        };
        let volume = |spec: &mut ServiceSpec| spec.task.container.mounts = crate::fixtures::volume("data");
        let for_ten = Some(Sticky::For(Duration::from_secs(600)));
        assert_eq!(fault(&volume), (None, for_ten));
        let wait = |spec: &mut ServiceSpec| {
            volume(spec);
            spec.labels.insert(STICKY_LABEL.into(), "wait".into());
        };
        assert_eq!(fault(&wait), (None, Some(Sticky::Wait)));
        let mut spec = crate::fixtures::service("db", 1);
        wait(&mut spec);
        assert_eq!(spec.level(), ServiceSpec::STICKY_LEVEL, "an older program would start it anywhere");
        let says = |words: &str| Some(format!("label essaim.sticky=10m: {words}"));
        let none = says("only a service that writes to a named volume or a path of its node can have it");
        assert_eq!(fault(&|_| ()), (none, None));
        let moves = |spec: &mut ServiceSpec| {
            volume(spec);
            spec.labels.insert(REBALANCE_LABEL.into(), "30s".into());
        };
        let words = says("a slot that stays where its data is cannot move: leave out essaim.rebalance");
        assert_eq!(fault(&moves), (words, None));
        let global = |spec: &mut ServiceSpec| {
            volume(spec);
            spec.mode = Mode::Global;
        };
        assert_eq!(fault(&global), (says("only a replicated service can have it"), None));
    }

    #[test]
    fn labels_about_ports_need_ports_for_which_they_mean_something() {
        let spec = |label: &str, value: &str, ports: &[(u16, PortProtocol, PublishMode)]| {
            let mut spec = crate::fixtures::service("web", 1);
            let ports = ports.iter().map(|(target, protocol, mode)| {
                let (target, protocol, mode) = (*target, *protocol, *mode);
                PortConfig { name: String::new(), protocol, target, published: 0, mode }
            });
            spec.endpoint = Some(EndpointSpec { dns_round_robin: false, ports: ports.collect() });
            spec.labels.insert(label.into(), value.into());
            spec
        };
        let web = (80, PortProtocol::Tcp, PublishMode::Ingress);
        let fault = |spec: &ServiceSpec| check(spec).err().map(|it| it.text);
        let both = spec(PROXY_PROTOCOL_LABEL, "80, 81", &[web, (81, PortProtocol::Tcp, PublishMode::Host)]);
        assert_eq!((fault(&both), both.proxied()), (None, [80, 81].into()));
        assert_eq!(both.level(), ServiceSpec::PORT_LABELS_LEVEL, "an older program sends no header");
        let words = "label essaim.proxy-protocol=80,53: the service publishes no TCP port whose target is 53";
        let udp = spec(PROXY_PROTOCOL_LABEL, "80,53", &[web, (53, PortProtocol::Udp, PublishMode::Ingress)]);
        assert_eq!(fault(&udp).as_deref(), Some(words));
        let words = "label essaim.proxy-protocol=http: expected ports inside the tasks, such as 80 or 80,443";
        assert_eq!(fault(&spec(PROXY_PROTOCOL_LABEL, "http", &[web])).as_deref(), Some(words));
        let local = spec(BALANCE_LABEL, "local-first", &[web]);
        assert_eq!((fault(&local), local.is_local_first()), (None, true));
        let words =
            "label essaim.balance=local-first: only a service with a port that every node publishes can have it";
        let host = spec(BALANCE_LABEL, "local-first", &[(80, PortProtocol::Tcp, PublishMode::Host)]);
        assert_eq!(fault(&host).as_deref(), Some(words));
        let words = "label essaim.balance=random: expected one of least-connections, local-first";
        assert_eq!(fault(&spec(BALANCE_LABEL, "random", &[web])).as_deref(), Some(words));
    }

    #[test]
    fn a_label_without_effect_in_its_mode_is_refused() {
        let mut spec = crate::fixtures::service("web", 1);
        spec.labels.insert(SCHEDULE_LABEL.into(), "* * * * *".into());
        assert!(check(&spec).expect_err("no job").text.ends_with("only a job can have it"));
        let mut spec = crate::fixtures::service("web", 1);
        spec.mode = Mode::Global;
        spec.labels.insert(REBALANCE_LABEL.into(), "30s".into());
        assert!(check(&spec).expect_err("its slots are nodes").text.ends_with("only a replicated service can have it"));
    }
}
