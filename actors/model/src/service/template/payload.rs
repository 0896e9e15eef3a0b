//! Templated secrets and configs: their data are a Go template, which each task reads expanded.
//!
//! Such a template may name the facts about its task, and has three functions of its own, as in Swarm: `secret` and
//! `config` are the data of another secret or config of the same task, found by the file that it has in the task, and
//! `env` is a variable of the task's environment, or nothing. Data that a template names are not expanded themselves,
//! so no template can name itself.
//!
//! An error names the secret or config. It tells the reason, unless that could contain secret text: once a secret was
//! read, and for a template that is a secret itself, only what was not found is told.

use super::Facts;
use crate::{ContainerSpec, Payload, PayloadId, Refusal};
use essaim_template::{Functions, Template, TemplateError};
use serde_json::Value;
use std::cell::Cell;
use std::collections::BTreeMap;

/// What the templates of a task's secrets and configs may name.
pub struct Readable<'a> {
    /// The container of the task, with the secrets and configs that the task uses.
    pub container: &'a ContainerSpec,
    /// The payloads of these secrets and configs, as they are in the cluster.
    pub payloads: &'a BTreeMap<PayloadId, Payload>,
    /// The environment of the task.
    pub env: &'a [(String, String)],
    /// The facts about the task.
    pub facts: &'a Facts,
}

