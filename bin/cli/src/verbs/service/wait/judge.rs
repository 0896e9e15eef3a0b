//! One look at a service: how far it has converged, and the lines that tell it.

use std::collections::{BTreeMap, BTreeSet};

use essaim_docker::task::STATES;
use serde_json::Value;

use crate::show::Step;
use crate::show::units::{ellipsis, short};
use crate::verbs::read::{number, text};

/// Tasks of which each has a line of its own; of more, only the whole is told. docker's number.
const TASKS_MAX: usize = 20;

/// Letters of an error that a task's line shows, so that it fits on a narrow terminal. docker's number.
const ERROR_LEN_MAX: usize = 75;

/// The longest name of a state, `preparing`: the bars begin below each other.
const STATE_WIDTH: usize = 9;

/// States that the bar of a service's task has: `running` is the ninth.
const STATES_OF_SERVICE: u64 = 9;

/// States that the bar of a job's task has: `complete` is the tenth.
const STATES_OF_JOB: u64 = 10;

/// How far a service has converged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Convergence {
    /// Whether every task that is wanted runs, or the job is complete.
    pub(super) done: bool,
    /// Whether the service is a job.
    pub(super) job: bool,
    /// The lines that tell it.
    pub(super) steps: Vec<Step>,
    /// State of the service's update.
    pub(super) update: Update,
    /// Reason why no node can take any of the missing tasks; `None` while at least one may still be placed.
    pub(super) unplaceable: Option<String>,
}

/// State of the service's update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Update {
    None,
    RollingBack(String),
    RolledBack(String),
    Paused(String),
    RollbackPaused(String),
}

/// The place of a task: a slot, or a node for a task of a global service.
type Place<'a> = (i64, &'a str);

/// Tells how far the service has converged, from one look at it, its tasks and the nodes.
pub(super) fn judge(service: &Value, tasks: &[Value], nodes: &[Value]) -> Convergence {
    let mode = &service["Spec"]["Mode"];
    if mode["ReplicatedJob"].is_object() || mode["GlobalJob"].is_object() {
        return judge_job(service, tasks);
    }
    let alive: BTreeSet<_> =
        nodes.iter().filter(|node| text(node, "/Status/State") != "down").map(|node| text(node, "/ID")).collect();
    let global = mode["Global"].is_object();
    // One task counts for each place: the running one, if there are several.
    let mut places: BTreeMap<Place<'_>, (bool, &Value)> = BTreeMap::new();
    for task in tasks.iter().filter(|task| text(task, "/DesiredState") == "running") {
        let running = text(task, "/Status/State") == "running" && alive.contains(text(task, "/NodeID"));
        let entry = places.entry(place(task, global)).or_insert((running, task));
        if running && !entry.0 {
            *entry = (running, task);
        }
    }
    let running = places.values().filter(|(running, _)| *running).count() as u64;
    let wanted = if global {
        (!places.is_empty()).then_some(places.len() as u64)
    } else {
        Some(number(mode, "/Replicated/Replicas").map_or(1, i64::unsigned_abs))
    };
    let update = update(service);
    let way = match update {
        Update::RollingBack(_) | Update::RolledBack(_) => "rolling back update: ",
        _ => "",
    };
    let mut steps = vec![Step::whole(
        "overall progress",
        match wanted {
            Some(wanted) => format!("{way}{running} out of {wanted} tasks"),
            None => "waiting for new tasks".to_owned(),
        },
    )];
    let tasks = places.values().map(|(_, task)| *task);
    let wanted_lines = wanted.unwrap_or(0);
    if wanted_lines <= TASKS_MAX as u64 {
        let missing = if global { 0 } else { wanted_lines.saturating_sub(places.len() as u64) };
        steps.extend(tasks.enumerate().map(|(at, task)| match global {
            true => line(short(text(task, "/NodeID")).to_owned(), task, STATES_OF_SERVICE),
            false => line(format!("{}/{wanted_lines}", at + 1), task, STATES_OF_SERVICE),
        }));
        let known = places.len() as u64;
        steps.extend((known + 1..=known + missing).map(|at| waiting(format!("{at}/{wanted_lines}"))));
    }
    Convergence { done: wanted == Some(running), job: false, steps, update, unplaceable: unplaceable(&places) }
}

