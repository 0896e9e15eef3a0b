//! The tasks that failed while a command waits: how many, and what the last one said on which node.
//!
//! A task that failed is followed by another one which waits for its restart delay, and so has no line in the progress.
//! Without these failures, a service whose program ends at once would wait for ever and show no cause.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::show::Step;
use crate::verbs::read::{number, text};

/// The failures since the wait began.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// Failed tasks of the answer before; `None` before the first one of a service that is older than the wait.
    before: Option<BTreeSet<String>>,
    /// Failures since the wait began. The daemon forgets old tasks, so this may be more than it lists.
    count: u64,
    /// Node and words of the last failure.
    last: Option<(String, String)>,
    /// Words that were shown last where every line stays.
    shown: String,
}

impl Failures {
    /// For a service that was just created: all its failures count.
    pub(super) fn of_new_service() -> Self {
        Self { before: Some(BTreeSet::new()), ..Self::default() }
    }

    /// Takes note of an answer to the question for the service's tasks.
    pub(super) fn look(&mut self, tasks: &[Value], nodes: &[Value]) {
        let mut failed: Vec<_> =
            tasks.iter().filter(|task| matches!(text(task, "/Status/State"), "failed" | "rejected")).collect();
        failed.sort_by_key(|task| number(task, "/Version/Index"));
        let ids = failed.iter().map(|task| text(task, "/ID").to_owned()).collect();
        if let Some(before) = &self.before {
            for task in failed.iter().filter(|task| !before.contains(text(task, "/ID"))) {
                self.count += 1;
                self.last = Some((node_name(task, nodes), words(task)));
            }
        }
        self.before = Some(ids);
    }

    /// The line of the progress. Where every line stays, it is shown when the words change, and otherwise each time the
    /// number of failures has doubled.
    pub(super) fn step(&mut self) -> Option<Step> {
        let (_, words) = self.last.as_ref()?;
        let matters = *words != self.shown || self.count.is_power_of_two();
        self.shown.clone_from(words);
        Some(Step { matters, ..Step::whole("failures", self.text()?) })
    }

    /// The line that ends a wait without success; empty without a failure.
    pub(super) fn ending(&self) -> String {
        self.text().map_or_else(String::new, |text| format!("\nfailures: {text}"))
    }

    fn text(&self) -> Option<String> {
        let (node, words) = self.last.as_ref()?;
        let on = if node.is_empty() { String::new() } else { format!(" on {node}") };
        Some(match self.count {
            1 => format!("1{on}: {words}"),
            count => format!("{count}, the last{on}: {words}"),
        })
    }
}

/// Host name of a task's node.
fn node_name(task: &Value, nodes: &[Value]) -> String {
    let id = text(task, "/NodeID");
    let known = nodes.iter().find(|node| text(node, "/ID") == id).map(|node| text(node, "/Description/Hostname"));
    known.filter(|name| !name.is_empty()).unwrap_or(id).to_owned()
}

/// What was said of a task that failed.
fn words(task: &Value) -> String {
    let said = [text(task, "/Status/Err"), text(task, "/Status/Message"), text(task, "/Status/State")];
    said.into_iter().find(|words| !words.is_empty()).unwrap_or_default().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(id: &str, state: &str, error: &str) -> Value {
        json!({"ID": id, "NodeID": "a", "Version": {"Index": 7}, "Status": {"State": state, "Err": error}})
    }

    fn nodes() -> Vec<Value> {
        vec![json!({"ID": "a", "Description": {"Hostname": "n1"}})]
    }

    fn shown(step: Option<Step>) -> (String, bool) {
        step.map(|step| (step.text, step.matters)).unwrap_or_default()
    }

    #[test]
    fn a_failing_program_is_shown_with_its_words_its_node_and_how_often() {
        let mut failures = Failures::of_new_service();
        failures.look(&[task("1", "starting", "")], &nodes());
        assert_eq!((failures.step(), failures.ending()), (None, String::new()));
        let exit = "task: non-zero exit (1)";
        failures.look(&[task("1", "failed", exit), task("2", "ready", "")], &nodes());
        assert_eq!(shown(failures.step()), (format!("1 on n1: {exit}"), true));
        let mut tasks = vec![task("1", "failed", exit), task("2", "failed", exit)];
        failures.look(&tasks, &nodes());
        failures.look(&tasks, &nodes());
        assert_eq!(shown(failures.step()), (format!("2, the last on n1: {exit}"), true));
        // The daemon forgets a task: the count does not fall.
        tasks.remove(0);
        tasks.push(task("3", "failed", exit));
        failures.look(&tasks, &nodes());
        assert_eq!(shown(failures.step()), (format!("3, the last on n1: {exit}"), false));
        tasks.push(task("4", "rejected", "no such\nimage"));
        tasks[2]["Version"]["Index"] = json!(8);
        failures.look(&tasks, &nodes());
        assert_eq!(shown(failures.step()), ("4, the last on n1: no such image".into(), true));
        assert_eq!(failures.ending(), "\nfailures: 4, the last on n1: no such image");
    }

    #[test]
    fn what_failed_before_the_wait_is_not_told_again() {
        let mut failures = Failures::default();
        failures.look(&[task("1", "failed", "long ago")], &nodes());
        assert_eq!(failures.step(), None);
        failures.look(&[task("1", "failed", "long ago"), task("2", "failed", "just now")], &nodes());
        assert_eq!(shown(failures.step()), ("1 on n1: just now".into(), true));
    }
}
