//! Plain nouns: objects that have an id, a version, and a spec that operators set, and that are found by name.
//!
//! A noun is one type, its spec, that implements [`Noun`]: its word, its rules, and which services use its objects. One
//! line in `nouns!` below registers it. The registration gives it everything else: a [`Table`] in the state with an
//! index by name; a change that creates or updates ([`Put`], refused when the version it was read at is no longer the
//! object's); a change that removes (refused while a service uses the object); an event; and a piece of the snapshot.
//! All code outside of this module works with [`AnyObject`], [`AnyPut`] and [`AnyId`], or is generic over [`Noun`], and
//! needs no line for a new noun.
//!
//! Nouns that do more than being set (nodes, services, tasks) have modules of their own in this crate.
//!
//! - [`config`]: configs, bytes that tasks read.
//! - [`secret`]: secrets, bytes that tasks read and nobody else.
//! - [`payload`]: what configs and secrets have in common.
//! - [`network`]: networks, which also have what managers gave them.

pub mod config;
pub mod network;
pub mod payload;
pub mod secret;

use crate::{ConfigId, Labels, Meta, NetworkId, Refusal, RefusalKind, SecretId, Service, ServiceSpec};
use bincode::{Decode, Encode};
use config::ConfigSpec;
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Index, InvalidId, Level, Timestamp};
use imbl::{OrdMap, OrdSet};
use network::Network;
use secret::SecretSpec;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

nouns! {
    // The order of the lines is that of the variants on disk: append new lines at the end.
    Config(ConfigSpec, ConfigId) in configs;
    Secret(SecretSpec, SecretId) in secrets;
    Network(Network, NetworkId) in networks;
}

/// A plain noun: its spec, which operators set, and the rules for it.
pub trait Noun: Registered + fmt::Debug + Clone + PartialEq + Eq + Encode + Send + Sync + 'static {
    /// Docker's word for the noun, in refusals and events (`config`).
    const WORD: &'static str;

    /// Level of the release that introduced the noun. Until the cluster reaches this level no object of the noun can be
    /// created, because some manager could not read it.
    const LEVEL: Level;

    /// The object's name, unique among the objects of this noun.
    fn name(&self) -> &str;

    /// The name by which services refer to the object: its name, or that of its newest version if it is a former one.
    fn base_name(&self) -> &str {
        self.name()
    }

    /// Whether the object is a former version of another one. It is removed when no spec names it any more.
    fn is_former(&self) -> bool {
        self.base_name() != self.name()
    }

    /// The object's labels.
    fn labels(&self) -> &Labels;

    /// Refuses a spec that is invalid in any cluster.
    fn check(&self) -> Result<(), Refusal>;

    /// The spec that results from an update of this spec to `next`, or the refusal of the update.
    fn updated(&self, next: &Self) -> Result<Self, Refusal>;

    /// Refuses an object that cannot be beside `others`: every other object of the noun. The name is compared without it.
    fn check_beside<'a>(&self, others: impl Iterator<Item = &'a Arc<Object<Self>>>) -> Result<(), Refusal>
    where
        Self: 'a,
    {
        let _ = others;
        Ok(())
    }

    /// The refusal of an object whose name, which is given, or id is taken.
    fn taken(which: &dyn fmt::Display) -> Refusal {
        Refusal::new(RefusalKind::AlreadyExists, format!("{} {which} already exists", Self::WORD))
    }

    /// Whether a service with this spec uses the object. An object cannot be removed while a service uses it.
    fn is_used_by(object: &Object<Self>, service: &ServiceSpec) -> bool;

    /// Refuses to remove an object that these services use; there is at least one of them.
    fn in_use(object: &Object<Self>, users: &[&Service]) -> Refusal {
        let names: Vec<&str> = users.iter().map(|user| user.spec.name.as_str()).collect();
        let plural = if names.len() > 1 { "s" } else { "" };
        let (word, name) = (Self::WORD, object.spec.name());
        Refusal::invalid(format!("{word} '{name}' is in use by the following service{plural}: {}", names.join(", ")))
    }

    /// Bytes of the object's payload, beside the few hundred that every object takes.
    fn payload_len(&self) -> usize {
        0
    }
}