/// The same for a job, of which the tasks of its latest run count.
fn judge_job(service: &Value, tasks: &[Value]) -> Convergence {
    let run = number(service, "/JobStatus/JobIteration/Index");
    let numbers = &service["Spec"]["Mode"]["ReplicatedJob"];
    let global = !numbers.is_object();
    let mut places: BTreeMap<Place<'_>, &Value> = BTreeMap::new();
    for task in tasks.iter().filter(|task| number(task, "/JobIteration/Index") == run) {
        // A place whose task failed gets another one: the latter counts, and one that completed counts most.
        let entry = places.entry(place(task, global)).or_insert(task);
        let is = |task: &Value, state: &str| text(task, "/Status/State") == state;
        if !is(entry, "complete") && (is(task, "complete") || order(task) < order(entry)) {
            *entry = task;
        }
    }
    let completed = places.values().filter(|task| text(task, "/Status/State") == "complete").count() as u64;
    let active = places.values().filter(|task| order(task) < order_of("complete")).count() as u64;
    let total = if global {
        (!places.is_empty()).then_some(places.len() as u64)
    } else {
        Some(number(numbers, "/TotalCompletions").map_or(1, i64::unsigned_abs))
    };
    let mut steps = Vec::new();
    match total {
        None => steps.push(Step::whole("job progress", "waiting for tasks")),
        Some(total) => {
            let width = total.to_string().len();
            let mut whole = Step::whole("job progress", format!("{completed:>width$} out of {total} complete"));
            whole.bar = Some((completed, total));
            steps.push(whole);
            if !global {
                let at_once = number(numbers, "/MaxConcurrent").map_or(total, i64::unsigned_abs);
                let left = total.saturating_sub(completed).min(at_once);
                let width = at_once.to_string().len();
                let text = format!("{active:>width$} out of {left:>width$} tasks");
                steps.push(Step { matters: false, ..Step::whole("active tasks", text) });
            }
            if total <= TASKS_MAX as u64 {
                steps.extend(places.values().enumerate().map(|(at, task)| match global {
                    true => line(short(text(task, "/NodeID")).to_owned(), task, STATES_OF_JOB),
                    false => line(format!("{}/{total}", at + 1), task, STATES_OF_JOB),
                }));
            }
        }
    }
    let done = total.is_some_and(|total| completed >= total);
    let places = places.into_iter().map(|(place, task)| (place, (text(task, "/Status/State") == "complete", task)));
    Convergence { done, job: true, steps, update: Update::None, unplaceable: unplaceable(&places.collect()) }
}

/// The place of a task. The API leaves out the number of slot 0, with which a job begins.
fn place(task: &Value, global: bool) -> Place<'_> {
    if global { (0, text(task, "/NodeID")) } else { (number(task, "/Slot").unwrap_or(0), "") }
}

fn order(task: &Value) -> usize {
    order_of(text(task, "/Status/State"))
}

fn order_of(state: &str) -> usize {
    STATES.iter().position(|known| *known == state).unwrap_or(0)
}

/// The line of a task: its error, or its state with a bar of `of` states.
fn line(about: String, task: &Value, of: u64) -> Step {
    let error = text(task, "/Status/Err").replace('\n', " ");
    if !error.is_empty() {
        return Step { about, text: ellipsis(&error, ERROR_LEN_MAX), bar: None, matters: true };
    }
    let state = text(task, "/Status/State");
    let done = order(task) as u64 + 1;
    Step { about, text: format!("{state:<STATE_WIDTH$}"), bar: Some((done, of)), matters: false }
}

fn waiting(about: String) -> Step {
    Step { about, text: String::new(), bar: None, matters: false }
}

fn update(service: &Value) -> Update {
    let message = text(service, "/UpdateStatus/Message").to_owned();
    match text(service, "/UpdateStatus/State") {
        "paused" => Update::Paused(message),
        "rollback_started" => Update::RollingBack(message),
        "rollback_paused" => Update::RollbackPaused(message),
        "rollback_completed" => Update::RolledBack(message),
        _ => Update::None,
    }
}

