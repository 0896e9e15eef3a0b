//! Changes of plain nouns. Their rules, and the tables that they change, are in `noun`.

use super::Made;
use crate::noun::Registered;
use crate::noun::Replaced;
use crate::noun::payload::PayloadNoun;
use crate::{
    AnyId, AnyPut, ConfigSpec, Event, Noun, Payload, PayloadId, Refusal, SecretSpec, Service, ServiceSpec, State,
};
use std::collections::BTreeSet;
use std::sync::Arc;

impl State {
    pub(super) fn put_object(&mut self, put: &AnyPut, events: &mut Vec<Event>) -> Made {
        let replaced = self.tables.put(put, (self.applied.index, self.at))?;
        events.push(event(replaced));
        Ok(())
    }

    pub(super) fn remove_object(&mut self, id: AnyId, events: &mut Vec<Event>) -> Made {
        let replaced = self.tables.remove(id, self.services.values())?;
        replaced.old.iter().for_each(|removed| self.put_into_quarantine(removed));
        events.push(event(replaced));
        Ok(())
    }

    /// Gives a secret or config new data, and moves the services that use it. See `noun::payload`.
    pub(super) fn rotate_payload(
        &mut self,
        from: PayloadId,
        to: PayloadId,
        data: &Payload,
        events: &mut Vec<Event>,
    ) -> Made {
        match (from, to) {
            (PayloadId::Secret(from), PayloadId::Secret(to)) => self.rotate::<SecretSpec>((from, to), data, events),
            (PayloadId::Config(from), PayloadId::Config(to)) => self.rotate::<ConfigSpec>((from, to), data, events),
            _ => Err(Refusal::invalid("a secret is no version of a config")),
        }
    }

    /// Services that still use an older version, because they went back to it, are moved as well. A job is not: a new spec
    /// would run it again. A scheduled job takes the newest version with its next iteration, any other job with its next
    /// update.
    fn rotate<N: PayloadNoun>(&mut self, (from, to): (N::Id, N::Id), data: &Payload, events: &mut Vec<Event>) -> Made {
        let replaced = N::table_mut(&mut self.tables).rotate((from, to), data, (self.applied.index, self.at))?;
        events.extend(replaced.map(event));
        let name = self.object::<N>(to).map(|object| object.spec.name().to_owned()).unwrap_or_default();
        let concerned = |word: &str, of: &str| word == <N as PayloadNoun>::WORD && of == name;
        let services: Vec<Arc<Service>> = self.services.values().filter(|it| !it.spec.mode.is_job()).cloned().collect();
        for service in services {
            if let Some(spec) = self.with_newest_payloads(&service.spec, concerned) {
                let message = format!("update in progress: {} {name} was rotated", <N as PayloadNoun>::WORD);
                self.update_to(&service, &spec, message, events)?;
            }
        }
        self.drop_former_payloads(events);
        Ok(())
    }

    /// The spec with the newest versions of the secrets and configs that it names and that `concerned` (by noun and name)
    /// accepts; `None` when it has them.
    pub(super) fn with_newest_payloads(
        &self,
        spec: &ServiceSpec,
        concerned: impl Fn(&str, &str) -> bool,
    ) -> Option<ServiceSpec> {
        let mut new = spec.clone();
        let container = &mut new.task.container;
        container
            .secrets
            .renew(|id, name| if concerned("secret", name) { self.newest::<SecretSpec>(id, name) } else { id });
        container
            .configs
            .renew(|id, name| if concerned("config", name) { self.newest::<ConfigSpec>(id, name) } else { id });
        (new != *spec).then_some(new)
    }

    /// The newest version of an object that a service names `name`; the object itself if it was named as a former
    /// version.
    fn newest<N: Noun>(&self, id: N::Id, name: &str) -> N::Id {
        let is_former = |spec: &N| spec.is_former() && spec.base_name() == name;
        let former = self.object::<N>(id).filter(|object| is_former(&object.spec));
        former.and_then(|_| self.object_named::<N>(name)).map_or(id, |newest| newest.id)
    }

