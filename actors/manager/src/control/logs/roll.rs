//! The roll of one reader: the tasks whose logs it gets, which of them are being read, and what its answer lacks. Pure.
//!
//! A reader that follows a service also gets the tasks that the service creates later, from their first line on, for as
//! long as the service exists. A reader that does not follow gets the tasks of the moment.

use essaim_model::{Event, ServiceId, State, Task, TaskId};
use essaim_wire::NodeId;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Subject of a request for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogsOf {
    /// All tasks of a service.
    Service(ServiceId),
    /// One task.
    Task(TaskId),
}

/// Input of the roll.
#[derive(Debug)]
pub(super) enum Input<'a> {
    /// The state at the beginning, or after events were missed.
    Look(&'a State),
    /// Events, and the state that contains them.
    Happened(&'a State, &'a [Event]),
    /// The log of a task was read to its end, or will be read no further; `lacks` says what could not be read.
    Read {
        /// Task whose log it is.
        task: TaskId,
        /// Why lines are missing, in words for people.
        lacks: Option<String>,
    },
    /// No further tasks are wanted.
    Close,
}

/// What the roll asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Read the log of this task at this node.
    Read {
        /// Task to read.
        task: TaskId,
        /// Node that the task was given to.
        node: NodeId,
        /// Whether the task joined a stream that had begun, so that all of its lines are new.
        joined: bool,
    },
    /// All was read.
    End {
        /// Why lines are missing, in words for people; empty when none are.
        lacks: Vec<String>,
    },
}

/// The roll of one reader.
#[derive(Debug)]
pub(super) struct Roll {
    of: LogsOf,
    follow: bool,
    /// Whether the state was looked at, so that tasks that appear from now on have joined.
    begun: bool,
    /// Tasks whose log is read or was read. A task that the cluster forgets is taken off.
    taken: BTreeSet<TaskId>,
    /// Tasks whose log is being read.
    reading: BTreeSet<TaskId>,
    lacks: BTreeSet<String>,
    /// Whether the subject can have no further tasks.
    closed: bool,
    ended: bool,
}

impl Roll {
    pub(super) const fn new(of: LogsOf, follow: bool) -> Self {
        Self {
            of,
            follow,
            begun: false,
            taken: BTreeSet::new(),
            reading: BTreeSet::new(),
            lacks: BTreeSet::new(),
            closed: false,
            ended: false,
        }
    }

    /// Handles `input`, and adds what is to be done to `effects`.
    pub(super) fn handle(&mut self, input: Input<'_>, effects: &mut Vec<Effect>) {
        match input {
            Input::Look(state) => self.look(state, effects),
            Input::Happened(state, events) => {
                let mut concerns = false;
                for event in events {
                    match event {
                        Event::Task { old: Some(old), new: None } => {
                            concerns |= self.taken.remove(&old.id);
                        }
                        Event::Task { new: Some(task), .. } => concerns |= self.concerns(task),
                        Event::Service { old: Some(old), new: None } => {
                            concerns |= self.of == LogsOf::Service(old.id);
                        }
                        _ => (),
                    }
                }
                if concerns {
                    self.look(state, effects);
                }
            }
            Input::Read { task, lacks } => {
                self.reading.remove(&task);
                self.lacks.extend(lacks);
            }
            Input::Close => self.closed = true,
        }
        if self.closed && self.reading.is_empty() && !self.ended {
            self.ended = true;
            effects.push(Effect::End { lacks: std::mem::take(&mut self.lacks).into_iter().collect() });
        }
    }

    fn concerns(&self, task: &Task) -> bool {
        match self.of {
            LogsOf::Service(service) => task.service == service,
            LogsOf::Task(id) => task.id == id,
        }
    }

    fn look(&mut self, state: &State, effects: &mut Vec<Effect>) {
        if !self.closed {
            match self.of {
                LogsOf::Service(service) => {
                    for task in state.tasks_of(service) {
                        self.take(task, effects);
                    }
                    self.closed = state.service(service).is_none();
                }
                LogsOf::Task(id) => {
                    let task = state.task(id);
                    if let Some(task) = task {
                        self.take(task, effects);
                    }
                    // A task without a node has nothing to read yet.
                    self.closed = self.taken.contains(&id) || task.is_none_or(|task| task.has_ended());
                }
            }
        }
        self.closed |= !self.follow;
        self.begun = true;
    }

