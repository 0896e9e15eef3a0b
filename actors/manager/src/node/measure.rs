//! Measures what a manager has to tell many linked nodes, without links: for benchmarks, in which ten thousand nodes
//! would be ten thousand processes.

use super::core::{Core, Effect, Input};
use essaim_model::{NodeDescription, State};
use essaim_protocol::Hello;
use essaim_wire::{Generation, Level, encoded_len};

/// The cores of all nodes that are linked to one manager.
#[derive(Debug)]
pub struct LinkedNodes(Vec<Core>);

impl LinkedNodes {
    /// Links every node of the state, after its hello.
    pub fn of(state: &State) -> Self {
        let hello = Hello {
            generation: Generation(1),
            have: None,
            specs: Vec::new(),
            seen: None,
            description: NodeDescription::default(),
            availability: None,
            level: Level::NEWEST,
        };
        let link = |node: &std::sync::Arc<essaim_model::Node>| {
            let mut core = Core::new(node.id);
            core.handle(state, Input::Hello(&hello), &mut Vec::new());
            core
        };
        Self(state.nodes().map(link).collect())
    }

    /// Marks every node after a change of the state. Returns the bytes that are sent to all of them.
    pub fn applied(&mut self, state: &State) -> usize {
        let mut effects = Vec::new();
        let mut bytes = 0;
        for core in &mut self.0 {
            core.handle(state, Input::Applied, &mut effects);
            let said = effects.drain(..).map(|effect| match effect {
                Effect::Assign(assignment) => encoded_len(&assignment),
                Effect::Managers(managers) => encoded_len(&managers),
                Effect::Role(said) => encoded_len(&said),
            });
            bytes += said.sum::<usize>();
        }
        bytes
    }
}
