//! `extends`: a service begins as a copy of another one, of the same file or of another.
//!
//! The copy is merged with what the service says itself, by the rules for several files. Paths in it begin at the folder of
//! the file that it comes from. Networks, volumes, secrets and configs that the other file defines do not come along, as
//! Compose has it; the service's own file must define those that it uses.

use crate::check::under;
use crate::fault::{Fault, FaultKind, Outcome};
use crate::load::{Loader, Scope};
use crate::merge::merge;
use crate::source::folder;
use crate::tree::Node;

impl Loader<'_> {
    /// Extends the services of a document. `before` holds the services of the files that it is merged upon.
    pub(crate) fn extend_all(
        &mut self,
        document: &mut Node,
        file: &str,
        scope: &Scope,
        before: Option<&Node>,
    ) -> Outcome<()> {
        let own = document.clone();
        let Some(services) = document.as_map_mut().and_then(|map| map.get_mut("services")).and_then(Node::as_map_mut)
        else {
            return Ok(());
        };
        for entry in &mut services.0 {
            let mut chain = vec![(file.to_owned(), entry.key.clone())];
            let at = At { document: &own, before, file };
            entry.node = self.extended(&entry.node, &entry.key, &at, scope, &mut chain)?;
        }
        Ok(())
    }

    fn extended(
        &mut self,
        service: &Node,
        name: &str,
        at: &At<'_>,
        scope: &Scope,
        chain: &mut Vec<(String, String)>,
    ) -> Outcome<Node> {
        let mut service = service.clone();
        let path = under(&format!("services.{name}"), "extends");
        let Some(extends) = service.as_map_mut().and_then(|map| map.remove("extends")).filter(|node| !node.is_null())
        else {
            return Ok(service);
        };
        let Some(wanted) = extends.get("service").and_then(Node::as_text) else {
            let way_out = "write extends: {service: NAME}";
            return Err(Fault::new(FaultKind::Value, &extends.place, path, "no service is named", way_out));
        };
        let file = extends.get("file").and_then(Node::as_text).unwrap_or_else(|| at.file.to_owned());
        let step = (file.clone(), wanted.clone());
        if chain.contains(&step) {
            let steps: Vec<_> = chain.iter().chain([&step]).map(|(_, service)| service.as_str()).collect();
            let cause = format!("the services extend each other in a circle: {}", steps.join(" → "));
            let way_out = "move what they share into a service that extends none";
            return Err(Fault::new(FaultKind::Circle, &extends.place, path, cause, way_out));
        }
        chain.push(step);
        let missing = |cause: String| {
            Fault::new(FaultKind::Reference, &extends.place, path.clone(), cause, "name a service of that file")
        };
        let mut base = if file == at.file {
            let base = at.service(&wanted).ok_or_else(|| missing(format!("this file has no service {wanted:?}")))?;
            self.extended(base, &wanted, at, scope, chain)?
        } else {
            let missing_file = extends.get("file").and_then(|_| self.source.read(&file).ok().flatten()).is_none();
            if missing_file {
                let cause = format!("there is no file {file}");
                let way_out = "paths begin at the folder of the file that names them";
                return Err(Fault::new(FaultKind::File, &extends.place, path, cause, way_out));
            }
            let documents = self.documents(&file, folder(&file), scope)?;
            let holder = documents.iter().find(|document| services(document, &wanted).is_some());
            let document = holder.ok_or_else(|| missing(format!("{file} has no service {wanted:?}")))?;
            let there = At { document, before: None, file: &file };
            let base = there.service(&wanted).ok_or_else(|| missing(format!("{file} has no service {wanted:?}")))?;
            self.extended(base, &wanted, &there, scope, chain)?
        };
        chain.pop();
        merge(&mut base, service, "services.*");
        Ok(base)
    }
}

/// Where the services of a file are looked up.
struct At<'a> {
    document: &'a Node,
    before: Option<&'a Node>,
    file: &'a str,
}

impl At<'_> {
    fn service(&self, name: &str) -> Option<&Node> {
        services(self.document, name).or_else(|| services(self.before?, name))
    }
}

fn services<'a>(document: &'a Node, name: &str) -> Option<&'a Node> {
    document.get("services")?.as_map()?.get(name)
}
