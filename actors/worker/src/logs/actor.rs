//! The actor of the log server.
//!
//! Parent: `worker`. Children: none; each reader is served by a task of the endpoint's.
//! Hears: nothing. Says: lines, to whoever asks on the `logs` lane.
//! Dies: with the worker; nobody serves the lane then.

use super::LogServer;
use essaim_presence::endpoint::Endpoint;
use essaim_transport::Lane;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use std::sync::Arc;

/// The log server hears nothing.
#[derive(RactorMessage)]
pub(crate) enum LogsMsg {}

/// What it starts with.
#[derive(Clone)]
pub(crate) struct LogsArgs {
    pub(crate) server: LogServer,
    /// Where the lane is served.
    pub(crate) endpoint: Option<Endpoint>,
}

/// The actor.
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
