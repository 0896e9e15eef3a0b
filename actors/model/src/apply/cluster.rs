//! Changes of the cluster object itself: founding, settings, join secrets, lineage, level.

use super::Made;
use crate::cluster::TASK_HISTORY_MAX;
use crate::{Cluster, ClusterSpec, Event, Founding, ManagerStatus, Meta, Refusal, RefusalKind, ServiceSpec, State};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Index, Level, Lineage, NodeId, Role};
use std::sync::Arc;

impl State {
    pub(super) fn found(&mut self, founding: &Founding, events: &mut Vec<Event>) -> Made {
        if self.cluster.is_some() {
            return Err(Refusal::new(RefusalKind::AlreadyInCluster, "this log already belongs to a cluster"));
        }
        founding.cluster.spec.check()?;
        founding.cluster.pools.check()?;
        let mut cluster = founding.cluster.clone();
        cluster.meta = Meta::new(self.applied.index, self.at);
        let cluster = Arc::new(cluster);
        self.cluster = Some(Arc::clone(&cluster));
        events.push(Event::Cluster { old: None, new: cluster });
        self.accept_node(&founding.node, events)
    }

    pub(super) fn set_cluster(&mut self, expect: Index, spec: &ClusterSpec, events: &mut Vec<Event>) -> Made {
        if self.founded()?.meta.version != expect {
            return Err(Refusal::out_of_sequence());
        }
        spec.check()?;
        if usize::try_from(spec.task_history).is_ok_and(|kept| kept > TASK_HISTORY_MAX) {
            let text =
                format!("a slot keeps at most {TASK_HISTORY_MAX} ended tasks: the task history limit is too high");
            return Err(Refusal::invalid(text));
        }
        let now = self.at;
        self.change_cluster(events, |cluster| {
            if spec.certificate_expiry != cluster.spec.certificate_expiry {
                cluster.issued_until = cluster.certificates_expired_at(now);
            }
            cluster.spec = spec.clone();
        })
    }

    pub(super) fn rotate_join_secret(&mut self, role: Role, secret: [u8; 16], events: &mut Vec<Event>) -> Made {
        self.change_cluster(events, |cluster| match role {
            Role::Worker => cluster.join.worker = secret,
            Role::Manager => cluster.join.manager = secret,
        })
    }

    /// Begins a new lineage with `survivor` as its only manager. Every other manager is recorded as a worker; it must
    /// be enrolled again to take part in the new lineage.
    pub(super) fn begin_lineage(
        &mut self,
        lineage: Lineage,
        survivor: NodeId,
        raft_id: u64,
        events: &mut Vec<Event>,
    ) -> Made {
        if lineage <= self.founded()?.lineage {
            return Err(Refusal::new(RefusalKind::Precondition, "a newer history of this cluster has begun already"));
        }
        self.change_cluster(events, |cluster| cluster.lineage = lineage)?;
        let others: Vec<NodeId> = self.managers().map(|node| node.id).filter(|id| *id != survivor).collect();
        for id in others {
            self.change_node(id, true, events, |node| {
                node.role = Role::Worker;
                node.spec.role = Role::Worker;
                node.manager = None;
            })?;
        }
        self.change_node(survivor, true, events, |node| {
            node.role = Role::Manager;
            node.spec.role = Role::Manager;
            node.manager = Some(ManagerStatus { raft_id, voter: true });
        })
    }

    pub(super) fn raise_level(&mut self, level: Level, events: &mut Vec<Event>) -> Made {
        if level <= self.level() {
            return Ok(());
        }
        if self.readers().any(|node| node.level < level) && !planted(Bug::LevelOfTheFirstManager) {
            return Err(self.too_new(level));
        }
        let before = self.level();
        self.change_cluster(events, |cluster| cluster.level = level)?;
        if before < ServiceSpec::STICKY_LEVEL {
            self.find_homes();
        }
        Ok(())
    }

    fn founded(&self) -> Result<&Arc<Cluster>, Refusal> {
        self.cluster.as_ref().ok_or_else(|| Refusal::new(RefusalKind::NotManager, "there is no cluster yet"))
    }

    fn change_cluster(&mut self, events: &mut Vec<Event>, change: impl FnOnce(&mut Cluster)) -> Made {
        let old = Arc::clone(self.founded()?);
        let mut new = (*old).clone();
        change(&mut new);
        if new != *old {
            new.meta.touch(self.applied.index, self.at);
            let new = Arc::new(new);
            self.cluster = Some(Arc::clone(&new));
            events.push(Event::Cluster { old: Some(old), new });
        }
        Ok(())
    }
}