impl Readable<'_> {
    /// The payloads of the task, each template replaced by what it stands for.
    pub fn expand(&self) -> Result<BTreeMap<PayloadId, Payload>, Refusal> {
        let mut expanded = self.payloads.clone();
        for (id, name, _) in self.container.files() {
            if let Some(payload) = self.payloads.get(&id).filter(|payload| payload.is_template()) {
                let text = self.text(id, payload);
                let failed = |why| Refusal::invalid(format!("expanding {} {name:?} failed: {why}", id.word()));
                expanded.insert(id, text.map_err(failed)?.into_bytes().into());
            }
        }
        Ok(expanded)
    }

    fn text(&self, id: PayloadId, payload: &Payload) -> Result<String, String> {
        let is_secret = matches!(id, PayloadId::Secret(_));
        let (read_secret, missing) = (Cell::new(false), Cell::new(None));
        let own = |name: &str, arguments: &[Value]| {
            let [Value::String(of)] = arguments else {
                let takes = || Some(Err(TemplateError::new(format!("{name} takes one text"))));
                return if matches!(name, "secret" | "config" | "env") { takes() } else { None };
            };
            let found = match name {
                "env" => {
                    let variable = self.env.iter().rev().find(|(name, _)| name == of);
                    Ok(Value::from(variable.map_or("", |(_, value)| value)))
                }
                "secret" | "config" => self.data(name, of),
                _ => return None,
            };
            match &found {
                Ok(_) if name == "secret" => read_secret.set(true),
                Err(why) if !read_secret.get() => missing.set(Some(why.clone())),
                _ => (),
            }
            Some(found.map_err(TemplateError::new))
        };
        let parsed = std::str::from_utf8(payload).map_err(|_| TemplateError::new("the template is no UTF-8 text"));
        let parsed = parsed.and_then(|text| Template::parse_for(text, Functions::Service));
        parsed.and_then(|template| template.render_with(self.facts.as_value(), &own)).map_err(|why| {
            match missing.take() {
                Some(missing) => missing,
                None if is_secret || read_secret.get() => "the reason may contain secret text, and is not shown".into(),
                None => why.to_string(),
            }
        })
    }

    /// The data of the task's secret or config whose file is `target`.
    fn data(&self, word: &str, target: &str) -> Result<Value, String> {
        let mut files = self.container.files().filter(|(id, _, file)| id.word() == word && file.name == target);
        let (id, ..) = files.next().ok_or_else(|| format!("{word} target {target} not found"))?;
        let data = self.payloads.get(&id).ok_or_else(|| format!("{word} target {target} was removed"))?;
        let text = std::str::from_utf8(data);
        text.map(Value::from).map_err(|_| format!("{word} target {target} is no UTF-8 text"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::service;
    use crate::service::{
        ConfigReference, ConfigReferences, ConfigTarget, FileTarget, SecretReference, SecretReferences,
    };
    use crate::{ConfigId, Platform, SecretId, ServiceId, Slot, TaskId};
    use essaim_wire::NodeId;

    const TEMPLATE: PayloadId = PayloadId::Config(ConfigId::from_bits(9));

    /// Expands `template` as a config of a task that also has the secret `pw` and the config `host`.
    fn expand(template: &str) -> Result<String, String> {
        expand_as(TEMPLATE, template)
    }

    fn expand_as(id: PayloadId, template: &str) -> Result<String, String> {
        let file = |name: &str| FileTarget { name: name.into(), uid: "0".into(), gid: "0".into(), mode: 0o444 };
        let secret = |id, name: &str, target: &str| SecretReference { id, name: name.into(), file: file(target) };
        let config = |id, name: &str, target: &str| ConfigReference {
            id,
            name: name.into(),
            target: ConfigTarget::File(file(target)),
        };
        let mut spec = service("web", 1);
        let mut secrets = vec![secret(SecretId::from_bits(1), "password", "pw")];
        let mut configs = vec![config(ConfigId::from_bits(2), "host-of-db", "host")];
        match id {
            PayloadId::Secret(id) => secrets.push(secret(id, "made", "made")),
            PayloadId::Config(id) => configs.push(config(id, "made", "made")),
        }
        spec.task.container.secrets = SecretReferences::parse(secrets).expect("two files");
        spec.task.container.configs = ConfigReferences::parse(configs).expect("two files");
        let payloads = BTreeMap::from([
            (PayloadId::Secret(SecretId::from_bits(1)), b"s3cr3t"[..].into()),
            (PayloadId::Config(ConfigId::from_bits(2)), b"{{.Node.Hostname}}"[..].into()),
            (id, Payload::template(template.into())),
        ]);
        let platform = Platform { architecture: "x86_64".into(), os: "linux".into() };
        let ids = (ServiceId::from_bits(7), TaskId::from_bits(8), Slot::Number(3));
        let facts = Facts::new(&spec, ids, "web.3.x", NodeId::from_bits(9), "n9", &platform);
        let env = [("A".to_owned(), "first".to_owned()), ("A".to_owned(), "last".to_owned())];
        let readable = Readable { container: &spec.task.container, payloads: &payloads, env: &env, facts: &facts };
        let expanded = readable.expand().map_err(|refusal| refusal.text)?;
        assert!(!expanded[&id].is_template());
        Ok(String::from_utf8_lossy(&expanded[&id]).into_owned())
    }

    #[test]
    fn a_template_names_its_task_and_what_the_task_itself_uses() {
        let made = expand("{{.Service.Name}}.{{.Task.Slot}}@{{.Node.Hostname}}: {{secret \"pw\"}} {{env \"A\"}}");
        assert_eq!(made, Ok("web.3@n9: s3cr3t last".into()));
        assert_eq!(expand("{{config \"host\"}}"), Ok("{{.Node.Hostname}}".into()), "what is named is not expanded");
        assert_eq!(expand("{{config \"made\"}}"), Ok("{{config \"made\"}}".into()), "nor is the template itself");
        assert_eq!(expand("<{{env \"NONE\"}}>"), Ok("<>".into()));
        assert_eq!(expand("no template"), Ok("no template".into()));
    }

    #[test]
    fn what_is_not_the_tasks_own_or_no_field_fails_with_the_name_of_the_config() {
        let check = |template: &str, why: &str| {
            assert_eq!(expand(template), Err(format!("expanding config \"made\" failed: {why}")), "{template}");
        };
        check("{{secret \"other\"}}", "secret target other not found");
        check("{{secret \"password\"}}", "secret target password not found");
        check("{{config \"pw\"}}", "config target pw not found");
        check("{{secret 1}}", "template: secret takes one text");
        check("{{.Service.Colour}}", "template: there is no field Colour here");
        check("{{json .Service}}", "template: function \"json\" is not defined");
    }

    #[test]
    fn no_reason_contains_the_text_of_a_secret() {
        let hidden = "failed: the reason may contain secret text, and is not shown";
        let check = |made: Result<String, String>, end: &str| {
            let why = made.expect_err("refused");
            assert!(why.ends_with(end) && !why.contains("s3cr3t"), "{why}");
        };
        check(expand("{{range secret \"pw\"}}{{end}}"), hidden);
        check(expand("{{config (secret \"pw\")}}"), hidden);
        let secret = PayloadId::Secret(SecretId::from_bits(9));
        check(expand_as(secret, "{{s3cr3t}}"), hidden);
        check(expand_as(secret, "s3cr3t {{config \"none\"}}"), "\"made\" failed: config target none not found");
        assert_eq!(expand_as(secret, "{{secret \"pw\"}}!"), Ok("s3cr3t!".into()));
    }
}
