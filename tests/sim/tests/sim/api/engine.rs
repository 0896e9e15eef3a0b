//! A stand-in for a machine's Docker Engine, inside the process: it gives the answers that the recorded engine gave.

use essaim_api::EngineInside;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};

/// Bytes that a connection holds in each direction: the longest answer fits.
const CONNECTION_LEN: usize = 64 << 10;

/// Answers of the engine by path, each with its status.
type Answers = Vec<(String, u64, Value)>;

/// What every recorded engine said of itself, and its answers to requests that are in no recording of this test.
fn always() -> Map<String, Value> {
    serde_json::from_str(include_str!("../../../fixtures/engine.json")).expect("an object")
}

/// The engine of the node that was asked in a recording.
pub(crate) fn of(exchanges: &[Value]) -> EngineInside {
    let mut answers = Answers::new();
    let base = always();
    for exchange in exchanges {
        let path = exchange["path"].as_str().unwrap_or("");
        let mut response = exchange["response"].clone();
        if let (Some(known), Value::Object(response)) = (base.get(path), &mut response) {
            // The recordings leave out long fields that are the same everywhere.
            for (name, value) in known.as_object().into_iter().flatten() {
                response.entry(name).or_insert_with(|| value.clone());
            }
        }
        if path.starts_with("/networks") {
            of_the_machine(&mut response);
        }
        if path == "/info" {
            // The engine itself is in no swarm, of which the recorded one warns.
            response["Warnings"] = Value::Null;
        }
        let is_absent = response["message"] == "no such network";
        let status = if is_absent { 404 } else { exchange["status"].as_u64().unwrap_or(500) };
        answers.push((path.to_owned(), status, response));
    }
    answers.extend(base.into_iter().map(|(path, answer)| (path, 200, answer)));
    answering(answers)
}

/// An engine that answers these requests alone.
pub(crate) fn with(exchanges: &[Value]) -> EngineInside {
    let answer = |it: &Value| {
        let path = it["path"].as_str().unwrap_or("").to_owned();
        (path, it["status"].as_u64().unwrap_or(500), it["response"].clone())
    };
    answering(exchanges.iter().map(answer).collect())
}

fn answering(answers: Answers) -> EngineInside {
    let answers = Arc::new(answers);
    EngineInside::new(move || {
        let (ours, theirs) = tokio::io::duplex(CONNECTION_LEN);
        tokio::spawn(serve(theirs, Arc::clone(&answers)));
        ours
    })
}

/// Leaves what is the machine's in an answer about networks: the recorded engine knew those of its swarm, too.
fn of_the_machine(answer: &mut Value) {
    match answer {
        Value::Array(networks) => networks.retain(|network| network["Scope"] != "swarm"),
        Value::Object(pruned) if pruned.contains_key("NetworksDeleted") => {
            pruned.insert("NetworksDeleted".into(), Value::Null);
        }
        Value::Object(network) if network.get("Scope").is_some_and(|scope| scope == "swarm") => {
            *answer = json!({"message": "no such network"});
        }
        _ => (),
    }
}

/// A path without the signs that stand for other characters in a query.
fn decoded(path: &str) -> String {
    let signs = [("%22", "\""), ("%7B", "{"), ("%7D", "}"), ("%3A", ":"), ("%2C", ","), ("%3D", "=")];
    signs.iter().fold(path.to_owned(), |path, (sign, meant)| path.replace(sign, meant))
}

/// Answers the requests of one connection; none of them has a body.
async fn serve(stream: DuplexStream, answers: Arc<Answers>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut first = String::new();
        stream.read_line(&mut first).await.ok().filter(|length| *length > 0)?;
        let mut line = String::new();
        while stream.read_line(&mut line).await.ok()? > 2 {
            line.clear();
        }
        let mut words = first.split_whitespace();
        let (method, path) = (words.next()?, words.next()?);
        let path = path.strip_prefix("/v1.").and_then(|rest| rest.find('/').map(|at| &rest[at..])).unwrap_or(path);
        let found = answers.iter().find(|(known, ..)| decoded(known) == decoded(path));
        let absent = json!({"message": "page not found"});
        let (status, body) = found.map_or((404, &absent), |(_, status, body)| (*status, body));
        let (status, body) = if path == "/_ping" { (200, String::new()) } else { (status, body.to_string()) };
        let length = if method == "HEAD" { 0 } else { body.len() };
        let head = format!(
            "HTTP/1.1 {status} -\r\nApi-Version: 1.51\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(format!("{head}{}", &body[..length]).as_bytes()).await.ok()?;
    }
}
