//! `service create`: makes a spec of the flags, sends it to the daemon, and waits until the service runs.

use serde_json::{Value, json};

use super::flags::CreateFlags;
use super::wait::{self, Waiting};
use super::{image, names};
use crate::client::Client;
use crate::exit::Failure;

/// Arguments of `service create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    flags: CreateFlags,
    #[command(flatten)]
    waiting: Waiting,
    /// What to run, and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "IMAGE [COMMAND] [ARG...]"
    )]
    image: Vec<String>,
}

/// Runs `service create`.
pub(super) async fn run(client: &Client, mut arguments: Arguments) -> Result<(), Failure> {
    check(&arguments.image)?;
    names::resolve(client, &mut arguments.flags.0).await?;
    let mut spec = spec(&arguments)?;
    let flags = &arguments.flags.0;
    let auth = image::auth(flags, &spec)?;
    image::tag(&mut spec);
    let warning = match flags.is_set("no-resolve-image") {
        true => None,
        false => image::pin(client, &mut spec, auth.as_deref()).await?,
    };
    let created = client.post_as("/services/create", Some(&spec), auth.as_deref()).await?.json().await?;
    let warnings = created["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for warning in warnings.chain(warning.as_deref()) {
        eprintln!("{warning}");
    }
    let id = created["ID"].as_str().unwrap_or("").to_owned();
    println!("{id}");
    wait::for_new_service(client, &id, &arguments.waiting).await
}

/// Refuses a flag that nobody knows. The arguments of the program begin with its image and may look like flags; no image does.
fn check(image: &[String]) -> Result<(), Failure> {
    match image.first() {
        Some(flag) if flag.starts_with('-') => {
            Err(Failure::usage(format!("unknown flag: {flag}")).next("`essaim service create --help` lists the flags"))
        }
        _ => Ok(()),
    }
}

fn spec(arguments: &Arguments) -> Result<Value, Failure> {
    let mut words = arguments.image.iter();
    let mut container = json!({"Image": words.next().map_or("", String::as_str), "Init": false, "DNSConfig": {}});
    let args: Vec<_> = words.collect();
    if !args.is_empty() {
        container["Args"] = json!(args);
    }
    let mut spec = json!({
        "Labels": {},
        "TaskTemplate": {"ContainerSpec": container, "Resources": {"Limits": {}, "Reservations": {}}, "Placement": {}, "ForceUpdate": 0},
        "EndpointSpec": {"Mode": "vip"},
    });
    arguments.flags.0.create(&mut spec)?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::exit::Exit;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn spec_of(line: &str) -> Result<Value, Failure> {
        let words = std::iter::once("create").chain(line.split(' '));
        spec(&Line::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).arguments)
    }

    /// The body of transcript 093-service-create-ping, without what the registry said of the image.
    #[test]
    fn the_request_is_the_one_docker_sends() {
        let expected = json!({
            "Name": "helloworld", "Labels": {},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "alpine", "Args": ["ping", "127.0.0.1"], "Init": false, "DNSConfig": {}},
                "Resources": {"Limits": {}, "Reservations": {}}, "Placement": {}, "ForceUpdate": 0,
            },
            "Mode": {"Replicated": {"Replicas": 1}}, "EndpointSpec": {"Mode": "vip"},
        });
        assert_eq!(spec_of("--replicas 1 --name helloworld alpine ping 127.0.0.1"), Ok(expected));
    }

    #[test]
    fn what_follows_the_image_belongs_to_the_task() {
        let spec = spec_of("--name w -d essaim whoami --port 80 -d --name x").expect("a spec");
        assert_eq!(
            spec["TaskTemplate"]["ContainerSpec"]["Args"],
            json!(["whoami", "--port", "80", "-d", "--name", "x"])
        );
        assert_eq!(spec["Name"], "w");
        let spec = spec_of("sleep -x").expect("a spec");
        assert_eq!(spec["TaskTemplate"]["ContainerSpec"]["Args"], json!(["-x"]));
    }

    #[test]
    fn a_flag_that_nobody_knows_is_no_image() {
        let image = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(check(&image(&["sleep", "--replcas", "3"])), Ok(()));
        let refused = check(&image(&["--replcas", "3", "sleep"])).expect_err("no image begins so");
        assert_eq!(refused.exit(), Exit::Usage);
    }

    #[test]
    fn lists_add_up() {
        let spec = spec_of(
            "--constraint node.role==worker --constraint node.labels.a!=b -e A=1 -e B=2 -l x=y -p 8080:80 --mode global sleep",
        )
        .expect("a spec");
        assert_eq!(spec["TaskTemplate"]["Placement"]["Constraints"], json!(["node.role==worker", "node.labels.a!=b"]));
        assert_eq!(spec["TaskTemplate"]["ContainerSpec"]["Env"], json!(["A=1", "B=2"]));
        assert_eq!(spec["EndpointSpec"]["Ports"][0]["PublishedPort"], 8080);
        assert_eq!((&spec["Mode"], &spec["Labels"]), (&json!({"Global": {}}), &json!({"x": "y"})));
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused_in_dockers_words() {
        for (line, words) in [
            ("--mode global --replicas 2 sleep", "replicas can only be used with replicated or replicated-job mode"),
            (
                "--mode global-job --replicas-max-per-node 2 sleep",
                "replicas-max-per-node can only be used with replicated or replicated-job mode",
            ),
            ("--max-concurrent 2 sleep", "max-concurrent can only be used with replicated-job mode"),
            (
                "--mode replicated-job --update-delay 1s sleep",
                "update and rollback configuration is not supported for jobs",
            ),
            ("--no-healthcheck --health-cmd true sleep", "--no-healthcheck conflicts with --health-* options"),
        ] {
            let failure = spec_of(line).expect_err(line);
            assert_eq!((failure.to_string().as_str(), failure.exit()), (words, Exit::Usage));
        }
    }
}
