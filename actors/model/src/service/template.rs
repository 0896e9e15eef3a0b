//! Templates: settings of a service in which `{{…}}` stands for a fact about the task that reads them.
//!
//! As in Swarm, environment values, the host name, sources and targets of mounts, and labels and driver options of
//! volumes may be templates. Each is a Go template over the service, the node and the task ([`Facts`]); a field that
//! does not exist is an error. A manager expands the settings with invented facts when a service is created or updated,
//! to find errors early; the worker expands them with the true ones before it prepares the task. Secrets and configs may
//! be templates too (`payload`); only the worker expands these.

mod payload;

pub use payload::Readable;

use super::{ContainerSpec, Mount, MountSource, Mounts, ServiceSpec, Variable};
use crate::{Platform, Refusal, ServiceId, Slot, TaskId};
use essaim_template::{Functions, Template};
use essaim_wire::NodeId;
use serde_json::{Value, json};

/// What a template may name.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts(Value);

impl Facts {
    /// The facts about a task of a service with this spec on a node. The name of the task is that of its container.
    pub fn new(
        spec: &ServiceSpec,
        (service, task, slot): (ServiceId, TaskId, Slot),
        name: &str,
        node: NodeId,
        hostname: &str,
        platform: &Platform,
    ) -> Self {
        // The slot of a global service is its node.
        Self(json!({
            "Service": {"ID": service.to_string(), "Name": spec.name.as_str(), "Labels": spec.labels},
            "Node": {
                "ID": node.to_string(),
                "Hostname": hostname,
                "Platform": {"OS": platform.os, "Architecture": platform.architecture},
            },
            "Task": {"ID": task.to_string(), "Name": name, "Slot": slot.to_string()},
        }))
    }

    const fn as_value(&self) -> &Value {
        &self.0
    }
}

/// Whether any setting of the container is a template.
pub fn has_templates(container: &ContainerSpec) -> bool {
    let is_template = |text: &str| text.contains("{{");
    let in_mount = |mount: &Mount| {
        let options = match mount.source() {
            MountSource::Volume { options: Some(options), .. } => Some(options),
            _ => None,
        };
        let driver = options.and_then(|options| options.driver.as_ref()).into_iter().flat_map(|it| it.options.values());
        is_template(mount.target())
            || mount.source().name().is_some_and(is_template)
            || options.into_iter().flat_map(|it| it.labels.values()).chain(driver).any(|value| is_template(value))
    };
    container.env.iter().any(|it| it.value().is_some_and(is_template))
        || container.hostname.as_deref().is_some_and(is_template)
        || container.mounts.iter().any(in_mount)
}

/// Refuses a spec with a template that cannot be expanded. The facts are invented except for those of the service.
pub fn check(spec: &ServiceSpec) -> Result<(), Refusal> {
    if !has_templates(&spec.task.container) {
        return Ok(());
    }
    let platform = Platform { architecture: "architecture".into(), os: "os".into() };
    let ids = (ServiceId::from_bits(1), TaskId::from_bits(1), Slot::Number(1));
    let facts = Facts::new(spec, ids, "taskname", NodeId::from_bits(1), "nodeHostname", &platform);
    expand(&spec.task.container, &facts).map(|_| ())
}

/// The container with every template replaced by what it stands for; the refusal is in Swarm's words.
pub fn expand(container: &ContainerSpec, facts: &Facts) -> Result<ContainerSpec, Refusal> {
    let failed = |what: String, why: Refusal| Refusal::invalid(format!("{what}: {}", why.text));
    let mut expanded = container.clone();
    for variable in &mut expanded.env {
        if let Some(value) = variable.value() {
            let found = text(value, facts).map(|value| format!("{}={value}", variable.name()));
            let why = |why| failed(format!("expanding env failed: expanding env {:?}", variable.to_string()), why);
            *variable = found.and_then(|text| Variable::parse(&text)).map_err(why)?;
        }
    }
    let mounts = container.mounts.iter().map(|it| mount(it, facts)).collect::<Result<Vec<_>, _>>();
    let mounts = mounts.and_then(Mounts::parse).map_err(|why| failed("expanding mounts failed".into(), why))?;
    expanded.mounts = mounts;
    if let Some(hostname) = &container.hostname {
        let found = text(hostname, facts).map_err(|why| failed("expanding hostname failed".into(), why))?;
        expanded.hostname = Some(found);
    }
    Ok(expanded)
}

fn mount(mount: &Mount, facts: &Facts) -> Result<Mount, Refusal> {
    let within = |what: String| move |why: Refusal| Refusal::invalid(format!("{what}: {}", why.text));
    let target = text(mount.target(), facts).map_err(within(format!("expanding mount target {:?}", mount.target())))?;
    let mut source = mount.source().clone();
    if let Some(name) = source.name_mut() {
        let found = text(name, facts).map_err(within(format!("expanding mount source {name:?}")))?;
        *name = found;
    }
    if let MountSource::Volume { options: Some(options), .. } = &mut source {
        for value in options.labels.values_mut() {
            *value = text(value, facts).map_err(within("expanding volume labels".into()))?;
        }
        for value in options.driver.iter_mut().flat_map(|it| it.options.values_mut()) {
            *value = text(value, facts).map_err(within("expanding volume driver opts".into()))?;
        }
    }
    let mut expanded = Mount::parse(&target, source)?;
    (expanded.read_only, expanded.consistency) = (mount.read_only, mount.consistency.clone());
    Ok(expanded)
}

