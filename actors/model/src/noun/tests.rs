//! Tests of the rules that all plain nouns share, with configs as the example.

use super::payload::PayloadNoun;
use crate::apply::tests::World;
use crate::fixtures::{create_secret, secrets};
use crate::service::{ConfigReference, ConfigReferences, ConfigTarget};
use crate::{
    AnyId, AnyPut, Change, ConfigId, ConfigSpec, Event, Labels, Payload, Put, RefusalKind, SecretId, SecretSpec,
    ServiceId,
};
use essaim_wire::Index;
use std::sync::Arc;

pub(crate) fn config(name: &str, data: &[u8]) -> ConfigSpec {
    ConfigSpec { name: name.into(), labels: Labels::new(), data: data.into() }
}

pub(crate) fn create(id: u128, spec: ConfigSpec) -> Change {
    put(id, None, spec)
}

fn put(id: u128, expect: Option<Index>, spec: ConfigSpec) -> Change {
    Change::PutObject(Box::new(AnyPut::Config(Put { id: ConfigId::from_bits(id), expect, spec })))
}

fn remove(id: u128) -> Change {
    Change::RemoveObject(AnyId::Config(ConfigId::from_bits(id)))
}

fn labelled(spec: &ConfigSpec, label: &str) -> ConfigSpec {
    ConfigSpec { labels: Labels::from([(label.into(), String::new())]), ..spec.clone() }
}

/// A cluster with the config `site` of id 1, and the version of that config.
fn with_site() -> (World, Index) {
    let mut world = World::new();
    world.done(create(1, config("site", b"<h1>")));
    let version = world.state.object_named::<ConfigSpec>("site").expect("created").meta.version;
    (world, version)
}

#[test]
fn an_object_is_found_by_its_id_and_its_name_until_it_is_removed() {
    let (mut world, version) = with_site();
    let id = ConfigId::from_bits(1);
    let found = Arc::clone(world.state.object::<ConfigSpec>(id).expect("created"));
    assert_eq!((found.id, found.meta.version, &*found.spec.data), (id, version, &b"<h1>"[..]));
    assert_eq!(world.state.all::<ConfigSpec>().len(), 1);
    let events = world.done(remove(1));
    assert_eq!(events, [Event::Object { old: Some(crate::AnyObject::Config(found)), new: None }]);
    assert!(world.state.object::<ConfigSpec>(id).is_none());
    world.done(create(2, config("site", b"the name is free again")));
}

#[test]
fn a_name_and_an_id_are_taken_once() {
    let (mut world, _) = with_site();
    let refused = world.refusal(create(2, config("site", b"y")));
    assert_eq!((refused.kind, refused.text.as_str()), (RefusalKind::AlreadyExists, "config site already exists"));
    assert_eq!(world.refusal(create(1, config("other", b"y"))).kind, RefusalKind::AlreadyExists);
}

#[test]
fn an_update_names_the_version_that_it_was_made_from() {
    let (mut world, version) = with_site();
    let spec = labelled(&config("site", b"<h1>"), "a");
    assert_eq!(world.refused(put(1, Some(Index(1)), spec.clone())), "update out of sequence");
    world.done(put(1, Some(version), spec.clone()));
    let now = Arc::clone(world.state.object_named::<ConfigSpec>("site").expect("still there"));
    assert_eq!(now.spec, spec);
    assert!(now.meta.version > version && now.meta.updated_at > now.meta.created_at);
    assert_eq!(world.refused(put(1, Some(version), spec.clone())), "update out of sequence", "it is another now");
    assert_eq!(world.refusal(put(9, Some(version), spec)).kind, RefusalKind::NotFound);
}

#[test]
fn only_the_labels_of_a_config_change_and_its_data_stay_where_they_are_in_memory() {
    let (mut world, version) = with_site();
    let before = world.state.object_named::<ConfigSpec>("site").expect("there").spec.data.clone();
    for spec in [config("other", b"<h1>"), config("site", b"<h2>")] {
        assert_eq!(world.refused(put(1, Some(version), spec)), "only updates to Labels are allowed");
    }
    world.done(put(1, Some(version), labelled(&config("site", b""), "a")));
    let template = Payload::template(b"<h1>".to_vec());
    let changed = ConfigSpec { data: template, ..config("site", b"") };
    let version = world.state.object_named::<ConfigSpec>("site").expect("there").meta.version;
    assert_eq!(world.refused(put(1, Some(version), changed)), "only updates to Labels are allowed", "nor the driver");
    let after = &world.state.object_named::<ConfigSpec>("site").expect("there").spec;
    assert_eq!(after.data.as_ptr(), before.as_ptr(), "an update without data keeps them");
    assert!(after.labels.contains_key("a"));
}