    /// Removes former versions of secrets and configs that no kept spec names.
    pub(super) fn drop_former_payloads(&mut self, events: &mut Vec<Event>) {
        let (secrets, configs) = (self.former::<SecretSpec>(), self.former::<ConfigSpec>());
        if secrets.is_empty() && configs.is_empty() {
            return;
        }
        let used: BTreeSet<PayloadId> =
            self.specs.values().flat_map(|kept| kept.spec.task.container.payloads().collect::<Vec<_>>()).collect();
        for id in secrets.into_iter().filter(|id| !used.contains(&PayloadId::Secret(*id))) {
            events.extend(SecretSpec::table_mut(&mut self.tables).drop_former(id).map(event));
        }
        for id in configs.into_iter().filter(|id| !used.contains(&PayloadId::Config(*id))) {
            events.extend(ConfigSpec::table_mut(&mut self.tables).drop_former(id).map(event));
        }
    }

    fn former<N: Noun>(&self) -> Vec<N::Id> {
        N::table(&self.tables).former().iter().copied().collect()
    }
}

fn event(replaced: Replaced) -> Event {
    Event::Object { old: replaced.old, new: replaced.new }
}

#[cfg(test)]
mod tests {
    use crate::apply::tests::World;
    use crate::fixtures::{self, create_secret, secrets};
    use crate::*;
    use std::sync::Arc;

    const KEY: SecretId = SecretId::from_bits(1);
    const WEB: ServiceId = ServiceId::from_bits(7);

    fn rotate(from: u128, to: u128, data: &str) -> Change {
        let id = |id| PayloadId::Secret(SecretId::from_bits(id));
        Change::RotatePayload { from: id(from), to: id(to), data: data.as_bytes().into() }
    }

    fn create(id: u128, name: &str, change: impl FnOnce(&mut ServiceSpec)) -> Change {
        let mut spec = fixtures::service(name, 2);
        spec.task.container.secrets = secrets(&[(1, "key")]);
        change(&mut spec);
        Change::CreateService { id: ServiceId::from_bits(id), spec: Box::new(spec) }
    }

    /// A cluster with the secret `key` of id 1 and the service `web` that uses it.
    fn with_web() -> World {
        let mut world = World::new();
        world.done(create_secret(1, "key", b"first"));
        world.done(create(7, "web", |_| ()));
        world
    }

    fn web(world: &World) -> Arc<Service> {
        Arc::clone(world.state.service(WEB).expect("there"))
    }

    /// The secret that a service uses, and its data.
    fn used(world: &World, id: ServiceId) -> (u128, String) {
        let secret = world.state.service(id).expect("there").spec.task.container.secrets[0].id;
        let data = world.state.payload(PayloadId::Secret(secret)).expect("kept");
        (secret.bits(), String::from_utf8_lossy(data).into_owned())
    }

    fn names(world: &World) -> Vec<String> {
        world.state.all::<SecretSpec>().map(|secret| secret.spec.name.clone()).collect()
    }

    #[test]
    fn a_rotation_moves_the_services_and_a_rollback_goes_back_to_the_former_version() {
        let mut world = with_web();
        let events = world.done(rotate(1, 2, "second"));
        let at = world.state.applied().index.0;
        assert_eq!(used(&world, WEB), (2, "second".into()));
        assert_eq!(names(&world), [format!("key@{at}"), "key".into()]);
        let update = web(&world).update.clone().expect("it is updated");
        assert_eq!(
            (update.state, update.message.as_str()),
            (UpdateState::Updating, "update in progress: secret key was rotated")
        );
        assert_eq!(web(&world).spec.task.container.secrets[0].name, "key");
        assert!(matches!(
            events[..],
            [Event::Object { old: Some(_), new: Some(_) }, Event::Object { old: None, .. }, Event::Service { .. }]
        ));

        let expect = web(&world).meta.version;
        world.done(Change::UpdateService { id: WEB, expect, spec: None });
        assert_eq!(used(&world, WEB), (1, "first".into()), "the former version, under the name of its reference");
        world.done(rotate(2, 3, "third"));
        assert_eq!(used(&world, WEB), (3, "third".into()), "a service that went back is moved again");
    }

