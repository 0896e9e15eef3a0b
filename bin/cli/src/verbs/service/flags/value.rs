//! Kinds of values: each parses the text of a flag into the JSON of the spec.

use clap::ValueHint;
use essaim_model::service::Ulimit;
use serde_json::{Value, json};

use super::{fields, mount, port, reference};
use crate::show::units::{parse_bytes, parse_cpus, parse_duration};

/// The kind of a flag's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text as it is.
    Text,
    /// The name of something, such as a key to remove.
    Key,
    Bool,
    Uint,
    Int,
    Float,
    /// Nanoseconds from `1m30s`.
    Duration,
    /// A size such as `64M`.
    Bytes,
    /// A size of swap, or -1 for no limit.
    Swap,
    Cpus,
    /// A command line.
    Words,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// `KEY=VALUE`, or `KEY` for an empty value.
    Label,
    /// `KEY=VALUE`, or `KEY` for the value that the variable has here.
    Env,
    EnvFile,
    Ip,
    ExtraHost,
    Preference,
    Ulimit,
    GenericResource,
    CredentialSpec,
    Mount,
    Port,
    Secret,
    Config,
    Network,
}

impl Kind {
    /// The name of the value in the help.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Text | Self::OneOf(_) => "STRING",
            Self::Key => "NAME",
            Self::Bool => "BOOL",
            Self::Uint => "UINT",
            Self::Int => "INT",
            Self::Float => "FLOAT",
            Self::Duration => "DURATION",
            Self::Bytes | Self::Swap => "BYTES",
            Self::Cpus => "DECIMAL",
            Self::Words => "COMMAND",
            Self::Label | Self::Env => "KEY=VALUE",
            Self::EnvFile => "FILE",
            Self::Ip => "IP",
            Self::ExtraHost => "HOST:IP",
            Self::Preference => "PREF",
            Self::Ulimit => "ULIMIT",
            Self::GenericResource => "KIND=COUNT",
            Self::CredentialSpec => "CREDENTIAL-SPEC",
            Self::Mount => "MOUNT",
            Self::Port => "PORT",
            Self::Secret => "SECRET",
            Self::Config => "CONFIG",
            Self::Network => "NETWORK",
        }
    }

    /// The values that completion offers; no other value is taken.
    pub(super) const fn offers(self) -> &'static [&'static str] {
        match self {
            Self::OneOf(values) => values,
            Self::Bool => &["true", "false", "1", "0", "t", "f", "T", "F", "TRUE", "FALSE", "True", "False"],
            _ => &[],
        }
    }

    /// What completion offers for an open set of values.
    pub(super) const fn hint(self) -> ValueHint {
        match self {
            Self::EnvFile => ValueHint::FilePath,
            Self::Words => ValueHint::CommandString,
            _ => ValueHint::Other,
        }
    }

    /// Parses a value.
    pub(super) fn parse(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Text | Self::Key | Self::OneOf(_) => Ok(json!(text)),
            Self::Bool => Ok(json!(["true", "1", "t", "T", "TRUE", "True"].contains(&text))),
            Self::Uint => number(text.parse::<u64>(), text),
            Self::Int => number(text.parse::<i64>(), text),
            Self::Float => number(text.parse::<f64>(), text),
            Self::Duration => parse_duration(text).map(Value::from),
            Self::Swap if text == "-1" => Ok(json!(-1)),
            Self::Bytes | Self::Swap => parse_bytes(text).map(Value::from),
            Self::Cpus => parse_cpus(text).map(Value::from),
            Self::Words => fields::words(text).map(Value::from),
            Self::Label => match text.split_once('=').map_or(text, |(key, _)| key).trim() {
                "" => Err(format!("invalid label '{text}': empty name")),
                _ => Ok(json!(text)),
            },
            Self::Env => environment(text).map(Value::from),
            Self::EnvFile => env_file(text),
            Self::Ip => {
                text.parse::<std::net::IpAddr>().map(|ip| json!(ip)).map_err(|_| format!("{text:?} is no IP address"))
            }
            Self::ExtraHost => extra_host(text),
            Self::Preference => preference(text),
            Self::Ulimit => ulimit(text),
            Self::GenericResource => generic_resource(text),
            Self::CredentialSpec => credential_spec(text),
            Self::Mount => mount::parse(text),
            Self::Port => port::parse(text).map(Value::from),
            Self::Secret => reference::parse("Secret", text),
            Self::Config => reference::parse("Config", text),
            Self::Network => reference::network(text),
        }
    }
}

fn number<N: Into<Value>, E>(parsed: Result<N, E>, text: &str) -> Result<Value, String> {
    parsed.map(Into::into).map_err(|_| format!("{text:?} is no number that fits"))
}

