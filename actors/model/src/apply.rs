//! Applying changes to a state: one function for each kind of change. Each refuses a change whose plan no longer fits
//! the state.
//!
//! A refusal discards the draft of the state, so a function may stop half-way. Nothing here reads a clock: the time is
//! that of the proposal.

mod cluster;
pub mod fit;
mod node;
mod object;
mod service;
mod task;

#[cfg(test)]
mod refusals;
#[cfg(test)]
pub(crate) mod tests;

use crate::{Change, Event, Outcome, Position, Proposal, Refusal, RefusalKind, State};
use essaim_wire::planted::{Bug, planted};

/// The result of one change: made, or the reason why the whole proposal is refused.
pub(crate) type Made = Result<(), Refusal>;

impl State {
    /// Applies a proposal at its position in the log.
    ///
    /// A proposal that was applied before changes nothing and has its former outcome. A proposal whose fence names
    /// another term is refused. Otherwise all of its changes are made, or none.
    pub fn apply(&mut self, position: Position, proposal: &Proposal) -> (Outcome, Vec<Event>) {
        self.applied = position;
        let window = self.requests.get(&proposal.request.origin);
        if let Some(outcome) = window.and_then(|window| window.find(proposal.request))
            && !planted(Bug::RequestAppliedTwice)
        {
            return (outcome, Vec::new());
        }
        let mut events = Vec::new();
        let void = proposal.fence.is_some_and(|term| term != position.term) && !planted(Bug::DroppedFence);
        let outcome = if void {
            let text = "the leader that decided this no longer leads";
            Outcome::Refused(Refusal::new(RefusalKind::Precondition, text))
        } else {
            let mut draft = self.clone();
            draft.at = draft.at.max(proposal.at);
            let made = self
                .check_level(&proposal.changes)
                .and_then(|()| proposal.changes.iter().try_for_each(|change| draft.make(change, &mut events)));
            match made {
                Ok(()) => {
                    // A spec that is no longer kept may have been the last that named a former secret or config.
                    if !draft.specs.ptr_eq(&self.specs) {
                        draft.drop_former_payloads(&mut events);
                    }
                    draft.end_quarantine();
                    *self = draft;
                    Outcome::Done(position.index)
                }
                Err(refusal) => {
                    events.clear();
                    Outcome::Refused(refusal)
                }
            }
        };
        self.requests.entry(proposal.request.origin).or_default().keep(proposal.request, outcome.clone());
        (outcome, events)
    }

    /// Makes one change of a proposal, or says why the whole proposal is refused.
    fn make(&mut self, change: &Change, events: &mut Vec<Event>) -> Made {
        match change {
            Change::Found(founding) => self.found(founding, events),
            Change::SetCluster { expect, spec } => self.set_cluster(*expect, spec, events),
            Change::RotateJoinSecret { role, secret } => self.rotate_join_secret(*role, *secret, events),
            Change::BeginLineage { lineage, survivor, raft_id } => {
                self.begin_lineage(*lineage, *survivor, *raft_id, events)
            }

            Change::AcceptNode(node) => self.accept_node(node, events),
            Change::DescribeNode { id, generation, addr, level, description } => {
                self.describe_node(*id, *generation, *addr, *level, description.as_ref(), events)
            }
            Change::SetNode { id, expect, spec } => self.set_node(*id, *expect, spec, events),
            Change::SetRole { id, role, manager } => self.set_role(*id, *role, *manager, events),
            Change::SetReachability { id, generation, reachability, message } => {
                self.set_reachability(*id, *generation, *reachability, message, events)
            }
            Change::SetSteadiness { id, unsteady } => self.set_steadiness(*id, *unsteady, events),
            Change::DepartNode { id, generation, left } => self.depart_node(*id, *generation, *left, events),
            Change::RemoveNode { id, until, force } => self.remove_node(*id, *until, *force, events),

            Change::CreateService { id, spec } => self.create_service(*id, spec, events),
            Change::UpdateService { id, expect, spec } => self.update_service(*id, *expect, spec.as_deref(), events),
            Change::RollBackService { id, to, cause } => self.roll_back_service(*id, *to, *cause, events),
            Change::RunJob { id, after } => self.run_job(*id, *after, events),
            Change::SetUpdateStatus { id, spec_version, status } => {
                self.set_update_status(*id, *spec_version, status, events)
            }
            Change::RemoveService { id } => self.remove_service(*id, events),

            Change::CreateTask(task) => self.create_task(task, events),
            Change::AssignTask { id, node, spec_version, generic } => {
                self.assign_task(*id, *node, *spec_version, generic, events)
            }
            Change::PendTask { id, reason } => self.pend_task(*id, reason, events),
            Change::SetDesired { id, desired } => self.set_desired(*id, *desired, events),
            Change::RejectTask { id } => self.reject_task(*id, events),
            Change::WriteOffTask { id, why } => self.write_off_task(*id, why, events),
            Change::Observe { node, reports } => {
                self.observe(*node, reports, events);
                Ok(())
            }
            Change::ForgetTask { id } => self.forget_task(*id, events),
            Change::CarryOutPlan { service, seen } => self.carry_out_plan(*service, *seen),
            Change::RaiseLevel(level) => self.raise_level(*level, events),

            Change::PutObject(put) => self.put_object(put, events),
            Change::RemoveObject(id) => self.remove_object(*id, events),
            Change::RotatePayload { from, to, data } => self.rotate_payload(*from, *to, data, events),
        }
    }
}
