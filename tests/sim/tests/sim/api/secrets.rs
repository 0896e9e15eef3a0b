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