/// An object of the noun `N` in the state.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[bincode(
    bounds = "N: Noun",
    decode_bounds = "N: Noun + ::bincode::Decode<__Context>, N::Id: ::bincode::Decode<__Context>",
    borrow_decode_bounds = "N: Noun + ::bincode::de::BorrowDecode<'__de, __Context>, N::Id: ::bincode::de::BorrowDecode<'__de, __Context>"
)]
pub struct Object<N: Noun> {
    /// Id of the object.
    pub id: N::Id,
    /// Version and dates of the object.
    pub meta: Meta,
    /// Settings made by operators.
    pub spec: N,
}

/// The creation or update of an object of the noun `N`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[bincode(
    bounds = "N: Noun",
    decode_bounds = "N: Noun + ::bincode::Decode<__Context>, N::Id: ::bincode::Decode<__Context>",
    borrow_decode_bounds = "N: Noun + ::bincode::de::BorrowDecode<'__de, __Context>, N::Id: ::bincode::de::BorrowDecode<'__de, __Context>"
)]
pub struct Put<N: Noun> {
    /// Id of the object; for a new object, an id that the proposer drew.
    pub id: N::Id,
    /// Version that the update was made from; `None` to create the object.
    pub expect: Option<Index>,
    /// The new spec.
    pub spec: N,
}

/// The objects of one noun, indexed by id and by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table<N: Noun> {
    by_id: OrdMap<N::Id, Arc<Object<N>>>,
    by_name: OrdMap<String, N::Id>,
    /// The former versions among the objects.
    former: OrdSet<N::Id>,
}

impl<N: Noun> Default for Table<N> {
    fn default() -> Self {
        Self { by_id: OrdMap::new(), by_name: OrdMap::new(), former: OrdSet::new() }
    }
}

/// An object that was put or removed, before and after.
pub(crate) struct Replaced {
    /// The object before; `None` when it was created.
    pub(crate) old: Option<AnyObject>,
    /// The object after; `None` when it was removed.
    pub(crate) new: Option<AnyObject>,
}

impl<N: Noun> Table<N> {
    /// Every object, in the order of ids.
    pub(crate) fn all(&self) -> impl ExactSizeIterator<Item = &Arc<Object<N>>> {
        self.by_id.values()
    }

    /// The object with this id.
    pub(crate) fn object(&self, id: N::Id) -> Option<&Arc<Object<N>>> {
        self.by_id.get(&id)
    }

    /// The object with this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Object<N>>> {
        self.by_name.get(name).and_then(|id| self.by_id.get(id))
    }

    fn insert(&mut self, object: Arc<Object<N>>) {
        self.by_name.insert(object.spec.name().to_owned(), object.id);
        if object.spec.is_former() {
            self.former.insert(object.id);
        }
        self.by_id.insert(object.id, object);
    }

    fn take(&mut self, object: &Object<N>) {
        self.by_name.remove(object.spec.name());
        self.by_id.remove(&object.id);
        self.former.remove(&object.id);
    }
}

