//! Programs that an operator executes inside a task, at the node on which the task runs.

use super::Control;
use essaim_model::{Refusal, RefusalKind, Task};
use essaim_protocol::{ExecEnd, ExecRequest, FromExec};
use essaim_transport::{FrameReceiver, FrameSender, Lane, LaneStream};
use std::time::Duration;

/// Upper bound on the wait until the node has opened the lane, and until it has started the program: a container
/// engine under load takes seconds.
const OPEN_DEADLINE: Duration = Duration::from_secs(5);
const START_DEADLINE: Duration = Duration::from_secs(30);

/// A program that runs inside a task. Dropping it hangs the program up.
pub struct Execution {
    /// Sends `ToExec`: input, signals and sizes.
    pub send: FrameSender,
    /// Receives `FromExec`: output, and how the program ended.
    pub recv: FrameReceiver,
}

/// The answer to a request to execute a program.
pub enum Executing {
    /// The program runs.
    Started(Execution),
    /// The program was not started.
    Not(ExecEnd),
}

impl Control {
    /// Executes a program inside a task.
    pub async fn exec(&self, task: &Task, request: &ExecRequest) -> Result<Executing, Refusal> {
        let Some(node) = task.node().filter(|_| task.is_running()) else {
            let text = format!("task {} is not running: it is {}", task.id, task.observed.state.as_str());
            return Err(Refusal::new(RefusalKind::Precondition, text));
        };
        let name = self.last_known().node(node).map_or_else(|| node.to_string(), |node| node.name());
        let failed = |why: String| Refusal::new(RefusalKind::Unknown, format!("node {name} is not available: {why}"));
        let open = tokio::time::timeout(OPEN_DEADLINE, self.endpoint.lane(node, Lane::Exec)).await;
        let stream = open.map_err(|_| failed("it did not answer in time".into()))?;
        let LaneStream { mut send, mut recv, .. } = stream.map_err(|why| failed(why.to_string()))?;
        let first = async {
            send.send_value(request).await?;
            recv.expect_value::<FromExec>().await
        };
        let first = tokio::time::timeout(START_DEADLINE, first).await;
        match first.map_err(|_| failed("it did not start the program in time".into()))? {
            Ok(FromExec::Started) => Ok(Executing::Started(Execution { send, recv })),
            Ok(FromExec::End(end)) => Ok(Executing::Not(end)),
            Ok(FromExec::Output(..)) => Err(failed("it broke the protocol".into())),
            Err(why) => Err(failed(why.to_string())),
        }
    }
}

impl std::fmt::Debug for Execution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Execution")
    }
}
