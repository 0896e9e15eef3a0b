//! References of a service to secrets, configs and networks: by id, with the name that the object had when the spec was
//! written.

use crate::{ConfigId, Labels, PayloadId, Refusal, SecretId};
use bincode::{Decode, Encode};
use essaim_wire::record;
use std::collections::BTreeMap;
use std::ops::Deref;

/// The file of a task in which a secret or config appears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTarget {
    /// Path of the file, or a name below the engine's folder for secrets or configs.
    pub name: String,
    /// User that owns the file, as a number.
    pub uid: String,
    /// Group that owns the file, as a number.
    pub gid: String,
    /// Permission bits of the file.
    pub mode: u32,
}
record!(FileTarget { 1: name, uid, gid, mode });

impl FileTarget {
    /// Path of the file in its task, as in Swarm: a relative one is below `/run/secrets` for a secret and below `/` for a
    /// config. Swarm takes `..` as well. The path is that of the file, without any: it cannot lead out of the task.
    pub fn path_of(&self, payload: PayloadId) -> String {
        match payload {
            PayloadId::Secret(_) => path(SECRETS, &self.name),
            PayloadId::Config(_) => path(CONFIGS, &self.name),
        }
    }
}

/// Folder of secrets whose target is no absolute path.
const SECRETS: &str = "/run/secrets";

/// Folder of configs whose target is no absolute path.
const CONFIGS: &str = "/";

/// The absolute path of a target below a folder, without `.`, `..` and doubled slashes. Nothing is above `/`.
fn path(folder: &str, target: &str) -> String {
    let folder = if target.starts_with('/') { "" } else { folder };
    let mut parts = Vec::new();
    for part in folder.split('/').chain(target.split('/')) {
        match part {
            "" | "." => (),
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A secret that a task may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretReference {
    /// Id of the secret.
    pub id: SecretId,
    /// Name of the secret when the spec was written.
    pub name: String,
    /// File of the task that holds the secret.
    pub file: FileTarget,
}
record!(SecretReference { 1: id, name, file });

/// A config that a task may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigReference {
    /// Id of the config.
    pub id: ConfigId,
    /// Name of the config when the spec was written.
    pub name: String,
    /// Where the config appears in the task.
    pub target: ConfigTarget,
}
record!(ConfigReference { 1: id, name, target });

/// Where a config appears in a task.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ConfigTarget {
    /// The config is a file of the task.
    File(FileTarget),
    /// The config is no file of the task; the engine itself reads it (a credential spec).
    Runtime,
}

impl ConfigTarget {
    /// The file of the task that holds the config, if there is one.
    pub const fn file(&self) -> Option<&FileTarget> {
        match self {
            Self::File(file) => Some(file),
            Self::Runtime => None,
        }
    }
}

/// The secrets of a task. No two have the same file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct SecretReferences(Vec<SecretReference>);

/// The configs of a task. No two have the same file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct ConfigReferences(Vec<ConfigReference>);

impl SecretReferences {
    /// Accepts references with distinct files, each with a name.
    pub fn parse(references: Vec<SecretReference>) -> Result<Self, Refusal> {
        check("secret", SECRETS, references.iter().map(|it| (it.name.as_str(), Some(&it.file))))?;
        Ok(Self(references))
    }
}

impl ConfigReferences {
    /// Accepts references with distinct files, each with a name.
    pub fn parse(references: Vec<ConfigReference>) -> Result<Self, Refusal> {
        check("config", CONFIGS, references.iter().map(|it| (it.name.as_str(), it.target.file())))?;
        Ok(Self(references))
    }
}

impl SecretReferences {
    /// Sets the id of each secret to what `newest` says for its id and name. The files stay as they are.
    pub(crate) fn renew(&mut self, newest: impl Fn(SecretId, &str) -> SecretId) {
        for reference in &mut self.0 {
            reference.id = newest(reference.id, &reference.name);
        }
    }
}

impl ConfigReferences {
    /// Sets the id of each config to what `newest` says for its id and name. The files stay as they are.
    pub(crate) fn renew(&mut self, newest: impl Fn(ConfigId, &str) -> ConfigId) {
        for reference in &mut self.0 {
            reference.id = newest(reference.id, &reference.name);
        }
    }
}

/// Checks references by Swarm's rules, and refuses them in Swarm's words.
fn check<'a>(
    what: &str,
    folder: &str,
    references: impl Iterator<Item = (&'a str, Option<&'a FileTarget>)>,
) -> Result<(), Refusal> {
    let mut files: BTreeMap<String, &str> = BTreeMap::new();
    for (name, file) in references {
        if name.is_empty() {
            return Err(Refusal::invalid(format!("malformed {what} reference")));
        }
        let Some(file) = file else { continue };
        if file.name.is_empty() {
            let text = format!("malformed file {what} reference, invalid target file name provided");
            return Err(Refusal::invalid(text));
        }
        let path = path(folder, &file.name);
        if path == "/" || path.contains('\0') {
            let text = format!("{what} '{name}' cannot be the file '{}': that is {path:?} in the task", file.name);
            return Err(Refusal::invalid(text));
        }
        if let Some(before) = files.insert(path, name) {
            return Err(Refusal::invalid(format!(
                "{what} references '{before}' and '{name}' have a conflicting target: '{}'",
                file.name
            )));
        }
    }
    Ok(())
}