impl<N: Noun> Table<N> {
    /// Creates or updates an object. Returns it as it was and as it is now.
    fn put(&mut self, put: &Put<N>, (index, at): (Index, Timestamp)) -> Result<Replaced, Refusal> {
        let old = self.object(put.id).cloned();
        let new = match (put.expect, &old) {
            (None, Some(_)) => return Err(N::taken(&put.id)),
            (None, None) => {
                put.spec.check()?;
                if self.named(put.spec.name()).is_some() {
                    return Err(N::taken(&put.spec.name()));
                }
                put.spec.check_beside(self.all())?;
                Object { id: put.id, meta: Meta::new(index, at), spec: put.spec.clone() }
            }
            (Some(_), None) => return Err(Refusal::not_found(N::WORD, put.id)),
            (Some(expect), Some(old)) => {
                if old.meta.version != expect && !planted(Bug::VersionNotCompared) {
                    return Err(Refusal::out_of_sequence());
                }
                let spec = old.spec.updated(&put.spec)?;
                spec.check()?;
                let other = self.named(spec.name()).filter(|other| other.id != put.id);
                if other.is_some() {
                    return Err(N::taken(&spec.name()));
                }
                let mut meta = old.meta;
                meta.touch(index, at);
                Object { id: put.id, meta, spec }
            }
        };
        let new = Arc::new(new);
        if let Some(old) = &old {
            self.take(old);
        }
        self.insert(Arc::clone(&new));
        Ok(Replaced { old: old.map(N::any), new: Some(N::any(new)) })
    }

    /// The former versions among the objects.
    pub(crate) fn former(&self) -> &OrdSet<N::Id> {
        &self.former
    }

    /// Removes a former version, which no spec names any more.
    pub(crate) fn drop_former(&mut self, id: N::Id) -> Option<Replaced> {
        let old = self.object(id).filter(|old| old.spec.is_former()).cloned()?;
        self.take(&old);
        Some(Replaced { old: Some(N::any(old)), new: None })
    }

    /// Removes an object that none of these services uses. Returns it as it was.
    fn remove<'s>(&mut self, id: N::Id, services: impl Iterator<Item = &'s Arc<Service>>) -> Result<Replaced, Refusal> {
        let Some(old) = self.object(id).cloned() else { return Err(Refusal::not_found(N::WORD, id)) };
        let users: Vec<&Service> =
            services.map(|service| &**service).filter(|service| N::is_used_by(&old, &service.spec)).collect();
        if !users.is_empty() {
            return Err(N::in_use(&old, &users));
        }
        self.take(&old);
        Ok(Replaced { old: Some(N::any(old)), new: None })
    }
}

/// The part of a noun that `nouns!` generates: the place of its objects in a state, and conversions to the enums over
/// all nouns.
pub trait Registered: Sized {
    /// Id of the noun's objects.
    type Id: Copy + Ord + fmt::Debug + fmt::Display + FromStr<Err = InvalidId> + Encode + Send + Sync + 'static;

    /// The id with these 128 bits.
    fn id(bits: u128) -> Self::Id;

    /// The table of this noun in a state.
    fn table(tables: &Tables) -> &Table<Self>
    where
        Self: Noun;

    /// The table of this noun in a state, for changes.
    fn table_mut(tables: &mut Tables) -> &mut Table<Self>
    where
        Self: Noun;

    /// Wraps an object of this noun as [`AnyObject`].
    fn any(object: Arc<Object<Self>>) -> AnyObject
    where
        Self: Noun;

    /// Wraps a creation or update of this noun as [`AnyPut`].
    fn any_put(put: Put<Self>) -> AnyPut
    where
        Self: Noun;

    /// Wraps an id of this noun as [`AnyId`].
    fn any_id(id: Self::Id) -> AnyId;
}

