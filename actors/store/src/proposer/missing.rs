//! Which voters are missing: each of them is asked once whether it is there.

use crate::error::{Missing, NoQuorum};
use crate::format::lane::{Ask, Forward, LeaderReply};
use crate::store::Store;
use essaim_transport::Lane;
use essaim_wire::NodeId;
use futures::future::join_all;
use std::time::Duration;

/// Time that a voter may take to answer a ping.
pub(crate) const PING: Duration = Duration::from_millis(250);

impl Store {
    /// Pings every voter, and names those that do not answer.
    pub(crate) async fn find_missing(&self) -> NoQuorum {
        let voters: Vec<NodeId> = self.voters().into_iter().map(|(_, node)| node).collect();
        let asked = voters.iter().filter(|node| **node != self.node()).map(|node| async {
            let told = tokio::time::timeout(PING, self.ask_once(*node, Ask::Ping)).await;
            (*node, matches!(told, Ok(Some(LeaderReply::Here { .. }))))
        });
        let state = self.state();
        let missing = join_all(asked).await.into_iter().filter(|(_, here)| !here).map(|(node, _)| Missing {
            node,
            name: state.node(node).map_or_else(|| node.to_string(), |node| node.name()),
        });
        NoQuorum { voters: voters.len(), missing: missing.collect() }
    }

    /// Asks a manager once, and takes the first reply.
    async fn ask_once(&self, node: NodeId, ask: Ask) -> Option<LeaderReply> {
        let mut pipe = self.peers().open(node, Lane::Propose).await.ok()?;
        pipe.send.send_value(&Forward { lineage: self.lineage(), ask }).await.ok()?;
        pipe.recv.recv_value().await.ok()?
    }
}
