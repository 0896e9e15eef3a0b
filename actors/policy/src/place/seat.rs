//! Seats: the nodes on the board, and what their tasks take up there.
//!
//! A seat has a *place*, a small number, so that placement can go through a hundred thousand nodes by index. Places are
//! given out in the order of arrival and used again; where the order of nodes can be seen, it is that of their ids
//! ([`Standing`]).

use super::needs::Needs;
use essaim_model::service::GenericResources;
use essaim_model::{Availability, GenericStock, Hardware, Node, PortProtocol, Stock};
use essaim_wire::NodeId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Number of a seat.
pub(super) type Place = u32;

/// A node, and the resources that its tasks take up.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    pub(super) id: NodeId,
    /// Record of the node; `None` when it was removed from the cluster and its tasks are still on the board.
    pub(super) node: Option<Arc<Node>>,
    /// Whether the node takes new tasks at all, by its record. This and the hardware are copied from the record, which lies
    /// elsewhere in memory, because placement asks for them of every task.
    pub(super) is_open: bool,
    pub(super) hardware: Hardware,
    pub(super) used: Hardware,
    pub(super) ports: BTreeMap<(PortProtocol, u16), u32>,
    /// Number of the node's task addresses in use; see `model::loopback`.
    pub(super) addresses: u32,
    /// Generic resources in use, by kind.
    pub(super) generic: BTreeMap<String, Used>,
    /// Number of bookings that name this seat.
    bookings: u32,
}

/// Generic resources of one kind that are in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// Things of a counted kind, and things of a named kind that are set aside before their names are chosen.
    count: u64,
    /// Things with names. A thing is in use twice while a task that holds it ends and its successor has it already.
    names: BTreeMap<String, u32>,
}

impl Seat {
    fn new(id: NodeId) -> Self {
        Self {
            id,
            node: None,
            is_open: false,
            hardware: Hardware::default(),
            used: Hardware::default(),
            ports: BTreeMap::new(),
            addresses: 0,
            generic: BTreeMap::new(),
            bookings: 0,
        }
    }

    /// Adds the needs of a task to the resources in use, or subtracts them. `given` are the generic resources that the
    /// task has; `None` when none were chosen yet.
    pub(super) fn take(&mut self, needs: &Needs, given: Option<&GenericStock>, add: bool) {
        let step =
            |used: &mut u64, by: u64| *used = if add { used.saturating_add(by) } else { used.saturating_sub(by) };
        step(&mut self.used.nano_cpus, needs.reservation.nano_cpus);
        step(&mut self.used.memory_bytes, needs.reservation.memory_bytes);
        self.addresses =
            if add { self.addresses + needs.addresses } else { self.addresses.saturating_sub(needs.addresses) };
        for port in &needs.host_ports {
            count(&mut self.ports, port, add);
        }
        match given {
            Some(given) => given.iter().for_each(|(kind, stock)| self.take_generic(kind, stock, add)),
            None => {
                needs.generic.iter().for_each(|(kind, count)| self.take_generic(kind, &Stock::Counted(*count), add));
            }
        }
    }

    fn take_generic(&mut self, kind: &str, stock: &Stock, add: bool) {
        let mut used = self.generic.remove(kind).unwrap_or_default();
        match stock {
            Stock::Counted(by) => {
                used.count = if add { used.count.saturating_add(*by) } else { used.count.saturating_sub(*by) };
            }
            Stock::Named(names) => names.iter().for_each(|name| count(&mut used.names, name, add)),
        }
        if used != Used::default() {
            self.generic.insert(kind.into(), used);
        }
    }

    /// Whether the node has as many generic resources left. What tasks hold of a kind counts only in the way the node
    /// has the kind now: when a counted kind becomes a named one, or the other way round, all of it is free.
    pub(super) fn has_generic(&self, wanted: &GenericResources) -> bool {
        wanted.iter().all(|(kind, count)| {
            let free = match self.stock(kind) {
                None => 0,
                Some(Stock::Counted(all)) => all.saturating_sub(self.generic.get(kind).map_or(0, |used| used.count)),
                Some(Stock::Named(_)) => {
                    let set_aside = self.generic.get(kind).map_or(0, |used| used.count);
                    (self.free_names(kind).count() as u64).saturating_sub(set_aside)
                }
            };
            *count == 0 || free >= *count
        })
    }

    /// The generic resources that a task with these wishes gets: the first free names of a named kind. `None` when too
    /// few are left.
    pub(super) fn choose_generic(&self, wanted: &GenericResources) -> Option<GenericStock> {
        if !self.has_generic(wanted) {
            return None;
        }
        let given = wanted.iter().filter(|(_, count)| *count > 0).map(|(kind, count)| {
            let stock = match self.stock(kind) {
                Some(Stock::Named(_)) => {
                    let names = self.free_names(kind).take(usize::try_from(*count).unwrap_or(usize::MAX));
                    Stock::Named(names.cloned().collect())
                }
                _ => Stock::Counted(*count),
            };
            (kind.clone(), stock)
        });
        Some(given.collect())
    }

    fn stock(&self, kind: &str) -> Option<&Stock> {
        self.node.as_ref()?.description.as_ref()?.generic.get(kind)
    }

    fn free_names<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a String> {
        let names = match self.stock(kind) {
            Some(Stock::Named(names)) => Some(names),
            _ => None,
        };
        let used = self.generic.get(kind);
        names.into_iter().flatten().filter(move |name| !used.is_some_and(|used| used.names.contains_key(*name)))
    }
}