impl Deref for SecretReferences {
    type Target = [SecretReference];

    fn deref(&self) -> &[SecretReference] {
        &self.0
    }
}

impl Deref for ConfigReferences {
    type Target = [ConfigReference];

    fn deref(&self) -> &[ConfigReference] {
        &self.0
    }
}

/// A network that the tasks of a service are attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkAttachment {
    /// Id or name of the network.
    pub target: String,
    /// Further names of the service on this network.
    pub aliases: Vec<String>,
    /// Options for the network's driver, for each task.
    pub driver_opts: Labels,
}
record!(NetworkAttachment { 1: target, aliases, driver_opts });

#[cfg(test)]
essaim_wire::golden_bytes!("service-reference": ConfigTarget, SecretReferences, ConfigReferences, FileTarget, SecretReference, ConfigReference, NetworkAttachment);

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, file: &str) -> SecretReference {
        let file = FileTarget { name: file.into(), uid: "0".into(), gid: "0".into(), mode: 0o444 };
        SecretReference { id: SecretId::from_bits(7), name: name.into(), file }
    }

    #[test]
    fn two_secrets_never_share_a_file() {
        assert!(SecretReferences::parse(vec![secret("a", "x"), secret("b", "y")]).is_ok());
        let refused = SecretReferences::parse(vec![secret("a", "x"), secret("b", "x")]).expect_err("refused");
        assert_eq!(refused.text, "secret references 'a' and 'b' have a conflicting target: 'x'");
    }

    /// Swarm joins the folder and the target in the same way, so `../../evil` is `/evil` of the container.
    #[test]
    fn a_target_with_dots_is_a_path_of_the_task_and_never_leads_out_of_it() {
        let (secret, config) = (PayloadId::Secret(SecretId::from_bits(7)), PayloadId::Config(ConfigId::from_bits(8)));
        let of = |payload, name: &str| {
            FileTarget { name: name.into(), uid: "0".into(), gid: "0".into(), mode: 0o444 }.path_of(payload)
        };
        for (name, as_secret, as_config) in [
            ("key", "/run/secrets/key", "/key"),
            ("a/./b//c/", "/run/secrets/a/b/c", "/a/b/c"),
            ("../key", "/run/key", "/key"),
            ("../../../../evil", "/evil", "/evil"),
            ("/etc/../../x", "/x", "/x"),
            ("..key", "/run/secrets/..key", "/..key"),
        ] {
            assert_eq!((of(secret, name), of(config, name)), (as_secret.into(), as_config.into()), "{name}");
        }
    }

    #[test]
    fn a_target_that_can_be_no_file_or_is_that_of_another_one_is_refused() {
        for (name, path) in [("/", "\"/\""), ("../..", "\"/\""), ("a\0b", "\"/run/secrets/a\\0b\"")] {
            let refused = SecretReferences::parse(vec![secret("key", name)]).expect_err(name).text;
            assert_eq!(refused, format!("secret 'key' cannot be the file '{name}': that is {path} in the task"));
        }
        let refused = SecretReferences::parse(vec![secret("a", "x"), secret("b", "/run/secrets/./x")]);
        let words = "secret references 'a' and 'b' have a conflicting target: '/run/secrets/./x'";
        assert_eq!(refused.expect_err("one hides the other").text, words);
    }

    #[test]
    fn a_reference_has_a_name_and_a_file() {
        let refused = SecretReferences::parse(vec![secret("", "x")]);
        assert_eq!(refused.expect_err("refused").text, "malformed secret reference");
        let refused = SecretReferences::parse(vec![secret("a", "")]).expect_err("refused");
        assert_eq!(refused.text, "malformed file secret reference, invalid target file name provided");
    }
}
