//! `stack ls`, `stack services` and `stack ps`: what carries the label of a stack.

use std::collections::BTreeMap;

use essaim_compose::convert::NAMESPACE;
use serde_json::Value;

use super::{check_name, of_stack};
use crate::client::{Client, filters};
use crate::exit::Failure;
use crate::show::units::natural_order;
use crate::show::{Field, List};
use crate::verbs::read::{list, text};
use crate::verbs::tasks::{self, Options};
use crate::verbs::{Shown, service};

const FIELDS: &[Field] = &[("Name", "NAME"), ("Services", "SERVICES")];

const TABLE: &str = "{{.Name}}\t{{.Services}}";

/// Runs `stack ls`.
pub(super) async fn stacks(client: &Client, format: Option<&str>) -> Result<(), Failure> {
    let labelled = filters(&[("label".to_owned(), NAMESPACE.to_owned())]);
    let services = client.get_json(&format!("/services?{labelled}")).await?;
    print!("{}", table(list(&services, "")).render(format)?);
    Ok(())
}

fn table(services: &[Value]) -> List {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for service in services {
        let label = service.pointer("/Spec/Labels").and_then(|labels| labels[NAMESPACE].as_str());
        if let Some(stack) = label {
            *counts.entry(stack).or_insert(0) += 1;
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|(a, _), (b, _)| natural_order(a, b));
    let mut table = List::new(FIELDS, TABLE);
    for (stack, count) in counts {
        table.push([stack.into(), count.to_string().into()]);
    }
    table
}

/// Runs `stack services`.
pub(super) async fn services(client: &Client, mut shown: Shown, stack: &str) -> Result<(), Failure> {
    check_name(stack)?;
    shown.filter.push(of_stack(stack));
    if !service::print_list(client, &shown).await? {
        eprintln!("Nothing found in stack: {stack}");
    }
    Ok(())
}

/// Runs `stack ps`.
pub(super) async fn tasks(client: &Client, options: &Options, stack: &str) -> Result<(), Failure> {
    check_name(stack)?;
    let mut wanted = options.wanted();
    wanted.push(of_stack(stack));
    let found = client.get_json(&format!("/tasks?{}", filters(&[of_stack(stack)]))).await?;
    if list(&found, "").is_empty() {
        return Err(Failure::error(format!("nothing found in stack: {stack}"))
            .next("`essaim stack ls` lists the stacks that have services"));
    }
    tasks::print(client, wanted, options).await
}

/// The names of the objects in a list, and their ids, in the order of the names.
pub(super) fn named(objects: &Value, pointer: &str, id: &str) -> Vec<(String, String)> {
    let objects = list(objects, "").iter();
    let mut named: Vec<_> =
        objects.map(|object| (text(object, pointer).to_owned(), text(object, id).to_owned())).collect();
    named.sort_by(|(a, _), (b, _)| natural_order(a, b));
    named
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Lines of transcripts 199-stack-ls and 200-stack-ls-json.
    #[test]
    fn stacks_are_counted_by_their_label() {
        let service = |stack: &str| json!({"Spec": {"Labels": {NAMESPACE: stack, "other": "x"}}});
        let services = [service("vote"), service("rich"), service("vote"), json!({"Spec": {"Labels": {}}})];
        let shown = |format: Option<&str>| table(&services).render(format).expect("a table");
        assert_eq!(shown(None), "NAME      SERVICES\nrich      1\nvote      2\n");
        assert_eq!(
            shown(Some("json")),
            "{\"Name\":\"rich\",\"Services\":\"1\"}\n{\"Name\":\"vote\",\"Services\":\"2\"}\n"
        );
    }
}
