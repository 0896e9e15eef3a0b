//! Looks up the ids of the secrets, configs and networks that flags name: the API takes ids.

use std::collections::BTreeMap;

use super::flags::Given;
use crate::client::{Client, encoded, filters};
use crate::exit::Failure;
use crate::verbs::read::{list, text};

/// Replaces every name in the flags with an id.
pub(super) async fn resolve(client: &Client, flags: &mut Given) -> Result<(), Failure> {
    let mut networks = BTreeMap::new();
    for name in flags.networks() {
        let network = client.get_json(&format!("/networks/{}?scope=swarm", encoded(&name))).await?;
        let id = text(&network, "/Id").to_owned();
        networks.insert(name, id);
    }
    flags.name_networks(&networks);
    for (word, route) in [("Secret", "secrets"), ("Config", "configs")] {
        let names = flags.references(word);
        if names.is_empty() {
            continue;
        }
        let wanted: Vec<_> = names.iter().map(|name| ("name".to_owned(), name.clone())).collect();
        let found = client.get_json(&format!("/{route}?{}", filters(&wanted))).await?;
        // The filter takes names that begin like this as well.
        let ids: BTreeMap<_, _> = list(&found, "")
            .iter()
            .map(|object| (text(object, "/Spec/Name").to_owned(), text(object, "/ID").to_owned()))
            .collect();
        if let Some(missing) = names.iter().find(|name| !ids.contains_key(*name)) {
            return Err(Failure::error(format!("{} not found: {missing}", word.to_lowercase())));
        }
        flags.name_references(word, &ids);
    }
    Ok(())
}
