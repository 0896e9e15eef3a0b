//! Jobs over the API: iterations, counts, and what a job cannot have.

use super::stage::{NOW, SELF, Stage, play};
use essaim_model::{Change, Desired, Observed, ServiceId, Slot, Task, TaskId, TaskState, fixtures};
use serde_json::{Value, json};

fn wish(mode: Value) -> Value {
    json!({
        "Name": "job",
        "TaskTemplate": {"ContainerSpec": {"Image": "sleep:latest", "Args": ["1"], "Init": false, "DNSConfig": {}}},
        "Mode": mode,
        "EndpointSpec": {"Mode": "vip"}
    })
}

async fn put_task(stage: &Stage, service: ServiceId, number: u32, state: TaskState) {
    let spec_version = stage.state().service(service).expect("created").spec_version;
    let task = Task {
        slot: Slot::Number(number),
        desired: if state == TaskState::Failed { Desired::Shutdown } else { Desired::Running },
        observed: Observed { state, ..Observed::nothing(NOW) },
        ..fixtures::task(TaskId::from_bits(1000 + u128::from(number)), service, spec_version, SELF)
    };
    stage.change(Change::CreateTask(Box::new(task))).await;
}

#[test]
fn a_jobs_iteration_and_counts_are_dockers() {
    play(async || {
        let stage = Stage::manager().await;
        let client = stage.client();
        let asked = wish(json!({"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 5}}));
        let created = client.post("/services/create", &asked).await;
        assert_eq!(created.status, 201, "{}", created.message());
        let id: ServiceId = created.json()["ID"].as_str().expect("an id").parse().expect("ours");
        for (number, state) in [(1, TaskState::Complete), (2, TaskState::Running), (3, TaskState::Failed)] {
            put_task(&stage, id, number, state).await;
        }
        let counts = async || client.get("/services?status=true").await.json()[0]["ServiceStatus"].clone();
        assert_eq!(counts().await, json!({"RunningTasks": 1, "DesiredTasks": 2, "CompletedTasks": 1}));
        let shown = client.get(&format!("/services/{id}")).await.json();
        assert_eq!(shown["JobStatus"]["JobIteration"], json!({}));
        assert!(shown["JobStatus"]["LastExecution"].is_string(), "{shown}");
        assert_eq!(shown.get("UpdateStatus"), None);
        let mut tasks = client.get("/tasks").await.json().as_array().expect("a list").clone();
        tasks.sort_by_key(|task| task["Slot"].as_u64());
        let desired: Vec<_> = tasks.iter().filter_map(|task| task["DesiredState"].as_str()).collect();
        assert_eq!(desired, ["complete", "complete", "shutdown"]);
        assert!(tasks.iter().all(|task| task["JobIteration"] == json!({})));

        let version = shown["Version"]["Index"].as_u64().expect("a version");
        let updated = client.post(&format!("/services/{id}/update?version={version}"), &asked).await;
        assert_eq!(updated.status, 200, "{}", updated.message());
        let shown = client.get(&format!("/services/{id}")).await.json();
        assert_eq!(shown["JobStatus"]["JobIteration"], json!({"Index": 1}));
        assert_eq!(counts().await, json!({"RunningTasks": 0, "DesiredTasks": 2, "CompletedTasks": 0}));
        let current = client.get("/tasks?filters={\"_up-to-date\":[\"true\"]}").await.json();
        assert_eq!(current, json!([]), "the tasks belong to an earlier iteration");
    });
}

#[test]
fn a_job_with_an_update_config_is_refused_in_swarms_words() {
    play(async || {
        let client = Stage::manager().await.client();
        let mut asked = wish(json!({"GlobalJob": {}}));
        asked["UpdateConfig"] = json!({"Parallelism": 1});
        let reply = client.post("/services/create", &asked).await;
        assert_eq!((reply.status, reply.message()), (400, "Jobs may not have an update config".into()));
    });
}
