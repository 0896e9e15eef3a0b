//! `service ls`.

use std::fmt;

use serde_json::Value;

use super::super::Shown;
use crate::client::{Client, filters};
use crate::exit::Failure;
use crate::show::units::{natural_order, short};
use crate::show::{Field, List};
use crate::verbs::read::{list, number, text};

const FIELDS: &[Field] = &[
    ("ID", "ID"),
    ("Name", "NAME"),
    ("Mode", "MODE"),
    ("Replicas", "REPLICAS"),
    ("Image", "IMAGE"),
    ("Ports", "PORTS"),
];

const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.Mode}}\t{{.Replicas}}\t{{.Image}}\t{{.Ports}}";

/// Runs `service ls`.
pub(super) async fn run(client: &Client, shown: &Shown) -> Result<(), Failure> {
    print(client, shown, true).await.map(drop)
}

/// Prints services, and none when there are none unless `always` is set; says whether there were any.
pub(super) async fn print(client: &Client, shown: &Shown, always: bool) -> Result<bool, Failure> {
    let query = [filters(&shown.filter), "status=true".to_owned()];
    let query: Vec<_> = query.into_iter().filter(|part| !part.is_empty()).collect();
    let services = match client.get_json(&format!("/services?{}", query.join("&"))).await? {
        Value::Array(services) => services,
        _ => Vec::new(),
    };
    let any = !services.is_empty();
    if any || always {
        let quiet = shown.quiet.then_some("{{.ID}}");
        print!("{}", table(services).render(shown.format.as_deref().or(quiet))?);
    }
    Ok(any)
}

fn table(mut services: Vec<Value>) -> List {
    services.sort_by(|a, b| natural_order(text(a, "/Spec/Name"), text(b, "/Spec/Name")));
    let mut table = List::new(FIELDS, TABLE);
    for service in &services {
        let image = text(service, "/Spec/TaskTemplate/ContainerSpec/Image");
        table.push([
            short(text(service, "/ID")).into(),
            text(service, "/Spec/Name").into(),
            mode(service).into(),
            replicas(service).into(),
            image.split_once('@').map_or(image, |(name, _)| name).into(),
            ports(service).into(),
        ]);
    }
    table
}

fn mode(service: &Value) -> &'static str {
    let mode = &service["Spec"]["Mode"];
    match () {
        () if mode["Global"].is_object() => "global",
        () if mode["ReplicatedJob"].is_object() => "replicated job",
        () if mode["GlobalJob"].is_object() => "global job",
        () => "replicated",
    }
}

fn replicas(service: &Value) -> String {
    let status = |name: &str| number(service, &format!("/ServiceStatus/{name}")).unwrap_or(0);
    let (running, desired, completed) = (status("RunningTasks"), status("DesiredTasks"), status("CompletedTasks"));
    let count = format!("{running}/{desired}");
    match mode(service) {
        "replicated job" => {
            let total = number(service, "/Spec/Mode/ReplicatedJob/TotalCompletions").unwrap_or(desired);
            return format!("{count} ({completed}/{total} completed)");
        }
        "global job" => return format!("{count} ({completed}/{} completed)", desired + completed),
        _ => (),
    }
    match number(service, "/Spec/TaskTemplate/Placement/MaxReplicas") {
        Some(max) if max > 0 && mode(service) == "replicated" => format!("{count} (max {max} per node)"),
        _ => count,
    }
}

/// Ports that follow each other and are shown as one range: their targets follow each other as well, or are one and the
/// same.
struct Range<'a> {
    protocol: &'a str,
    published: (i64, i64),
    target: (i64, i64),
}

impl<'a> Range<'a> {
    const fn of(protocol: &'a str, published: i64, target: i64) -> Self {
        Self { protocol, published: (published, published), target: (target, target) }
    }

    /// Takes the next port into the range, if it continues it.
    fn take(&mut self, next: &Self) -> bool {
        let (is_one_target, is_single) = (self.target.0 == self.target.1, self.published.0 == self.published.1);
        let follows = |last: i64, next: i64| next == last + 1;
        let continues = self.protocol == next.protocol
            && follows(self.published.1, next.published.0)
            && if next.target.0 == self.target.1 {
                is_one_target
            } else {
                (is_single || !is_one_target) && follows(self.target.1, next.target.0)
            };
        if continues {
            (self.published.1, self.target.1) = (next.published.1, next.target.1);
        }
        continues
    }
}

impl fmt::Display for Range<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = |(first, last): (i64, i64)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        write!(f, "*:{}->{}/{}", numbers(self.published), numbers(self.target), self.protocol)
    }
}

