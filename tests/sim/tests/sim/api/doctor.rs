//! `GET /essaim/v1/doctor` on simulated clusters: what a manager finds out about other nodes, and what a worker tells.

use super::real::tell;
use super::stage::Client;
use essaim::testkit::{Cluster, Fault};
use serde_json::Value;
use std::time::Duration;

/// The findings of a node's doctor that are not well, a line each.
async fn wrong(cluster: &Cluster, number: u16) -> Result<Vec<String>, String> {
    let client = Client::on(&format!("n{number}"), &cluster.node(number)?);
    let told = client.get("/essaim/v1/doctor").await.json();
    let word = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let all = told["findings"].as_array().cloned().unwrap_or_default();
    let line = |it: &Value| {
        let [verdict, code, node, found] = ["verdict", "code", "node", "found"].map(|key| word(it, key));
        format!("{verdict} {code} {node}: {found}")
    };
    Ok(all.iter().filter(|it| it["verdict"] != "ok").map(line).collect())
}

#[test]
fn a_manager_finds_a_clock_that_differs_an_engine_that_hangs_and_nodes_that_are_gone() {
    tell(51, 4, 3, async |cluster| {
        assert_eq!(wrong(cluster, 1).await?, Vec::<String>::new());
        cluster.strike(Fault::ClockJump(4, 3)).await?;
        let found = wrong(cluster, 1).await?;
        assert!(matches!(found.as_slice(), [one] if one.starts_with("warn D205 n4: 300")), "{found:?}");
        cluster.strike(Fault::EngineHangsAsAWhole(2)).await?;
        let found = wrong(cluster, 1).await?;
        let hangs = "fail D101 n2: the process engine does not answer: no answer within 1500 ms";
        assert_eq!(found.first().map(String::as_str), Some(hangs), "{found:?}");
        cluster.mend().await?;
        cluster.pass(Duration::from_secs(10)).await?;
        assert_eq!(wrong(cluster, 1).await?, Vec::<String>::new());
        cluster.strike(Fault::Crash(4)).await?;
        cluster.pass(Duration::from_secs(10)).await?;
        let found = wrong(cluster, 1).await?;
        assert!(found.iter().any(|line| line.starts_with("fail D202 n4: down")), "{found:?}");
        cluster.mend().await?;
        cluster.pass(Duration::from_secs(10)).await?;
        for number in [2, 3] {
            cluster.strike(Fault::Crash(number)).await?;
        }
        cluster.pass(Duration::from_secs(10)).await?;
        let found = wrong(cluster, 1).await?;
        let quorum = found.iter().find(|line| line.starts_with("fail D201 :"));
        let words = quorum.ok_or_else(|| format!("the quorum is lost: {found:?}"))?;
        assert!(words.contains("n2 (") && words.contains("n3 ("), "{words}");
        // A worker tells of itself, and of the manager that it lacks or has.
        let found = wrong(cluster, 4).await?;
        assert!(found.iter().all(|line| line.starts_with("fail D100 n4: no manager leads this worker")), "{found:?}");
        cluster.mend().await?;
        Ok(())
    });
}