fn text(template: &str, facts: &Facts) -> Result<String, Refusal> {
    if !template.contains("{{") {
        return Ok(template.into());
    }
    let parsed = Template::parse_for(template, Functions::Service);
    parsed.and_then(|it| it.render(&facts.0)).map_err(|why| Refusal::invalid(why.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::service;
    use crate::service::{Driver, VolumeOptions};

    fn spec() -> ServiceSpec {
        let mut spec = service("web", 3);
        spec.labels.insert("tier".into(), "front".into());
        spec
    }

    fn facts(spec: &ServiceSpec, slot: Slot) -> Facts {
        let platform = Platform { architecture: "x86_64".into(), os: "linux".into() };
        let ids = (ServiceId::from_bits(7), TaskId::from_bits(8), slot);
        Facts::new(spec, ids, "web.3.x", NodeId::from_bits(9), "n9", &platform)
    }

    #[test]
    fn an_environment_tells_its_task_service_and_node() {
        let (spec, id) = (spec(), NodeId::from_bits(9));
        let check = |slot, template: &str, expected: &str| {
            let mut container = spec.task.container.clone();
            container.env = vec![Variable::parse(&format!("A={template}")).expect("a variable")];
            container.hostname = Some(template.into());
            let expanded = expand(&container, &facts(&spec, slot)).expect(template);
            assert_eq!((expanded.env[0].value(), expanded.hostname.as_deref()), (Some(expected), Some(expected)));
        };
        let three = Slot::Number(3);
        for (template, expected) in [
            ("plain $HOME", "plain $HOME"),
            ("{{.Service.Name}}-{{.Task.Slot}}", "web-3"),
            ("{{.Task.Name}}", "web.3.x"),
            ("{{.Node.Hostname}}/{{.Node.Platform.OS}}/{{.Node.Platform.Architecture}}", "n9/linux/x86_64"),
            ("{{.Service.Labels.tier}}{{index .Service.Labels \"tier\"}}", "frontfront"),
            ("{{join \"_\" .Service.Name .Node.Hostname}}", "web_n9"),
            ("{{if eq .Task.Slot \"3\"}}third{{end}}", "third"),
        ] {
            check(three, template, expected);
        }
        check(three, "{{.Service.ID}}", &ServiceId::from_bits(7).to_string());
        check(three, "{{.Task.ID}}{{.Node.ID}}", &format!("{}{id}", TaskId::from_bits(8)));
        check(Slot::Node(id), "{{.Task.Slot}}", &id.to_string());
    }

    #[test]
    fn a_mount_is_expanded_in_its_text_fields() {
        let mut spec = spec();
        let one = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        let options = VolumeOptions {
            labels: one("of", "{{.Service.Name}}"),
            driver: Some(Driver { name: Some("nfs".into()), options: one("path", "/{{.Node.Hostname}}") }),
            ..VolumeOptions::default()
        };
        let volume = MountSource::Volume { source: Some("data-{{.Task.Slot}}".into()), options: Some(options) };
        let bind = MountSource::Bind { source: "/srv/{{.Service.Name}}".into(), options: None };
        let mut read_only = Mount::parse("/{{.Node.Hostname}}", bind).expect("a mount");
        read_only.read_only = true;
        let mounts = vec![Mount::parse("/data", volume).expect("a mount"), read_only];
        spec.task.container.mounts = Mounts::parse(mounts).expect("mounts");
        assert!(has_templates(&spec.task.container));
        let expanded = expand(&spec.task.container, &facts(&spec, Slot::Number(3))).expect("templates").mounts;
        let MountSource::Volume { source, options: Some(options) } = expanded[0].source() else { panic!("a volume") };
        assert_eq!((source.as_deref(), options.labels["of"].as_str()), (Some("data-3"), "web"));
        assert_eq!(options.driver.as_ref().map(|it| it.options["path"].as_str()), Some("/n9"));
        assert_eq!((expanded[1].target(), expanded[1].source().name()), ("/n9", Some("/srv/web")));
        assert!(expanded[1].read_only);
    }

    #[test]
    fn a_template_that_names_nothing_is_refused_when_the_service_is_created() {
        let refused = |edit: &dyn Fn(&mut ContainerSpec)| {
            let mut spec = spec();
            edit(&mut spec.task.container);
            check(&spec).expect_err("refused").text
        };
        let env = |text: &'static str| {
            move |container: &mut ContainerSpec| container.env = vec![Variable::parse(text).expect("a variable")]
        };
        let begins = |text: String, words: &str| assert!(text.starts_with(words), "{text}");
        begins(
            refused(&env("A={{.Service.Colour}}")),
            "expanding env failed: expanding env \"A={{.Service.Colour}}\": ",
        );
        begins(refused(&env("A={{.Service.Labels.none}}")), "expanding env failed: ");
        begins(refused(&env("A={{.Service.Name")), "expanding env failed: ");
        begins(refused(&env("A={{json .Service}}")), "expanding env failed: ");
        begins(refused(&|it| it.hostname = Some("{{.Host}}".into())), "expanding hostname failed: ");
        let bind = || MountSource::Bind { source: "/{{.Nothing}}".into(), options: None };
        let mounts = || Mounts::parse(vec![Mount::parse("/a", bind()).expect("a mount")]).expect("one");
        begins(
            refused(&|it| it.mounts = mounts()),
            "expanding mounts failed: expanding mount source \"/{{.Nothing}}\": ",
        );
        assert_eq!(check(&spec()), Ok(()));
    }
}