/// The reason of a pending task, when every task that does not run is pending without a suitable node.
fn unplaceable(places: &BTreeMap<Place<'_>, (bool, &Value)>) -> Option<String> {
    let mut reason = None;
    for (_, task) in places.values().filter(|(running, _)| !running) {
        let error = text(task, "/Status/Err");
        if text(task, "/Status/State") != "pending" || !error.starts_with("no suitable node") {
            return None;
        }
        reason = Some(error.to_owned());
    }
    reason
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(replicas: u64) -> Value {
        json!({"Spec": {"Mode": {"Replicated": {"Replicas": replicas}}}})
    }

    fn task(slot: i64, node: &str, state: &str) -> Value {
        json!({"Slot": slot, "NodeID": node, "DesiredState": "running", "Status": {"State": state}})
    }

    fn nodes() -> Vec<Value> {
        vec![json!({"ID": "a", "Status": {"State": "ready"}}), json!({"ID": "b", "Status": {"State": "down"}})]
    }

    fn lines(convergence: &Convergence) -> Vec<String> {
        convergence.steps.iter().map(|step| format!("{}: {}", step.about, step.text.trim_end())).collect()
    }

    #[test]
    fn a_task_on_a_lost_node_does_not_run() {
        let convergence = judge(&service(2), &[task(1, "a", "running"), task(2, "b", "running")], &nodes());
        assert_eq!(convergence.steps[0].text, "1 out of 2 tasks");
        assert!(!convergence.done);
    }

    #[test]
    fn a_slot_counts_once_and_its_running_task_counts() {
        let tasks =
            [task(1, "a", "running"), task(1, "a", "starting"), task(2, "a", "starting"), task(2, "a", "running")];
        assert!(judge(&service(2), &tasks, &nodes()).done);
    }

    #[test]
    fn a_global_service_wants_one_on_each_node_it_has_tasks_on() {
        let global = json!({"Spec": {"Mode": {"Global": {}}}});
        assert_eq!(lines(&judge(&global, &[], &nodes())), ["overall progress: waiting for new tasks"]);
        let tasks = [task(0, "a", "running"), task(0, "b", "starting")];
        let expected = ["overall progress: 1 out of 2 tasks", "a: running", "b: starting"];
        assert_eq!(lines(&judge(&global, &tasks, &nodes())), expected);
    }

    #[test]
    fn every_task_has_a_line_until_there_are_too_many() {
        let mut failed = task(2, "a", "failed");
        failed["Status"]["Err"] = json!("task: non-zero exit (1)\nand more");
        let shown = judge(&service(3), &[task(1, "a", "preparing"), failed], &nodes());
        let expected =
            ["overall progress: 0 out of 3 tasks", "1/3: preparing", "2/3: task: non-zero exit (1) and more", "3/3: "];
        assert_eq!(lines(&shown), expected);
        assert_eq!(shown.steps[1].bar, Some((6, 9)));
        assert_eq!(judge(&service(21), &[task(1, "a", "running")], &nodes()).steps.len(), 1);
    }

    #[test]
    fn a_job_is_done_when_enough_tasks_of_its_latest_run_have_completed() {
        let mut job = json!({
            "Spec": {"Mode": {"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 10}}},
            "JobStatus": {"JobIteration": {"Index": 7}},
        });
        let of = |run: u64, slot: i64, state: &str| {
            let mut task = task(slot, "a", state);
            task["JobIteration"] = json!({"Index": run});
            task
        };
        let tasks = [of(6, 3, "complete"), of(7, 0, "complete"), of(7, 1, "failed"), of(7, 1, "running")];
        let shown = judge(&job, &tasks, &nodes());
        let expected = [
            "job progress:  1 out of 10 complete",
            "active tasks: 1 out of 2 tasks",
            "1/10: complete",
            "2/10: running",
        ];
        assert_eq!((lines(&shown), shown.done), (expected.map(str::to_owned).to_vec(), false));
        job["Spec"]["Mode"]["ReplicatedJob"]["TotalCompletions"] = json!(1);
        assert!(judge(&job, &tasks, &nodes()).done);
        let global = json!({"Spec": {"Mode": {"GlobalJob": {}}}, "JobStatus": {"JobIteration": {"Index": 7}}});
        assert_eq!(lines(&judge(&global, &[], &nodes())), ["job progress: waiting for tasks"]);
        assert!(judge(&global, &tasks[1..2], &nodes()).done);
    }

    #[test]
    fn a_lost_task_of_a_job_is_not_active_and_the_one_that_replaced_it_counts() {
        let job = json!({"Spec": {"Mode": {"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 2}}}});
        let tasks = [task(0, "b", "orphaned"), task(0, "a", "starting"), task(1, "b", "orphaned")];
        let shown = lines(&judge(&job, &tasks, &nodes()));
        let expected =
            ["job progress: 0 out of 2 complete", "active tasks: 1 out of 2 tasks", "1/2: starting", "2/2: orphaned"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn nothing_is_unplaceable_while_something_moves() {
        let mut pending = task(1, "", "pending");
        pending["Status"]["Err"] = json!("no suitable node (scheduling constraints not satisfied on 3 nodes)");
        let convergence = judge(&service(2), &[pending.clone(), task(2, "a", "running")], &nodes());
        assert!(convergence.unplaceable.unwrap().contains("constraints"));
        assert_eq!(judge(&service(2), &[pending, task(2, "a", "starting")], &nodes()).unplaceable, None);
    }

    #[test]
    fn an_update_tells_how_it_ended() {
        let with = |state: &str| update(&json!({"UpdateStatus": {"State": state, "Message": "m"}}));
        assert_eq!(with("updating"), Update::None);
        assert_eq!(with("paused"), Update::Paused("m".to_owned()));
        assert_eq!(with("rollback_completed"), Update::RolledBack("m".to_owned()));
    }
}