/// Generates the code that differs between nouns by name only.
macro_rules! nouns {
    ($($noun:ident($spec:ty, $id:ty) in $table:ident;)+) => {
        /// The tables of all nouns.
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct Tables {
            $($table: Table<$spec>,)+
        }

        /// An object of any noun.
        #[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
        pub enum AnyObject {
            $(
                #[doc = concat!("A ", stringify!($noun), ".")]
                $noun(Arc<Object<$spec>>),
            )+
        }

        /// The creation or update of an object of any noun.
        #[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
        pub enum AnyPut {
            $(
                #[doc = concat!("Of a ", stringify!($noun), ".")]
                $noun(Put<$spec>),
            )+
        }

        /// The id of an object of any noun.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
        pub enum AnyId {
            $(
                #[doc = concat!("Of a ", stringify!($noun), ".")]
                $noun($id),
            )+
        }

        $(
            impl Registered for $spec {
                type Id = $id;

                fn id(bits: u128) -> $id {
                    <$id>::from_bits(bits)
                }

                fn table(tables: &Tables) -> &Table<Self> {
                    &tables.$table
                }

                fn table_mut(tables: &mut Tables) -> &mut Table<Self> {
                    &mut tables.$table
                }

                fn any(object: Arc<Object<Self>>) -> AnyObject {
                    AnyObject::$noun(object)
                }

                fn any_put(put: Put<Self>) -> AnyPut {
                    AnyPut::$noun(put)
                }

                fn any_id(id: $id) -> AnyId {
                    AnyId::$noun(id)
                }
            }
        )+

        impl AnyObject {
            /// Docker's word for the object's noun.
            pub const fn word(&self) -> &'static str {
                match self {
                    $(Self::$noun(_) => <$spec as Noun>::WORD,)+
                }
            }

            /// The object's id.
            pub fn id(&self) -> AnyId {
                match self {
                    $(Self::$noun(object) => AnyId::$noun(object.id),)+
                }
            }

            /// The object's version and dates.
            pub fn meta(&self) -> Meta {
                match self {
                    $(Self::$noun(object) => object.meta,)+
                }
            }

            /// The object's name.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$noun(object) => object.spec.name(),)+
                }
            }

            /// Bytes of memory that the object takes, apart from its labels.
            pub(crate) fn kept_len(&self) -> usize {
                match self {
                    $(Self::$noun(object) => size_of::<Object<$spec>>() + object.spec.payload_len(),)+
                }
            }
        }

        // A noun whose level is above the newest that this program understands could never be created.
        $(const _: () = assert!(<$spec as Noun>::LEVEL.0 <= Level::NEWEST.0);)+

        impl AnyPut {
            /// Level that the object's noun needs.
            pub const fn level(&self) -> Level {
                match self {
                    $(Self::$noun(_) => <$spec as Noun>::LEVEL,)+
                }
            }
        }

        impl AnyId {
            /// Level that the object's noun needs.
            pub const fn level(&self) -> Level {
                match self {
                    $(Self::$noun(_) => <$spec as Noun>::LEVEL,)+
                }
            }
        }

        impl fmt::Display for AnyId {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$noun(id) => id.fmt(f),)+
                }
            }
        }

        impl Tables {
            /// Creates or updates an object of any noun, at this log index and time.
            pub(crate) fn put(&mut self, put: &AnyPut, now: (Index, Timestamp)) -> Result<Replaced, Refusal> {
                match put {
                    $(AnyPut::$noun(put) => self.$table.put(put, now),)+
                }
            }

            /// Removes an object of any noun that none of these services uses.
            pub(crate) fn remove<'s>(
                &mut self,
                id: AnyId,
                services: impl Iterator<Item = &'s Arc<Service>>,
            ) -> Result<Replaced, Refusal> {
                match id {
                    $(AnyId::$noun(id) => self.$table.remove(id, services),)+
                }
            }

            /// Every object of every noun.
            pub(crate) fn objects(&self) -> impl Iterator<Item = AnyObject> + '_ {
                std::iter::empty()$(.chain(self.$table.all().cloned().map(AnyObject::$noun)))+
            }

            /// Inserts an object of any noun, from a snapshot.
            pub(crate) fn insert(&mut self, object: AnyObject) {
                match object {
                    $(AnyObject::$noun(object) => self.$table.insert(object),)+
                }
            }
        }
    };
}
use nouns;

#[cfg(test)]
essaim_wire::golden_bytes!("noun": Object<ConfigSpec>, Put<ConfigSpec>, AnyObject, AnyPut, AnyId);

#[cfg(test)]
pub(crate) mod tests;