/// Counts one more use of `key`, or one less; what is not used is left out.
fn count<K: Ord + Clone>(uses: &mut BTreeMap<K, u32>, key: &K, add: bool) {
    if add {
        *uses.entry(key.clone()).or_default() += 1;
    } else if let Some(count) = uses.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            uses.remove(key);
        }
    }
}

/// The seats by place.
#[derive(Debug, Clone, Default)]
pub(super) struct Seats {
    seats: Vec<Option<Seat>>,
    /// Standing of each node, by place. They are kept apart from the seats, because placement reads all of them.
    standings: Vec<Standing>,
    places: BTreeMap<NodeId, Place>,
    free: Vec<Place>,
    /// Whether the ranks are those of the present nodes. They are computed when they are first asked for after a node came
    /// or left.
    is_ranked: bool,
    /// Place of each rank.
    by_rank: Vec<Place>,
}

/// What a node is chosen by among nodes that are equal for the service: the number of its wanted tasks, and then its rank
/// in the order of node ids. One number, because the nodes are compared by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Standing(pub(super) u64);

impl Standing {
    /// One more task on the node.
    pub(super) const ONE_MORE: u64 = 1 << 32;

    pub(super) const fn load(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl Seats {
    /// Number of nodes.
    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }

    /// One more than the highest place.
    pub(super) const fn bound(&self) -> usize {
        self.seats.len()
    }

    pub(super) fn place_of(&self, id: NodeId) -> Option<Place> {
        self.places.get(&id).copied()
    }

    /// The seat of a node that is part of the cluster.
    pub(super) fn get(&self, id: NodeId) -> Option<&Seat> {
        self.place_of(id).map(|place| self.at(place)).filter(|seat| seat.node.is_some())
    }

    pub(super) fn at(&self, place: Place) -> &Seat {
        self.seats[place as usize].as_ref().expect("a place that is in use")
    }

    pub(super) fn at_mut(&mut self, place: Place) -> &mut Seat {
        self.seats[place as usize].as_mut().expect("a place that is in use")
    }

    pub(super) fn standings(&self) -> &[Standing] {
        &self.standings
    }

    pub(super) fn change_load(&mut self, place: Place, add: bool) {
        let Standing(standing) = &mut self.standings[place as usize];
        if add {
            *standing += Standing::ONE_MORE;
        } else if *standing >= Standing::ONE_MORE {
            *standing -= Standing::ONE_MORE;
        }
    }

    /// The nodes of the cluster, in the order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Place, &Seat, &Arc<Node>)> {
        self.places.values().filter_map(|place| {
            let seat = self.at(*place);
            Some((*place, seat, seat.node.as_ref()?))
        })
    }

    /// Sets the record of a node. Returns the place and the former record.
    pub(super) fn seat(&mut self, node: &Arc<Node>) -> (Place, Option<Arc<Node>>) {
        let place = self.claim(node.id);
        let seat = self.at_mut(place);
        (seat.is_open, seat.hardware) = match &node.description {
            Some(description) => (takes_tasks(node), description.hardware),
            None => (false, Hardware::default()),
        };
        (place, seat.node.replace(Arc::clone(node)))
    }

    /// Removes a node; its seat stays vacant while tasks are booked on it. Returns the place.
    pub(super) fn unseat(&mut self, id: NodeId) -> Option<Place> {
        let place = self.place_of(id)?;
        let seat = self.at_mut(place);
        (seat.node, seat.is_open) = (None, false);
        self.maybe_free(place);
        Some(place)
    }

    /// Counts a booking on a node, which gets a seat with that, or takes one off it.
    pub(super) fn book(&mut self, id: NodeId, add: bool) -> Place {
        let place = self.claim(id);
        let seat = self.at_mut(place);
        seat.bookings = if add { seat.bookings + 1 } else { seat.bookings.saturating_sub(1) };
        place
    }

    fn claim(&mut self, id: NodeId) -> Place {
        if let Some(place) = self.place_of(id) {
            return place;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.seats.push(None);
            self.standings.push(Standing::default());
            (self.seats.len() - 1) as Place
        });
        self.seats[place as usize] = Some(Seat::new(id));
        self.standings[place as usize] = Standing::default();
        self.places.insert(id, place);
        self.is_ranked = false;
        place
    }

    /// Frees the place of a removed node on which no task is booked any more.
    pub(super) fn maybe_free(&mut self, place: Place) {
        let seat = self.at(place);
        if seat.node.is_none() && seat.bookings == 0 {
            let id = seat.id;
            self.places.remove(&id);
            self.seats[place as usize] = None;
            self.free.push(place);
            self.is_ranked = false;
        }
    }

    /// Computes the ranks if a node came or left since they were computed.
    pub(super) fn rank(&mut self) {
        if !self.is_ranked {
            self.by_rank = self.places.values().copied().collect();
            for (rank, place) in (0..).zip(&self.by_rank) {
                let Standing(standing) = &mut self.standings[*place as usize];
                *standing = *standing >> 32 << 32 | rank;
            }
            self.is_ranked = true;
        }
    }

    /// The place with this rank, as ranks were last computed.
    pub(super) fn of_rank(&self, rank: u32) -> Place {
        self.by_rank[rank as usize]
    }
}

/// Whether the node takes new tasks at all.
fn takes_tasks(node: &Node) -> bool {
    node.is_ready() && !node.unsteady && node.spec.availability == Availability::Active
}