#[test]
fn a_config_has_data_and_a_name_within_the_limits() {
    let mut world = World::new();
    let size = format!("config data must be larger than 0 and less than {} bytes", ConfigSpec::LEN_MAX);
    for data in [vec![], vec![0; ConfigSpec::LEN_MAX]] {
        assert_eq!(world.refused(create(1, config("site", &data))), size);
    }
    world.done(create(1, config("largest.of_all-names", &vec![0; ConfigSpec::LEN_MAX - 1])));
    assert_eq!(world.refused(create(2, config("", b"x"))), "name must be provided");
    for name in [".x", "x-", "a b", "ü", &"n".repeat(65)] {
        assert!(world.refused(create(2, config(name, b"x"))).starts_with("invalid name, only 64 "), "{name}");
    }
    world.done(create(2, config(&"n".repeat(64), b"x")));
}

#[test]
fn a_secret_has_data_within_its_own_limit_and_a_name_of_its_own() {
    let (mut world, _) = with_site();
    let size = format!("secret data must be larger than 0 and less than {} bytes", SecretSpec::LEN_MAX);
    for data in [vec![], vec![0; SecretSpec::LEN_MAX]] {
        assert_eq!(world.refused(create_secret(1, "key", &data)), size);
    }
    // A config of the same name and id is another object.
    world.done(create_secret(1, "site", &vec![0; SecretSpec::LEN_MAX - 1]));
    assert_eq!(world.refused(create_secret(2, "site", b"x")), "secret site already exists");
    assert!(world.refused(create_secret(2, "no way", b"x")).starts_with("invalid name, only 64 "));
}

#[test]
fn an_object_thaot_removed_while_a_service_names_it_and_a_service_names_only_what_is_there() {
    let (mut world, _) = with_site();
    let service = |name: &str, config: &str| {
        let reference = |id| ConfigReference { id, name: config.into(), target: ConfigTarget::Runtime };
        let mut spec = crate::fixtures::service(name, 1);
        let references = ConfigReferences::parse(vec![reference(ConfigId::from_bits(1))]);
        spec.task.container.configs = references.expect("one file each");
        Box::new(spec)
    };
    let create = |id, spec| Change::CreateService { id: ServiceId::from_bits(id), spec };
    assert_eq!(world.refused(create(7, service("web", "another"))), "config not found: another");
    world.done(create(7, service("web", "site")));
    assert_eq!(world.refused(remove(1)), "config 'site' is in use by the following service: web");
    world.done(create(8, service("db", "site")));
    assert_eq!(world.refused(remove(1)), "config 'site' is in use by the following services: web, db");
    world.done(Change::RemoveService { id: ServiceId::from_bits(8) });
    world.done(Change::RemoveService { id: ServiceId::from_bits(7) });
    world.done(remove(1));
    assert_eq!(world.refused(create(8, service("web", "site"))), "config not found: site");
}

#[test]
fn a_secret_is_not_removed_while_a_service_names_it_and_a_service_names_only_what_is_there() {
    let mut world = World::new();
    let service = |named: &[(u128, &str)]| {
        let mut spec = crate::fixtures::service("db", 1);
        spec.task.container.secrets = secrets(named);
        Change::CreateService { id: ServiceId::from_bits(7), spec: Box::new(spec) }
    };
    assert_eq!(world.refused(service(&[(1, "key")])), "secret not found: key");
    assert_eq!(world.refused(service(&[(1, "key"), (2, "token")])), "secrets not found: key, token");
    world.done(create_secret(1, "key", b"s3cr3t"));
    world.done(service(&[(1, "key")]));
    let remove = || Change::RemoveObject(AnyId::Secret(SecretId::from_bits(1)));
    assert_eq!(world.refused(remove()), "secret 'key' is in use by the following service: db");
    world.done(Change::RemoveService { id: ServiceId::from_bits(7) });
    world.done(remove());
}

#[test]
fn a_payload_is_kept_by_the_event_that_removes_it() {
    let mut world = World::new();
    let created = world.done(create(1, config("site", &[7; 1000])));
    let removed = world.done(remove(1));
    assert!(created[0].kept_len() < 1000 && removed[0].kept_len() > 1000, "{created:?}");
}
