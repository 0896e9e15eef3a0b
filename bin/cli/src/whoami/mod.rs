//! `essaim whoami`: a web server that answers with where it runs. The demo and the tests run it.
//!
//! It is a task like any other: it reads its identity from the environment that the process engine gives to every task,
//! listens on its own loopback address (`ESSAIM_ADDRESS`), and ends on SIGTERM. `/` answers in text, `/api` in JSON;
//! both show the request as it arrived, so that proxies in between can be seen. It knows nothing of the cluster;
//! started by hand it shows less.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::any;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Failure;

/// Arguments of `essaim whoami`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Port to listen on, at the address in ESSAIM_ADDRESS (127.0.0.1 when there is none)
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Another name to answer with, beside the host's
    #[arg(long)]
    name: Option<String>,
}

/// Identity of this task: what the engine's environment and the machine tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    name: Option<String>,
    host: String,
    node: Option<String>,
    service: Option<String>,
    slot: Option<String>,
    task: Option<String>,
    addresses: Vec<String>,
}

impl Identity {
    fn of_this_process(name: Option<String>, address: SocketAddr) -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
        Self {
            name,
            host: host.unwrap_or_else(|_| "unknown".to_owned()),
            node: variable("ESSAIM_NODE"),
            service: variable("ESSAIM_SERVICE"),
            slot: variable("ESSAIM_SLOT"),
            task: variable("ESSAIM_TASK").or_else(|| variable("ESSAIM_TASK_ID")),
            addresses: vec![address.to_string()],
        }
    }

    /// The known facts as (name, value), in the order in which they are shown.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        let mut known = |label, value: &Option<String>| {
            if let Some(value) = value {
                lines.push((label, value.clone()));
            }
        };
        known("Name", &self.name);
        known("Host", &Some(self.host.clone()));
        known("Node", &self.node);
        known("Service", &self.service);
        known("Slot", &self.slot);
        known("Task", &self.task);
        for address in &self.addresses {
            known("Address", &Some(address.clone()));
        }
        lines
    }
}

/// An HTTP request as it arrived.
struct Received {
    from: SocketAddr,
    line: String,
    headers: Vec<(String, String)>,
}

impl Received {
    fn of(request: &Request) -> Self {
        let from = request
            .extensions()
            .get::<ConnectInfo<SocketAddr>>()
            .map_or_else(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), |info| info.0);
        let mut headers: Vec<_> = request
            .headers()
            .iter()
            .map(|(name, value)| (canonical(name.as_str()), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        headers.sort();
        Self { from, line: format!("{} {} {:?}", request.method(), request.uri(), request.version()), headers }
    }
}

/// Serves until SIGTERM or Ctrl-C.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let ip = address_to_listen_on(std::env::var("ESSAIM_ADDRESS").ok().as_deref())?;
    let address = SocketAddr::new(ip, arguments.port);
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::error(format!("cannot listen on {address}: {error}"))
            .next("choose another port with --port, or another address in ESSAIM_ADDRESS")
    })?;
    let address = listener.local_addr().unwrap_or(address);
    let mut terminated =
        signal(SignalKind::terminate()).map_err(|error| Failure::error(format!("no signals: {error}")))?;
    println!("whoami listens on http://{address}");
    let _ = std::io::stdout().flush();
    let service = router(Identity::of_this_process(arguments.name, address));
    axum::serve(listener, service.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(async move {
            tokio::select! {
                _ = terminated.recv() => (),
                _ = tokio::signal::ctrl_c() => (),
            }
        })
        .await
        .map_err(|error| Failure::error(format!("whoami stopped serving: {error}")))?;
    println!("whoami stopped");
    Ok(())
}

fn router(identity: Identity) -> Router {
    Router::new()
        .route(
            "/api",
            any(|State(who): State<Arc<Identity>>, request: Request| async move { api(&who, &Received::of(&request)) }),
        )
        .fallback(|State(who): State<Arc<Identity>>, request: Request| async move {
            text(&who, &Received::of(&request)).into_response()
        })
        .with_state(Arc::new(identity))
}

