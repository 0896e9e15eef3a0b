//! Secrets over the API. What they share with configs is tested there.

use super::stage::{Stage, play};
use serde_json::{Value, json};

/// `s3cr3t` in base64.
const DATA: &str = "czNjcjN0";

#[test]
fn the_data_of_a_secret_are_shown_to_nobody() {
    play(async || {
        let stage = Stage::manager().await;
        let client = stage.client();
        let spec = json!({"Name": "key", "Labels": {"env": "test"}, "Data": DATA});
        let created = client.post("/v1.50/secrets/create", &spec).await;
        assert_eq!(created.status, 201, "{}", created.message());
        let id = created.json()["ID"].as_str().expect("an id").to_owned();
        let shown = json!({"Name": "key", "Labels": {"env": "test"}});
        assert_eq!(client.get("/secrets/key").await.json()["Spec"], shown);
        assert_eq!(client.get("/secrets").await.json()[0]["Spec"], shown);

        let version = client.get("/secrets/key").await.json()["Version"]["Index"].clone();
        let path = format!("/secrets/{id}/update?version={version}");
        let relabelled = client.post(&path, &json!({"Name": "key", "Labels": {"env": "live"}})).await;
        assert_eq!(relabelled.status, 200, "{}", relabelled.message());
        let version = client.get("/secrets/key").await.json()["Version"]["Index"].clone();
        let path = format!("/secrets/{id}/update?version={version}");
        let refused = client.post(&path, &json!({"Name": "key", "Labels": {}, "Data": "b3RoZXI="})).await;
        assert_eq!((refused.status, refused.message().as_str()), (400, "only updates to Labels are allowed"));

        assert_eq!(client.send("DELETE", "/secrets/key", None).await.status, 204);
        let until = stage.node().scope().utc().as_micros() / 1_000_000 + 1;
        let path = format!(r#"/events?since=1&until={until}&filters={{"type":{{"secret":true}}}}"#);
        let body = client.get(&path).await.body.clone();
        let told: Vec<Value> = String::from_utf8_lossy(&body)
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect();
        assert_eq!(told.iter().map(|it| it["Action"].clone()).collect::<Vec<_>>(), ["create", "update", "remove"]);
        assert!(told.iter().all(|it| it["Actor"] == json!({"ID": id, "Attributes": {"name": "key"}})), "{told:?}");
    });
}

#[test]
fn what_a_secret_cannot_be_is_refused_by_its_flag_or_in_swarms_words() {
    play(async || {
        let stage = Stage::manager().await;
        let client = stage.client();
        for (field, flag) in [("Driver", "--driver"), ("Templating", "--template-driver")] {
            let refused =
                client.post("/secrets/create", &json!({"Name": "x", "Data": DATA, field: {"Name": "y"}})).await;
            assert_eq!(refused.status, 501);
            assert!(refused.message().starts_with(&format!("{flag} is not supported")), "{}", refused.message());
        }
        for data in [String::new(), "AAAA".repeat(500 * 1024 / 3 + 1)] {
            let refused = client.post("/secrets/create", &json!({"Name": "x", "Data": data})).await;
            let words = "secret data must be larger than 0 and less than 512000 bytes";
            assert_eq!((refused.status, refused.message().as_str()), (400, words));
        }
    });
}

#[test]
fn a_rotation_moves_the_services_that_use_the_secret_and_keeps_the_former_version_for_their_rollback() {
    play(async || {
        let stage = Stage::manager().await;
        let client = stage.client();
        let created = client.post("/secrets/create", &json!({"Name": "key", "Data": DATA})).await.json();
        let first = created["ID"].as_str().expect("an id").to_owned();
        let file = json!({"Name": "key", "UID": "0", "GID": "0", "Mode": 292});
        let reference = json!({"SecretID": first, "SecretName": "key", "File": file});
        let container = json!({"Image": "sleep", "Secrets": [reference]});
        let spec = json!({"Name": "web", "TaskTemplate": {"ContainerSpec": container}, "Mode": {"Replicated": {"Replicas": 1}}});
        let created = client.post("/services/create", &spec).await;
        assert_eq!(created.status, 201, "{}", created.message());

        let rotated = client.post("/essaim/v1/secrets/key/rotate", &json!({"Data": "b3RoZXI="})).await;
        assert_eq!(rotated.status, 200, "{}", rotated.message());
        let rotated = rotated.json();
        assert_eq!((&rotated["Services"], &rotated["Jobs"]), (&json!(["web"]), &json!([])));
        let used = || async {
            let shown = client.get("/services/web").await.json();
            shown["Spec"]["TaskTemplate"]["ContainerSpec"]["Secrets"][0].clone()
        };
        assert_eq!(used().await["SecretID"], rotated["ID"]);
        let message = client.get("/services/web").await.json()["UpdateStatus"]["Message"].clone();
        assert_eq!(message, "update in progress: secret key was rotated");
        let names = client.get("/secrets").await.json();
        let names: Vec<_> = names.as_array().expect("a list").iter().map(|it| it["Spec"]["Name"].clone()).collect();
        assert_eq!(names.len(), 2);
        assert!(names.iter().any(|name| name.as_str().is_some_and(|name| name.starts_with("key@"))), "{names:?}");

        let version = client.get("/services/web").await.json()["Version"]["Index"].clone();
        let path = format!("/services/web/update?version={version}&rollback=previous");
        assert_eq!(client.post(&path, &spec).await.status, 200);
        assert_eq!((&used().await["SecretID"], &used().await["SecretName"]), (&json!(first), &json!("key")));

        let refused = client.post("/essaim/v1/secrets/none/rotate", &json!({"Data": "b3RoZXI="})).await;
        assert_eq!((refused.status, refused.message().as_str()), (404, "secret none not found"));
        let refused = client.post(&format!("/essaim/v1/secrets/{first}/rotate"), &json!({"Data": "b3RoZXI="})).await;
        assert!(refused.message().contains("is a former version of key"), "{}", refused.message());
    });
}

#[test]
fn a_rotation_to_the_same_data_makes_no_version_and_moves_no_service() {
    play(async || {
        let stage = Stage::manager().await;
        let client = stage.client();
        let created = client.post("/secrets/create", &json!({"Name": "key", "Data": DATA})).await.json();
        let first = created["ID"].as_str().expect("an id").to_owned();
        let reference = json!({"SecretID": first, "SecretName": "key", "File": {"Name": "key", "UID": "0", "GID": "0", "Mode": 292}});
        let container = json!({"Image": "sleep", "Secrets": [reference]});
        let spec = json!({"Name": "web", "TaskTemplate": {"ContainerSpec": container}, "Mode": {"Replicated": {"Replicas": 1}}});
        assert_eq!(client.post("/services/create", &spec).await.status, 201);
        let rotate = async |data: &str| client.post("/essaim/v1/secrets/key/rotate", &json!({"Data": data})).await;
        let same = rotate(DATA).await;
        assert_eq!(same.status, 200, "{}", same.message());
        assert_eq!(same.json(), json!({"ID": first, "Unchanged": true, "Services": [], "Jobs": []}));
        assert_eq!(client.get("/services/web").await.json()["UpdateStatus"], Value::Null);
        assert_eq!(client.get("/secrets").await.json().as_array().map(Vec::len), Some(1));

        // A service that was rolled back is named, because it stays where it is.
        assert_eq!(rotate("b3RoZXI=").await.json()["Services"], json!(["web"]));
        let version = client.get("/services/web").await.json()["Version"]["Index"].clone();
        let path = format!("/services/web/update?version={version}&rollback=previous");
        assert_eq!(client.post(&path, &spec).await.status, 200);
        assert_eq!(rotate("b3RoZXI=").await.json()["Behind"], json!(["web"]));
        let refused = client.post(&format!("/essaim/v1/secrets/{first}/rotate"), &json!({"Data": DATA})).await;
        assert!(refused.message().contains("is a former version of key"), "{}", refused.message());
    });
}
