//! Credentials for a registry from docker's configuration: `config.json` in `DOCKER_CONFIG` or `~/.docker`, as `docker
//! login` writes it, and the helper programs that it names.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};

use crate::exit::Failure;

/// Key of the default registry in the configuration.
const INDEX: &str = "https://index.docker.io/v1/";

/// User name of a helper's answer whose secret is an identity token.
const TOKEN: &str = "<token>";

/// The value of the header `X-Registry-Auth` for a registry. Without credentials it is that of an empty object, which
/// asks for anonymous access.
pub(super) fn header(registry: &str) -> Result<String, Failure> {
    let credentials = of(registry, &read()?)?;
    Ok(URL_SAFE.encode(credentials.to_string()))
}

fn read() -> Result<Value, Failure> {
    let folder = std::env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    let Some(path) = folder.or_else(home).map(|folder| folder.join("config.json")) else { return Ok(json!({})) };
    let failed = |why: String| Failure::error(format!("{}: {why}", path.display()));
    match std::fs::read_to_string(&path) {
        Ok(content) => serde_json::from_str(&content).map_err(|error| failed(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(json!({})),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn of(registry: &str, config: &Value) -> Result<Value, Failure> {
    let key = if registry == "docker.io" { INDEX } else { registry };
    let helper = config["credHelpers"][key].as_str().or(config["credsStore"].as_str()).unwrap_or("");
    if !helper.is_empty() {
        return ask(helper, key);
    }
    let Some(entries) = config["auths"].as_object() else { return Ok(json!({})) };
    let host = |text: &str| {
        let text = text.trim_start_matches("https://").trim_start_matches("http://");
        text.split('/').next().unwrap_or("").to_owned()
    };
    let entry = entries.get(key).or_else(|| entries.iter().find(|(name, _)| host(name) == host(key)).map(|(_, it)| it));
    let Some(entry) = entry else { return Ok(json!({})) };
    let mut credentials = json!({"serveraddress": key});
    for (field, name) in [
        ("username", "username"),
        ("password", "password"),
        ("identitytoken", "identitytoken"),
        ("registrytoken", "registrytoken"),
    ] {
        if let Some(value) = entry[name].as_str().filter(|value| !value.is_empty()) {
            credentials[field] = json!(value);
        }
    }
    if let Some(pair) = entry["auth"].as_str().filter(|pair| !pair.is_empty()) {
        let invalid =
            || Failure::error(format!("the credentials for {registry} in docker's configuration are damaged"));
        let pair = STANDARD.decode(pair).ok().and_then(|pair| String::from_utf8(pair).ok()).ok_or_else(invalid)?;
        let (user, password) = pair.split_once(':').ok_or_else(invalid)?;
        credentials["username"] = json!(user);
        credentials["password"] = json!(password.trim_matches('\0'));
    }
    Ok(credentials)
}

/// Asks a helper program for the credentials.
fn ask(helper: &str, key: &str) -> Result<Value, Failure> {
    let program = format!("docker-credential-{helper}");
    let failed = |why: String| Failure::error(format!("{program}: {why}"));
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(key.as_bytes()).map_err(|error| failed(error.to_string()))?;
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if said.contains("credentials not found") {
        return Ok(json!({}));
    }
    if !output.status.success() {
        return Err(failed(said.trim().to_owned()));
    }
    let found: Value = serde_json::from_str(&said).map_err(|error| failed(error.to_string()))?;
    let server = found["ServerURL"].as_str().unwrap_or(key);
    Ok(match found["Username"].as_str() {
        Some(TOKEN) => json!({"identitytoken": found["Secret"], "serveraddress": server}),
        _ => json!({"username": found["Username"], "password": found["Secret"], "serveraddress": server}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_registry_has_a_name_of_its_own() {
        let config = json!({"auths": {
            INDEX: {"auth": STANDARD.encode("me:secret")},
            "https://registry.example/v2/": {"auth": STANDARD.encode("you:a:b"), "identitytoken": "t"},
        }});
        let index = json!({"username": "me", "password": "secret", "serveraddress": INDEX});
        assert_eq!(of("docker.io", &config), Ok(index));
        let other =
            json!({"username": "you", "password": "a:b", "identitytoken": "t", "serveraddress": "registry.example"});
        assert_eq!(of("registry.example", &config), Ok(other));
        assert_eq!(of("unknown.example", &config), Ok(json!({})));
    }

    #[test]
    fn damaged_credentials_are_an_error() {
        let config = json!({"auths": {"a.example": {"auth": "%%%"}}});
        assert!(of("a.example", &config).unwrap_err().to_string().contains("a.example"));
    }

    #[test]
    fn a_helper_that_is_missing_is_named() {
        let config = json!({"credsStore": "essaim-has-no-such-helper"});
        assert!(
            of("a.example", &config).unwrap_err().to_string().contains("docker-credential-essaim-has-no-such-helper")
        );
    }
}