    fn take(&mut self, task: &Arc<Task>, effects: &mut Vec<Effect>) {
        if let Some(node) = task.node()
            && self.taken.insert(task.id)
        {
            self.reading.insert(task.id);
            effects.push(Effect::Read { task: task.id, node, joined: self.begun });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::fixtures::{self, founding, service, worker};
    use essaim_model::{Assigned, Change, Observed, Slot, TaskState};
    use essaim_wire::Timestamp;

    const WEB: ServiceId = ServiceId::from_bits(100);

    /// A cluster with the service `web`, a worker 2, and a roll.
    struct World {
        state: State,
        roll: Roll,
    }

    impl World {
        fn new(of: LogsOf, follow: bool) -> Self {
            let mut world = Self { state: State::default(), roll: Roll::new(of, follow) };
            world.apply(Change::Found(Box::new(founding())));
            world.apply(Change::AcceptNode(Box::new(worker(2))));
            world.apply(Change::CreateService { id: WEB, spec: Box::new(service("web", 3)) });
            world
        }

        fn apply(&mut self, change: Change) -> Vec<Event> {
            fixtures::done(&mut self.state, Timestamp::default(), vec![change])
        }

        /// Applies a change, and returns what the roll asks for.
        fn happens(&mut self, change: Change) -> Vec<Effect> {
            let events = self.apply(change);
            let mut effects = Vec::new();
            self.roll.handle(Input::Happened(&self.state, &events), &mut effects);
            effects
        }

        fn looks(&mut self) -> Vec<Effect> {
            let mut effects = Vec::new();
            self.roll.handle(Input::Look(&self.state), &mut effects);
            effects
        }

        fn is_read(&mut self, task: u128, lacks: Option<&str>) -> Vec<Effect> {
            let mut effects = Vec::new();
            let lacks = lacks.map(ToOwned::to_owned);
            self.roll.handle(Input::Read { task: TaskId::from_bits(task), lacks }, &mut effects);
            effects
        }

        fn task(&self, id: u128, assigned: Assigned) -> Change {
            let spec_version = self.state.service(WEB).expect("there").spec_version;
            let task = fixtures::task(TaskId::from_bits(id), WEB, spec_version, NODE);
            let slot = Slot::Number(u32::try_from(id).expect("small"));
            Change::CreateTask(Box::new(Task { slot, assigned, ..task }))
        }
    }

    const NODE: NodeId = NodeId::from_bits(2);

    fn read(task: u128, joined: bool) -> Effect {
        Effect::Read { task: TaskId::from_bits(task), node: NODE, joined }
    }

    fn end(lacks: &[&str]) -> Effect {
        Effect::End { lacks: lacks.iter().map(|why| (*why).to_owned()).collect() }
    }

    #[test]
    fn without_following_the_tasks_of_the_moment_are_read_and_what_is_missing_is_said_once() {
        let mut world = World::new(LogsOf::Service(WEB), false);
        for id in [1, 2] {
            world.apply(world.task(id, Assigned::Node(NODE)));
        }
        world.apply(world.task(3, Assigned::Pending { reason: "full".into() }));
        assert_eq!(world.looks(), [read(1, false), read(2, false)]);
        assert_eq!(world.is_read(1, Some("node n2 is away")), []);
        assert_eq!(world.is_read(2, Some("node n2 is away")), [end(&["node n2 is away"])]);
        let mut idle = World::new(LogsOf::Service(WEB), false);
        assert_eq!(idle.looks(), [end(&[])]);
    }

    #[test]
    fn a_followed_service_goes_on_until_it_is_removed_and_its_tasks_are_read() {
        let mut world = World::new(LogsOf::Service(WEB), true);
        assert_eq!(world.looks(), []);
        assert_eq!(world.happens(world.task(1, Assigned::Node(NODE))), [read(1, true)]);
        assert_eq!(world.is_read(1, None), [], "another task may come");
        assert_eq!(world.happens(world.task(2, Assigned::Node(NODE))), [read(2, true)]);
        assert_eq!(world.looks(), [], "each is read once");
        assert_eq!(world.happens(Change::RemoveService { id: WEB }), []);
        assert_eq!(world.is_read(2, None), [end(&[])]);
    }

    #[test]
    fn a_task_that_waits_for_a_node_is_read_when_it_has_one() {
        let task = TaskId::from_bits(1);
        let mut world = World::new(LogsOf::Task(task), true);
        world.apply(world.task(1, Assigned::Pending { reason: "full".into() }));
        assert_eq!(world.looks(), []);
        let spec_version = world.state.service(WEB).expect("there").spec_version;
        assert_eq!(
            world.happens(Change::AssignTask { id: task, node: NODE, spec_version, generic: Default::default() }),
            [read(1, true)]
        );
        assert_eq!(world.is_read(1, None), [end(&[])], "it has no second life");
        let mut gone = World::new(LogsOf::Task(TaskId::from_bits(9)), true);
        assert_eq!(gone.looks(), [end(&[])]);
    }

    #[test]
    fn a_closed_roll_ends_with_its_last_task() {
        let mut world = World::new(LogsOf::Service(WEB), true);
        world.apply(world.task(1, Assigned::Node(NODE)));
        assert_eq!(world.looks(), [read(1, false)]);
        let mut effects = Vec::new();
        world.roll.handle(Input::Close, &mut effects);
        assert_eq!(effects, []);
        assert_eq!(world.happens(world.task(2, Assigned::Node(NODE))), []);
        assert_eq!(world.is_read(1, None), [end(&[])]);
    }

    #[test]
    fn a_task_that_the_cluster_forgets_takes_no_room() {
        let mut world = World::new(LogsOf::Service(WEB), true);
        world.apply(world.task(1, Assigned::Node(NODE)));
        world.looks();
        let task = TaskId::from_bits(1);
        let observed = |state| {
            let seen = Observed { state, ..Observed::nothing(Timestamp::default()) };
            Change::Observe { node: NODE, reports: vec![(task, seen)] }
        };
        world.happens(observed(TaskState::Accepted));
        world.happens(observed(TaskState::Shutdown));
        world.is_read(1, None);
        world.happens(Change::ForgetTask { id: task });
        assert!(world.roll.taken.is_empty());
    }
}
