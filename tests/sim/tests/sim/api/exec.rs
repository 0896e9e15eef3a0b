//! Programs inside tasks, from any manager, while nodes and managers fail.

use super::real::tell;
use essaim::testkit::{Cluster, Fault};
use essaim_manager::control::{Executing, Execution};
use essaim_model::{Task, TaskId};
use essaim_protocol::{ExecEnd, ExecRequest, FromExec, TerminalSize, ToExec};
use std::sync::Arc;
use std::time::Duration;

fn request(task: TaskId, command: &[&str]) -> ExecRequest {
    ExecRequest {
        task,
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        env: Vec::new(),
        dir: None,
        user: None,
        tty: false,
        input: true,
        size: None,
    }
}

/// The first running task on this machine.
fn task_on(cluster: &mut Cluster, number: u16) -> Result<Arc<Task>, String> {
    let running = cluster.run().world.machine(number).running();
    let task = *running.first().ok_or("it runs some")?;
    cluster.control()?.last_known().task(task).cloned().ok_or_else(|| format!("task {task} is known"))
}

/// Executes a program, asked at this manager.
async fn exec(cluster: &Cluster, asked: u16, task: &Task, command: &[&str]) -> Result<Executing, String> {
    let control = cluster.node(asked)?.control().map_err(|why| why.to_string())?;
    control.exec(task, &request(task.id, command)).await.map_err(|why| why.to_string())
}

async fn started(cluster: &Cluster, asked: u16, task: &Task, command: &[&str]) -> Result<Execution, String> {
    match exec(cluster, asked, task, command).await? {
        Executing::Started(execution) => Ok(execution),
        Executing::Not(end) => Err(format!("not started: {end:?}")),
    }
}

/// Everything that the program wrote, and how it ended.
async fn to_end(execution: &mut Execution) -> Result<(String, ExecEnd), String> {
    let mut said = String::new();
    loop {
        match execution.recv.expect_value::<FromExec>().await.map_err(|why| why.to_string())? {
            FromExec::Started => return Err("it started twice".into()),
            FromExec::Output(_, bytes) => said += &String::from_utf8_lossy(&bytes),
            FromExec::End(end) => return Ok((said, end)),
        }
    }
}

async fn say(execution: &mut Execution, what: ToExec) -> Result<(), String> {
    execution.send.send_value(&what).await.map_err(|why| why.to_string())
}

#[test]
fn a_program_runs_inside_a_task_of_any_node_from_any_manager() {
    tell(61, 4, 3, async |cluster| {
        for on in 1..=4 {
            let task = task_on(cluster, on)?;
            for asked in 1..=3 {
                let mut program = started(cluster, asked, &task, &["echo", "hello", "you"]).await?;
                assert_eq!(to_end(&mut program).await?, ("hello you\n".into(), ExecEnd::Exited(0)));
                let mut program = started(cluster, asked, &task, &["exit", "42"]).await?;
                assert_eq!(to_end(&mut program).await?, (String::new(), ExecEnd::Exited(42)));
                let mut program = started(cluster, asked, &task, &["cat"]).await?;
                say(&mut program, ToExec::Input(b"typed".to_vec())).await?;
                say(&mut program, ToExec::InputEnd).await?;
                assert_eq!(to_end(&mut program).await?, ("typed".into(), ExecEnd::Exited(0)));
                let mut program = started(cluster, asked, &task, &["tty"]).await?;
                say(&mut program, ToExec::Resize(TerminalSize { rows: 20, columns: 100 })).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
                say(&mut program, ToExec::Signal(2)).await?;
                assert_eq!(to_end(&mut program).await?, ("no size\n20x100\n".into(), ExecEnd::Exited(130)));
                match exec(cluster, asked, &task, &["no-such-program"]).await? {
                    Executing::Not(ExecEnd::NotStarted(127, why)) => assert!(why.contains("not found"), "{why}"),
                    _ => return Err("it does not exist".into()),
                }
            }
        }
        Ok(())
    });
}

#[test]
fn a_program_ends_with_its_client_with_its_task_and_with_its_node() {
    tell(62, 4, 3, async |cluster| {
        let task = task_on(cluster, 4)?;
        // Its client is gone: 64 of these would fill the node, if any were left.
        for command in ["sleep", "stubborn"] {
            for _ in 0..3 {
                let mut all = Vec::new();
                for asked in 1..=3 {
                    for _ in 0..21 {
                        all.push(started(cluster, asked, &task, &[command]).await?);
                    }
                }
                drop(all);
                cluster.pass(Duration::from_secs(12)).await?;
            }
        }
        // Its task is gone.
        let mut program = started(cluster, 1, &task, &["stubborn"]).await?;
        cluster.run().world.machine(4).exit(task.id, 3);
        assert_eq!(to_end(&mut program).await?.1, ExecEnd::Exited(137));
        cluster.settled().await?;
        // A task that has ended has no programs.
        let ended = cluster.control()?.last_known().task(task.id).cloned().ok_or("it is remembered")?;
        let refused = exec(cluster, 1, &ended, &["echo"]).await.map(|_| ()).unwrap_err();
        assert!(refused.contains("is not running: it is failed"), "{refused}");
        // Its node is lost.
        let task = task_on(cluster, 4)?;
        let mut program = started(cluster, 1, &task, &["sleep"]).await?;
        cluster.strike(Fault::Crash(4)).await?;
        cluster.pass(Duration::from_secs(30)).await?;
        assert!(to_end(&mut program).await.is_err());
        let refused = exec(cluster, 1, &task, &["echo"]).await.map(|_| ());
        assert!(refused.is_err(), "it is written off");
        Ok(())
    });
}

#[test]
fn a_node_executes_64_programs_at_most_and_32_for_one_manager() {
    tell(63, 4, 3, async |cluster| {
        let task = task_on(cluster, 4)?;
        let mut all = Vec::new();
        for _ in 0..32 {
            all.push(started(cluster, 1, &task, &["sleep"]).await?);
        }
        assert!(exec(cluster, 1, &task, &["sleep"]).await.is_err(), "a manager has 32 places");
        for _ in 0..32 {
            all.push(started(cluster, 2, &task, &["sleep"]).await?);
        }
        match exec(cluster, 3, &task, &["sleep"]).await? {
            Executing::Not(ExecEnd::Failed(why)) => assert!(why.starts_with("64 programs are being executed"), "{why}"),
            _ => return Err("the node has 64 places".into()),
        }
        Ok(())
    });
}