/// `KEY=VALUE` as it is; `KEY` alone with the value that the variable has in this process, or alone if it has none.
fn environment(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        _ if text.is_empty() || text.starts_with('=') => Err(format!("invalid environment variable: {text}")),
        Some(_) => Ok(text.to_owned()),
        None => Ok(std::env::var(text).map_or_else(|_| text.to_owned(), |value| format!("{text}={value}"))),
    }
}

fn env_file(path: &str) -> Result<Value, String> {
    let content = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let mut variables = Vec::new();
    for line in content.trim_start_matches('\u{feff}').lines().map(str::trim_start) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').map_or((line, None), |(key, value)| (key, Some(value)));
        if key.trim_end().contains(char::is_whitespace) || key.is_empty() || key.ends_with(char::is_whitespace) {
            return Err(format!("{path}: variable '{key}' contains whitespaces"));
        }
        match value {
            Some(_) => variables.push(line.to_owned()),
            // A variable that has no value here is left out, unlike one of `--env`. docker does the same.
            None => variables.extend(std::env::var(key).map(|value| format!("{key}={value}"))),
        }
    }
    Ok(json!(variables))
}

fn extra_host(text: &str) -> Result<Value, String> {
    let (host, ip) = match text.split_once(['=', ':']) {
        Some((host, ip)) if !host.is_empty() => (host, ip),
        _ => return Err(format!("bad format for add-host: {text:?}")),
    };
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if ip != "host-gateway" && ip.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {ip:?}"));
    }
    Ok(json!(format!("{host}:{ip}")))
}

fn preference(text: &str) -> Result<Value, String> {
    match text.split_once('=') {
        Some(("spread", descriptor)) => Ok(json!({"Spread": {"SpreadDescriptor": descriptor}})),
        Some((strategy, _)) if !strategy.is_empty() => {
            Err(format!("unsupported placement preference {strategy} (only spread is supported)"))
        }
        _ => Err("placement preference must be of the format \"<strategy>=<arg>\"".to_owned()),
    }
}

fn ulimit(text: &str) -> Result<Value, String> {
    let invalid = || format!("invalid ulimit argument: {text}");
    let (name, limits) = text.split_once('=').ok_or_else(invalid)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse::<i64>().map_err(|_| invalid());
    let (soft, hard) = (number(soft)?, number(hard)?);
    Ulimit::parse(name, soft, hard).map_err(|refusal| refusal.text)?;
    Ok(json!({"Name": name, "Soft": soft, "Hard": hard}))
}

fn generic_resource(text: &str) -> Result<Value, String> {
    let invalid = || format!("invalid generic-resource format `{text}` expected `name=value`");
    let (kind, value) = text.split_once('=').filter(|(kind, _)| !kind.is_empty()).ok_or_else(invalid)?;
    match value.parse::<i64>() {
        Ok(count) => Ok(json!({"DiscreteResourceSpec": {"Kind": kind, "Value": count}})),
        Err(_) => Err(format!(
            "invalid generic-resource request `{text}`, Named Generic Resources is not supported for service create or update"
        )),
    }
}

fn credential_spec(text: &str) -> Result<Value, String> {
    match text.split_once("://") {
        _ if text.is_empty() => Ok(json!({})),
        Some(("config", config)) => Ok(json!({"Config": config})),
        Some(("file", file)) => Ok(json!({"File": file})),
        Some(("registry", registry)) => Ok(json!({"Registry": registry})),
        _ => Err("invalid credential spec: value must be prefixed with \"config://\", \"file://\", or \"registry://\""
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_value_of_its_kind_is_refused() {
        for (kind, text) in [
            (Kind::Uint, "-1"),
            (Kind::Duration, "10"),
            (Kind::Label, "=x"),
            (Kind::Env, "=x"),
            (Kind::EnvFile, "/nonexistent/file"),
            (Kind::Ip, "host"),
            (Kind::ExtraHost, "a:b"),
            (Kind::ExtraHost, "a"),
            (Kind::Preference, "pack=node.labels.zone"),
            (Kind::Ulimit, "nofile=2048:1024"),
            (Kind::Ulimit, "files=1"),
            (Kind::GenericResource, "gpu=uuid1"),
            (Kind::CredentialSpec, "x"),
        ] {
            assert!(kind.parse(text).is_err(), "{kind:?} {text}");
        }
    }

    #[test]
    fn a_file_of_variables_has_comments_and_names_without_values() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("env");
        std::fs::write(&path, "# comment\n\nA=1\n  B=x y=z\nESSAIM_NOT_SET_ANYWHERE\nPATH\n").expect("written");
        let lines = Kind::EnvFile.parse(path.to_str().expect("a path")).expect("read");
        let path_here = format!("PATH={}", std::env::var("PATH").expect("a path"));
        assert_eq!(lines, json!(["A=1", "B=x y=z", path_here]));
        std::fs::write(&path, "a b=1\n").expect("written");
        assert!(Kind::EnvFile.parse(path.to_str().expect("a path")).unwrap_err().contains("whitespace"));
    }
}
