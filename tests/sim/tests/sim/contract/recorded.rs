//! The recorded commands: what the docker CLI was asked, what it printed, and what it and the daemon sent each other.

use super::words::{self, Said};
use crate::api::replay::recordings;
use crate::api::shape::differences;
use crate::api::world::Session;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One recorded command.
pub(super) struct Command {
    pub(super) name: String,
    /// The arguments, without the program.
    pub(super) argv: Vec<String>,
    /// Text on the command's standard input.
    pub(super) stdin: String,
    pub(super) said: Said,
    /// Whether the output went to a terminal, where both streams are one.
    pub(super) terminal: bool,
    /// Role of the asked node and the requests, as the replay has them.
    pub(super) recording: Value,
    /// The cluster as the commands before this one left it.
    pub(super) session: Session,
}

/// Every recorded command, in the order of the recordings.
pub(super) fn commands() -> Vec<Command> {
    let recordings: BTreeMap<String, Value> = recordings().into_iter().map(|it| (text(&it["name"]), it)).collect();
    let all: Vec<Value> = serde_json::from_str(include_str!("../../../fixtures/said.json")).expect("a list");
    let mut session = Session::default();
    let mut commands = Vec::new();
    for one in &all {
        let name = text(&one["name"]);
        let recording = recordings.get(&name).cloned();
        let known = recording.clone().unwrap_or_else(|| json!({"swarm": "active/manager", "exchanges": []}));
        // The ids in the recording's arguments are those of its requests.
        let argv = recording.as_ref().map(|it| &it["argv"]).filter(|it| it.is_array()).unwrap_or(&one["argv"]);
        let argv = argv.as_array().into_iter().flatten().map(text).skip_while(|word| word == "docker").collect();
        let said = Said {
            code: one["exit"].as_i64().and_then(|exit| exit.try_into().ok()).expect("an exit code"),
            out: text(&one["stdout"]),
            error: text(&one["stderr"]),
        };
        commands.push(Command {
            name,
            argv,
            stdin: text(&one["stdin"]),
            said,
            terminal: one["terminal"] == true,
            recording: known,
            session: session.clone(),
        });
        if let Some(recording) = &recording {
            session.learn(recording);
        }
    }
    commands
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("").to_owned()
}

impl Command {
    /// Leaves flags out: the command is run with these arguments, and the services in its recording publish no ports.
    pub(super) fn leave_out(&mut self, argv: Vec<String>) {
        self.argv = argv;
        for exchange in self.recording["exchanges"].as_array_mut().into_iter().flatten() {
            for spec in ["/request", "/response/Spec", "/response/PreviousSpec"] {
                let endpoint = exchange.pointer_mut(&format!("{spec}/EndpointSpec")).and_then(Value::as_object_mut);
                endpoint.map(|endpoint| endpoint.remove("Ports"));
            }
        }
    }

    pub(super) fn exchanges(&self) -> &[Value] {
        self.recording["exchanges"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The recorded answer of the registry to the request, and its status.
    pub(super) fn of_registry(&self, path: &str) -> Option<(u16, &Value)> {
        let asked = |it: &&Value| path.starts_with("/distribution/") && it["path"] == path;
        let found = self.exchanges().iter().find(asked)?;
        Some((found["status"].as_u64()?.try_into().ok()?, &found["response"]))
    }

    /// What is wrong with the status of our answer to a request: the recorded CLI sent no such request, or was answered
    /// otherwise.
    pub(super) fn compare_status(&self, method: &str, path: &str, status: u16) -> Option<String> {
        let path = words::path(path);
        let of_engine = ["/containers/", "/images/", "/volumes/"].iter().any(|start| path.starts_with(start));
        if method == "HEAD" || of_engine || self.exchanges().is_empty() {
            return None;
        }
        let mut recorded = Vec::new();
        for it in self.same(method, &path) {
            recorded.push(it["status"].as_u64().unwrap_or(0));
        }
        if recorded.is_empty() {
            return Some(format!("{method} {path}: the recorded command sends no such request (answered {status})"));
        }
        (!recorded.contains(&status.into())).then(|| format!("{method} {path}: status {recorded:?} became {status}"))
    }

    /// What differs in shape between our answer to a request and the recorded answer that is most like it.
    pub(super) fn compare_shape(&self, method: &str, path: &str, ours: &Value) -> Vec<String> {
        let path = words::path(path);
        let recorded = self.same(method, &path);
        let found = recorded.map(|it| differences(&it["response"], ours)).min_by_key(Vec::len).unwrap_or_default();
        found.into_iter().map(|it| format!("{method} {path}: {it}")).collect()
    }

    fn same(&self, method: &str, path: &str) -> impl Iterator<Item = &Value> {
        let same = move |it: &&Value| {
            it["method"] == method && it["path"].as_str().is_some_and(|recorded| words::path(recorded) == path)
        };
        self.exchanges().iter().filter(same)
    }
}
