//! Configs over the API, from creation to removal, as clients see them.

use super::stage::{Client, Stage, play};
use serde_json::{Value, json};

/// `<h1>hello</h1>` in base64.
const DATA: &str = "PGgxPmhlbGxvPC9oMT4=";

fn site() -> Value {
    json!({"Name": "site", "Labels": {"env": "test"}, "Data": DATA})
}

/// A manager with the config `site`, a client of it, and the config's id.
async fn with_site() -> (Stage, Client, String) {
    let stage = Stage::manager().await;
    let client = stage.client();
    let created = client.post("/v1.50/configs/create", &site()).await;
    assert_eq!(created.status, 201, "{}", created.message());
    let id = created.json()["ID"].as_str().expect("an id").to_owned();
    assert_eq!(created.json(), json!({"ID": id}));
    (stage, client, id)
}

#[test]
fn a_config_is_shown_as_it_was_given_and_found_by_name_id_and_the_beginning_of_one() {
    play(async || {
        let (_stage, client, id) = with_site().await;
        for text in ["site", &id, &id[..20]] {
            let shown = client.get(&format!("/configs/{text}")).await.json();
            assert_eq!((&shown["ID"], &shown["Spec"]), (&json!(id), &site()), "{text}");
            assert_eq!(shown["CreatedAt"], shown["UpdatedAt"]);
        }
        let missing = client.get("/configs/nope").await;
        assert_eq!((missing.status, missing.message().as_str()), (404, "config nope not found"));
    });
}

#[test]
fn a_list_of_configs_is_narrowed_by_id_name_and_label() {
    play(async || {
        let (_stage, client, id) = with_site().await;
        client.post("/configs/create", &json!({"Name": "side", "Data": DATA})).await;
        let names = async |filters: &str| {
            let reply = client.get(&format!("/configs?filters={filters}")).await;
            let list = reply.json().as_array().cloned().ok_or_else(|| reply.message())?;
            let mut names: Vec<_> =
                list.iter().map(|it| it["Spec"]["Name"].as_str().unwrap_or("").to_owned()).collect();
            names.sort();
            Ok::<_, String>(names.join(" "))
        };
        assert_eq!(names("").await, Ok("side site".into()));
        assert_eq!(names(r#"{"name":{"si":true}}"#).await, Ok("side site".into()));
        assert_eq!(names(r#"{"names":["si"]}"#).await, Ok(String::new()));
        assert_eq!(names(r#"{"names":["site"]}"#).await, Ok("site".into()));
        assert_eq!(names(r#"{"label":{"env=test":true}}"#).await, Ok("site".into()));
        assert_eq!(names(&format!(r#"{{"id":["{}"]}}"#, &id[..20])).await, Ok("site".into()));
        assert_eq!(names(r#"{"mode":["x"]}"#).await, Err("invalid filter 'mode'".into()));
    });
}

#[test]
fn only_the_labels_of_a_config_are_updated_and_only_from_its_version() {
    play(async || {
        let (_stage, client, _) = with_site().await;
        let version = client.get("/configs/site").await.json()["Version"]["Index"].clone();
        let path = format!("/configs/site/update?version={version}");
        let other = json!({"Name": "site", "Labels": {"env": "live"}, "Data": "AAAA"});
        let refused = client.post(&path, &other).await;
        assert_eq!((refused.status, refused.message().as_str()), (400, "only updates to Labels are allowed"));
        // `docker stack deploy` sends the data with an update of labels; a client may also leave the data out.
        for labels in [json!({"env": "live"}), json!({"env": "done"})] {
            let version = client.get("/configs/site").await.json()["Version"]["Index"].clone();
            let path = format!("/configs/site/update?version={version}");
            let body = if labels["env"] == "live" {
                json!({"Name": "site", "Labels": labels, "Data": DATA})
            } else {
                json!({"Name": "site", "Labels": labels})
            };
            let updated = client.post(&path, &body).await;
            assert_eq!(updated.status, 200, "{}", updated.message());
            let shown = client.get("/configs/site").await.json();
            assert_eq!(shown["Spec"], json!({"Name": "site", "Labels": labels, "Data": DATA}));
        }
        let stale = client.post(&path, &site()).await;
        assert_eq!((stale.status, stale.message().as_str()), (500, "update out of sequence"));
        let unsaid = client.post("/configs/site/update", &site()).await;
        assert!(unsaid.status == 400 && unsaid.message().starts_with("invalid config version"), "{}", unsaid.message());
    });
}

#[test]
fn a_config_is_removed_once_and_its_name_is_free_again() {
    play(async || {
        let (_stage, client, _) = with_site().await;
        let taken = client.post("/configs/create", &site()).await;
        assert_eq!((taken.status, taken.message().as_str()), (409, "config site already exists"));
        assert_eq!(client.send("DELETE", "/configs/site", None).await.status, 204);
        let gone = client.send("DELETE", "/configs/site", None).await;
        assert_eq!((gone.status, gone.message().as_str()), (404, "config site not found"));
        assert_eq!(client.post("/configs/create", &site()).await.status, 201);
    });
}

#[test]
fn the_largest_config_is_taken_and_a_larger_one_refused_in_words() {
    play(async || {
        let stage = Stage::manager().await;
        let client = stage.client();
        // Base64 has four letters for three bytes; with the two bytes at the end, the data is one byte shorter than the
        // limit.
        let largest = format!("{}AAA=", "AAAA".repeat((1000 * 1024 - 2) / 3));
        let created = client.post("/configs/create", &json!({"Name": "largest", "Data": largest})).await;
        assert_eq!(created.status, 201, "{}", created.message());
        for data in [String::new(), "AAAA".repeat(1000 * 1024 / 3 + 1)] {
            let refused = client.post("/configs/create", &json!({"Name": "x", "Data": data})).await;
            let words = "config data must be larger than 0 and less than 1024000 bytes";
            assert_eq!((refused.status, refused.message().as_str()), (400, words));
        }
    });
}

#[test]
fn a_template_is_shown_with_its_driver_and_another_driver_is_refused() {
    play(async || {
        let stage = Stage::manager().await;
        let client = stage.client();
        let template = |name: &str, driver: &str| json!({"Name": name, "Data": DATA, "Templating": {"Name": driver}});
        let created = client.post("/configs/create", &template("made", "golang")).await;
        assert_eq!(created.status, 201, "{}", created.message());
        assert_eq!(client.get("/configs/made").await.json()["Spec"]["Templating"], json!({"Name": "golang"}));
        let refused = client.post("/configs/create", &template("other", "jinja")).await;
        let words = "--template-driver is not supported with \"jinja\": the only one is golang";
        assert_eq!((refused.status, refused.message().as_str()), (501, words));
    });
}

#[test]
fn events_tell_what_becomes_of_a_config() {
    play(async || {
        let (stage, client, id) = with_site().await;
        assert_eq!(client.send("DELETE", "/configs/site", None).await.status, 204);
        let until = stage.node().scope().utc().as_micros() / 1_000_000 + 1;
        let path = format!(r#"/events?since=1&until={until}&filters={{"type":{{"config":true}}}}"#);
        let body = client.get(&path).await.body.clone();
        let told: Vec<Value> = String::from_utf8_lossy(&body)
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect();
        let short: Vec<_> = told.iter().map(|it| (it["Action"].clone(), it["Actor"].clone())).collect();
        let actor = json!({"ID": id, "Attributes": {"name": "site"}});
        assert_eq!(short, [(json!("create"), actor.clone()), (json!("remove"), actor)]);
    });
}