/// The address that the engine gave to this task, or 127.0.0.1 without one.
fn address_to_listen_on(given: Option<&str>) -> Result<IpAddr, Failure> {
    match given.filter(|text| !text.is_empty()) {
        None => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Some(text) => {
            text.parse().map_err(|_| Failure::error(format!("ESSAIM_ADDRESS is {text:?}, which is no IP address")))
        }
    }
}

fn text(who: &Identity, seen: &Received) -> String {
    let mut out = String::new();
    for (label, value) in who.lines() {
        let _ = writeln!(out, "{label}: {value}");
    }
    let _ = writeln!(out, "From: {}", seen.from);
    let _ = writeln!(out, "{}", seen.line);
    for (name, value) in &seen.headers {
        let _ = writeln!(out, "{name}: {value}");
    }
    out
}

fn api(who: &Identity, seen: &Received) -> Response {
    let mut headers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in &seen.headers {
        headers.entry(name).or_default().push(value);
    }
    let body: Value = json!({
        "name": who.name,
        "host": who.host,
        "node": who.node,
        "service": who.service,
        "slot": who.slot,
        "task": who.task,
        "addresses": who.addresses,
        "from": seen.from.to_string(),
        "request": seen.line,
        "headers": headers,
    });
    Json(body).into_response()
}

/// A header name as people write it: hyper's `user-agent` becomes `User-Agent`.
fn canonical(name: &str) -> String {
    let mut start = true;
    name.chars()
        .map(|letter| {
            let shown = if start { letter.to_ascii_uppercase() } else { letter };
            start = letter == '-';
            shown
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Received {
        Received {
            from: SocketAddr::from(([127, 0, 0, 1], 40_000)),
            line: "GET / HTTP/1.1".to_owned(),
            headers: vec![
                ("Host".to_owned(), "127.70.1.2:8080".to_owned()),
                ("User-Agent".to_owned(), "curl/8".to_owned()),
            ],
        }
    }

    #[test]
    fn a_task_says_who_and_where_it_is() {
        let who = Identity {
            host: "machine".to_owned(),
            node: Some("n2".to_owned()),
            service: Some("whoami".to_owned()),
            slot: Some("3".to_owned()),
            task: Some("k2f9".to_owned()),
            addresses: vec!["127.70.1.2:8080".to_owned()],
            ..Identity::default()
        };
        let expected = "Host: machine\nNode: n2\nService: whoami\nSlot: 3\nTask: k2f9\nAddress: 127.70.1.2:8080\n\
                        From: 127.0.0.1:40000\nGET / HTTP/1.1\nHost: 127.70.1.2:8080\nUser-Agent: curl/8\n";
        assert_eq!(text(&who, &seen()), expected);
    }

    #[test]
    fn started_by_hand_it_says_what_it_knows() {
        let who = Identity { host: "machine".to_owned(), ..Identity::default() };
        assert!(text(&who, &seen()).starts_with("Host: machine\nFrom: "));
    }

    #[test]
    fn a_header_is_shown_as_people_write_it() {
        assert_eq!(canonical("x-forwarded-for"), "X-Forwarded-For");
    }

    #[test]
    fn an_address_that_is_none_is_refused_in_words() {
        assert_eq!(address_to_listen_on(None).unwrap(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(address_to_listen_on(Some("127.64.1.9")).unwrap().to_string(), "127.64.1.9");
        assert!(address_to_listen_on(Some("here")).unwrap_err().to_string().contains("no IP address"));
    }

    #[tokio::test]
    async fn it_answers_in_text_and_in_json() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let who = Identity { host: "machine".to_owned(), slot: Some("1".to_owned()), ..Identity::default() };
        let service = router(who).into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        let client = crate::client::Client::new(format!("tcp://{address}").parse().unwrap());
        let shown = client.get("/anything").await.unwrap().text().await.unwrap();
        assert!(shown.starts_with("Host: machine\nSlot: 1\n"), "{shown}");
        let api = client.get("/api").await.unwrap().json().await.unwrap();
        assert_eq!(api["slot"], "1");
        assert_eq!(api["request"], "GET /api HTTP/1.1");
    }
}
