//! The log server's actor.
//!
//! Parent: `worker`. Children: none; each reader is served by a tokio task of the endpoint.
//! Hears: nothing.
//! Says: log lines, to peers that ask on the `logs` lane.
//! Dies: with the worker; the lane is not served then.

use super::LogServer;
use essaim_presence::endpoint::Endpoint;
use essaim_transport::Lane;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use std::sync::Arc;

/// Messages to the log server: none.
#[derive(RactorMessage)]
pub(crate) enum LogsMsg {}

/// Start arguments of the log server's actor.
#[derive(Clone)]
pub(crate) struct LogsArgs {
    pub(crate) server: LogServer,
    /// Endpoint on which the lane is served.
    pub(crate) endpoint: Option<Endpoint>,
}

/// The log server's actor.
pub(crate) struct Logs;

impl Actor for Logs {
    type Msg = LogsMsg;
    type State = LogsArgs;
    type Arguments = LogsArgs;

    async fn pre_start(&self, _: ActorRef<LogsMsg>, args: LogsArgs) -> Result<LogsArgs, ActorProcessingErr> {
        if let Some(endpoint) = &args.endpoint {
            endpoint.serve(Lane::Logs, Arc::new(args.server.clone()));
        }
        Ok(args)
    }

    async fn post_stop(&self, _: ActorRef<LogsMsg>, args: &mut LogsArgs) -> Result<(), ActorProcessingErr> {
        if let Some(endpoint) = &args.endpoint {
            endpoint.unserve(Lane::Logs);
        }
        Ok(())
    }
}
