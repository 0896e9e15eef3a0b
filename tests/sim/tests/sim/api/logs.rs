//! Logs of a cluster while it changes: every line comes once, and a node that does not answer is named.

use super::real::tell;
use super::stage::Client;
use super::streams::frames;
use essaim::testkit::{Cluster, Fault};
use essaim_model::TaskId;
use essaim_worker::engine::LogStream;
use std::collections::BTreeMap;
use std::time::Duration;

/// Lines by the task that wrote them, without notices of the daemon; and the daemon's own error at the end, if any.
type Got = (BTreeMap<String, Vec<String>>, Option<String>);

fn by_task(body: &[u8]) -> Got {
    let (mut lines, mut error) = (BTreeMap::<String, Vec<String>>::new(), None);
    for (stream, text) in frames(body) {
        assert_eq!(error, None, "an error is the last frame, since clients stop there");
        if stream == 3 {
            error = Some(text);
            continue;
        }
        let (details, line) = text.split_once(' ').expect("details come first");
        let task = details.rsplit_once("com.docker.swarm.task.id=").expect("the task is named").1;
        if !line.starts_with("essaim: ") {
            lines.entry(task.to_owned()).or_default().push(line.trim_end().to_owned());
        }
    }
    (lines, error)
}

/// Lets every running task write this line.
fn write_everywhere(cluster: &mut Cluster, nodes: u16, line: &str, written: &mut BTreeMap<String, Vec<String>>) {
    for number in 1..=nodes {
        let machine = cluster.run().world.machine(number).clone();
        for task in machine.running() {
            machine.write(task, LogStream::Stdout, line);
            written.entry(task.to_string()).or_insert_with(|| vec!["started".into()]).push(line.to_owned());
        }
    }
}

fn first_service(cluster: &Cluster) -> Result<String, String> {
    let state = cluster.control()?.last_known();
    state.services().next().map(|service| service.spec.name.to_string()).ok_or("there is a first service".into())
}

/// Seconds since 1970, by the clock of a node.
fn now(cluster: &Cluster, number: u16) -> Result<u64, String> {
    Ok(cluster.node(number)?.scope().utc().as_micros() / 1_000_000)
}

/// One follower at a manager that does not lead, while a worker's daemon is started again, the leader hands over, the
/// next leader's daemon is killed for a moment (its tasks are replaced, and the surplus ends), and the service grows.
#[test]
fn a_follower_gets_every_line_once_whatever_happens_to_the_cluster() {
    tell(51, 5, 3, async |cluster| {
        let name = first_service(cluster)?;
        let leader = cluster.run().world.leader().ok_or("somebody leads")?;
        let asked = (1..=3).find(|number| *number != leader).ok_or("three are managers")?;
        let client = Client::on("n", &cluster.node(asked)?);
        let until = now(cluster, asked)? + 60;
        let path = format!("/services/{name}/logs?stdout=1&stderr=1&details=1&follow=1&until={until}");
        let reading = tokio::spawn(async move { client.get(&path).await });
        let mut written = BTreeMap::new();
        for round in 0..60 {
            write_everywhere(cluster, 5, &round.to_string(), &mut written);
            match round {
                5 => cluster.strike(Fault::Restart(5)).await?,
                15 => cluster.strike(Fault::HandOver).await?,
                20 => {
                    let leader = cluster.run().world.leader().filter(|leader| *leader != asked);
                    cluster.strike(Fault::Crash(leader.unwrap_or(4))).await?;
                }
                30 => cluster.strike(Fault::Isolate(4)).await?,
                10 | 22 | 32 => cluster.mend().await?,
                40 => {
                    let service = Client::on("n", &cluster.node(asked)?).get(&format!("/services/{name}")).await.json();
                    let (version, mut spec) = (service["Version"]["Index"].clone(), service["Spec"].clone());
                    spec["Mode"]["Replicated"]["Replicas"] = 11.into();
                    let path = format!("/services/{name}/update?version={version}");
                    let updated = Client::on("n", &cluster.node(asked)?).post(&path, &spec).await;
                    assert_eq!(updated.status, 200, "{}", updated.message());
                }
                _ => (),
            }
            cluster.pass(Duration::from_millis(500)).await?;
        }
        let reply = loop {
            cluster.pass(Duration::from_secs(1)).await?;
            if reading.is_finished() {
                break reading.await.map_err(|why| why.to_string())?;
            }
        };
        let (got, error) = by_task(&reply.body);
        assert!(written.len() > 11, "some tasks were replaced: {written:?}");
        for (task, lines) in &written {
            assert_eq!(got.get(task), Some(lines), "task {task}");
        }
        assert_eq!(error, None);
        Ok(())
    });
}

#[test]
fn a_node_that_cannot_answer_is_named_in_the_last_frame_and_all_other_lines_come() {
    tell(52, 4, 3, async |cluster| {
        let name = first_service(cluster)?;
        let mut written = BTreeMap::new();
        write_everywhere(cluster, 4, "hello", &mut written);
        let lost: Vec<TaskId> = cluster.run().world.machine(4).running();
        assert!(!lost.is_empty());
        cluster.strike(Fault::Crash(4)).await?;
        cluster.pass(Duration::from_secs(10)).await?;
        for number in 1..=3 {
            let client = Client::on("n", &cluster.node(number)?);
            let reply = client.get(&format!("/services/{name}/logs?stdout=1&stderr=1&details=1")).await;
            let (got, error) = by_task(&reply.body);
            let expected = |task: &String| written.get(task).filter(|_| !lost.iter().any(|it| it.to_string() == *task));
            for task in written.keys() {
                assert_eq!(got.get(task), expected(task), "{task}");
            }
            let words = "Error grabbing logs: warning: incomplete log stream. some logs could not be retrieved for the \
                         following reasons: node n4 is not available (";
            assert!(error.as_ref().is_some_and(|error| error.starts_with(words)), "{error:?}");
        }
        Ok(())
    });
}
