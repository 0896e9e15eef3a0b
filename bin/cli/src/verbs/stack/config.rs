//! `stack config`: compose files as one file in the long form. No daemon is asked.

use essaim_compose::{Application, canonical};
use serde_json::Value;

use super::files::{self, Files, Machine};
use crate::exit::Failure;

/// Arguments of `stack config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    files: Files,
    /// Leave variables as they are written
    #[arg(long)]
    skip_interpolation: bool,
    /// Format of the output
    #[arg(long, value_name = "FORMAT", value_parser = ["yaml", "json"], default_value = "yaml")]
    format: String,
    /// Print the names of the services alone, in the order in which they start
    #[arg(long)]
    services: bool,
    /// Print the images of the services alone
    #[arg(long)]
    images: bool,
    /// Print nothing: only check the files
    #[arg(short, long)]
    quiet: bool,
    /// Compose files, as with -c
    #[arg(value_name = "FILE")]
    more: Vec<String>,
}

/// Runs `stack config`.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut request = arguments.files.request(&arguments.more, None)?;
    request.no_interpolation = arguments.skip_interpolation;
    if arguments.skip_interpolation && !arguments.services && !arguments.images {
        let (yaml, json) = canonical(&Machine, &request).map_err(|fault| files::failure(&fault))?;
        print!("{}", text(arguments, yaml, &json)?);
        return Ok(());
    }
    let application = files::read(&request)?;
    print!("{}", shown(arguments, &application)?);
    Ok(())
}

fn shown(arguments: &Arguments, application: &Application) -> Result<String, Failure> {
    let lines = |lines: Vec<&str>| lines.into_iter().map(|line| format!("{line}\n")).collect();
    if arguments.services {
        return Ok(lines(application.start_order()));
    }
    if arguments.images {
        return Ok(lines(application.services.values().map(|service| service.container.image.as_str()).collect()));
    }
    text(arguments, application.yaml(), &application.json())
}

fn text(arguments: &Arguments, yaml: String, json: &Value) -> Result<String, Failure> {
    match arguments.format.as_str() {
        _ if arguments.quiet => Ok(String::new()),
        "json" => serde_json::to_string_pretty(json)
            .map(|text| format!("{text}\n"))
            .map_err(|why| Failure::error(format!("the files cannot be shown: {why}"))),
        _ => Ok(yaml),
    }
}