/// The ports that every node publishes, in docker's order and with docker's ranges: `*:8000-8002->80-82/tcp`.
fn ports(service: &Value) -> String {
    let mut ports: Vec<_> = list(service, "/Endpoint/Ports")
        .iter()
        .filter(|port| text(port, "/PublishMode") != "host")
        .map(|port| {
            (
                text(port, "/Protocol"),
                number(port, "/PublishedPort").unwrap_or(0),
                number(port, "/TargetPort").unwrap_or(0),
            )
        })
        .collect();
    ports.sort_unstable();
    let mut ranges: Vec<Range<'_>> = Vec::new();
    for (protocol, published, target) in ports {
        let next = Range::of(protocol, published, target);
        if !ranges.last_mut().is_some_and(|range| range.take(&next)) {
            ranges.push(next);
        }
    }
    ranges.iter().map(Range::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Cells of transcript 120-service-ls.
    #[test]
    fn a_job_tells_how_many_tasks_have_completed() {
        let job = |mode: Value, status: [i64; 3]| {
            let status = json!({"RunningTasks": status[0], "DesiredTasks": status[1], "CompletedTasks": status[2]});
            replicas(&json!({"Spec": {"Mode": mode}, "ServiceStatus": status}))
        };
        let replicated = json!({"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 5}});
        assert_eq!(job(replicated, [1, 2, 3]), "1/2 (3/5 completed)");
        assert_eq!(job(json!({"GlobalJob": {}}), [0, 1, 2]), "0/1 (2/3 completed)");
    }

    #[test]
    fn ports_that_follow_each_other_are_one_range() {
        let of = |of: &[(i64, i64, &str)]| {
            let port = |(from, to, protocol): &(i64, i64, &str)| json!({"Protocol": protocol, "TargetPort": to, "PublishedPort": from, "PublishMode": "ingress"});
            ports(&json!({"Endpoint": {"Ports": of.iter().map(port).collect::<Vec<_>>()}}))
        };
        assert_eq!(of(&[(8002, 82, "tcp"), (8000, 80, "tcp"), (8001, 81, "tcp")]), "*:8000-8002->80-82/tcp");
        assert_eq!(of(&[(8000, 80, "tcp"), (8001, 80, "tcp"), (8002, 80, "tcp")]), "*:8000-8002->80/tcp");
        let mixed = [(53, 53, "udp"), (53, 53, "tcp"), (54, 54, "tcp"), (56, 56, "tcp")];
        assert_eq!(of(&mixed), "*:53-54->53-54/tcp, *:56->56/tcp, *:53->53/udp");
        // A range says which port leads where: these do not make one.
        assert_eq!(of(&[(80, 80, "tcp"), (81, 80, "tcp"), (82, 81, "tcp")]), "*:80-81->80/tcp, *:82->81/tcp");
        assert_eq!(of(&[(80, 80, "tcp"), (81, 81, "tcp"), (82, 81, "tcp")]), "*:80-81->80-81/tcp, *:82->81/tcp");
        assert_eq!(of(&[(80, 81, "tcp"), (81, 80, "tcp")]), "*:80->81/tcp, *:81->80/tcp");
    }

    /// Lines of transcript 120-service-ls.
    #[test]
    fn the_table_is_dockers() {
        let services = vec![
            json!({
                "ID": "znpgxowuvmspvlcce0lyrvx0m",
                "Spec": {"Name": "whoami", "TaskTemplate": {"ContainerSpec": {"Image": "traefik/whoami:latest@sha256:0dad"}}, "Mode": {"Replicated": {"Replicas": 5}}},
                "Endpoint": {"Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 9999, "PublishMode": "ingress"}]},
                "ServiceStatus": {"RunningTasks": 5, "DesiredTasks": 5},
            }),
            json!({
                "ID": "8g8w3e3cgszm7qrhifv5zmjw4",
                "Spec": {"Name": "ssd", "TaskTemplate": {"ContainerSpec": {"Image": "alpine:latest"}, "Placement": {"MaxReplicas": 2}}, "Mode": {"Replicated": {"Replicas": 2}}},
                "ServiceStatus": {"RunningTasks": 2, "DesiredTasks": 2},
            }),
            json!({
                "ID": "jlir6lkfk31sx35vt9ak9dibv",
                "Spec": {"Name": "job1", "TaskTemplate": {"ContainerSpec": {"Image": "alpine:latest"}}, "Mode": {"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 2}}},
                "ServiceStatus": {"RunningTasks": 0, "DesiredTasks": 2, "CompletedTasks": 2},
            }),
            json!({
                "ID": "jy41tny5mza545vddu572x6u5",
                "Spec": {"Name": "gjob", "TaskTemplate": {"ContainerSpec": {"Image": "alpine:latest"}}, "Mode": {"GlobalJob": {}}},
                "ServiceStatus": {"RunningTasks": 0, "DesiredTasks": 0, "CompletedTasks": 3},
            }),
        ];
        let expected = "\
ID             NAME      MODE             REPLICAS               IMAGE                   PORTS
jy41tny5mza5   gjob      global job       0/0 (3/3 completed)    alpine:latest           
jlir6lkfk31s   job1      replicated job   0/2 (2/2 completed)    alpine:latest           
8g8w3e3cgszm   ssd       replicated       2/2 (max 2 per node)   alpine:latest           
znpgxowuvmsp   whoami    replicated       5/5                    traefik/whoami:latest   *:9999->80/tcp
";
        assert_eq!(table(services).render(None).unwrap(), expected);
    }
}