    #[test]
    fn a_former_version_is_removed_when_no_kept_spec_names_it() {
        let mut world = with_web();
        world.done(create(8, "other", |_| ()));
        world.done(rotate(1, 2, "second"));
        assert_eq!(names(&world).len(), 2);
        world.done(Change::RemoveService { id: WEB });
        assert_eq!(names(&world).len(), 2, "the other service may go back to it");
        let events = world.done(Change::RemoveService { id: ServiceId::from_bits(8) });
        assert_eq!(names(&world), ["key"]);
        assert!(matches!(events.last(), Some(Event::Object { old: Some(_), new: None })));
        world.done(rotate(2, 3, "third"));
        assert_eq!(names(&world), ["key"], "nobody used the second");
    }

    #[test]
    fn former_versions_go_with_the_oldest_kept_specs() {
        let mut world = with_web();
        for to in 2..40 {
            world.done(rotate(to - 1, to, "next"));
        }
        assert_eq!(names(&world).len(), service::FORMER_MAX + 1);
        let mut restored = State::default();
        world.state.pieces().for_each(|piece| restored.insert(piece));
        assert_eq!(restored, world.state);
    }

    #[test]
    fn a_job_is_not_run_again_and_takes_the_newest_version_with_its_next_iteration() {
        let mut world = with_web();
        let job = ServiceId::from_bits(8);
        world.done(create(8, "backup", |spec| {
            spec.mode = Mode::ReplicatedJob { concurrent_max: None, completions: None }
        }));
        world.done(rotate(1, 2, "second"));
        let found = world.state.service(job).expect("there");
        assert_eq!((found.iteration(), used(&world, job).0), (Some(0), 1));
        world.done(Change::RunJob { id: job, after: 0 });
        assert_eq!(used(&world, job), (2, "second".into()));
        let version = world.state.service(job).expect("there").spec_version;
        let kept = world.state.spec(job, version).expect("kept").task.container.secrets[0].id;
        assert_eq!(kept, SecretId::from_bits(2), "which is what its tasks follow");
    }

    #[test]
    fn what_cannot_be_rotated_is_refused_in_words() {
        let mut world = with_web();
        assert_eq!(world.refused(rotate(5, 6, "x")), format!("secret {} not found", SecretId::from_bits(5)));
        assert!(world.refused(rotate(1, 2, "")).starts_with("secret data must be larger than 0"));
        world.done(rotate(1, 2, "second"));
        let former = names(&world)[0].clone();
        let words = format!("secret {former} is a former version of key, which cannot be changed");
        assert_eq!(world.refused(rotate(1, 3, "x")), words, "somebody else rotated it meanwhile");
        let (expect, spec) = {
            let former = world.state.object::<SecretSpec>(KEY).expect("kept");
            (former.meta.version, former.spec.clone())
        };
        let put = AnyPut::Secret(Put { id: KEY, expect: Some(expect), spec });
        assert_eq!(world.refused(Change::PutObject(Box::new(put))), words);
        let config = PayloadId::Config(ConfigId::from_bits(9));
        let mixed = Change::RotatePayload { from: PayloadId::Secret(KEY), to: config, data: b"x"[..].into() };
        assert_eq!(world.refused(mixed), "a secret is no version of a config");
        let by_its_own_name = create(9, "pinned", |spec| spec.task.container.secrets = secrets(&[(1, &former)]));
        world.done(by_its_own_name);
        world.done(rotate(2, 3, "third"));
        assert_eq!(used(&world, ServiceId::from_bits(9)).0, 1, "it was named as a former version");
        assert_eq!(
            world.refused(Change::RemoveObject(AnyId::Secret(KEY))),
            format!("secret '{former}' is in use by the following service: pinned")
        );
    }
}
