//! The published ports that this node cannot listen on, and the reasons, in words for people. Knows nothing of sockets,
//! clocks or actors.
//!
//! A port is tried again until it can be listened on. Meanwhile the machine's description has it, so that managers show
//! it, and the journal has each new reason once.

use essaim_model::{PortKey, PortProtocol, UNPUBLISHED_MAX, UNPUBLISHED_WHY_MAX, UnpublishedPort};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Addresses that a reason names; further ones are counted.
const ADDRESSES_MAX: usize = 2;

/// A port at an address of this machine.
pub(super) type Place = (PortKey, IpAddr);

/// The ports that could not be listened on, each with its reason.
#[derive(Debug, Default)]
pub(super) struct Failures {
    failed: BTreeMap<Place, Failure>,
}

#[derive(Debug)]
struct Failure {
    why: Why,
    /// The words that the journal was told last; `None` while the program that holds the port is being looked for.
    told: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Why {
    /// Another program holds the port; its name when the machine tells it.
    Held(Option<String>),
    /// The kernel refuses the port, in its words.
    Refused(String),
}

impl Why {
    fn words(&self) -> String {
        match self {
            Self::Held(Some(program)) => format!("held by {program}"),
            Self::Held(None) => "held by another program".into(),
            Self::Refused(why) => why.clone(),
        }
    }
}

impl Failures {
    /// Notes that a port could not be listened on. The program that held it last keeps its name until the next answer.
    pub(super) fn failed(&mut self, at: Place, error: &io::Error) {
        let is_held = error.kind() == io::ErrorKind::AddrInUse;
        let refused = || Why::Refused(error.to_string());
        let why = if is_held { Why::Held(None) } else { refused() };
        match self.failed.get_mut(&at) {
            Some(failure) if is_held && matches!(failure.why, Why::Held(_)) => (),
            Some(failure) => failure.why = why,
            None => drop(self.failed.insert(at, Failure { why, told: None })),
        }
    }

    /// Notes that a port is listened on. Returns whether it could not be before.
    pub(super) fn listens(&mut self, at: &Place) -> bool {
        self.failed.remove(at).is_some()
    }

    /// Forgets the ports that are not wanted any more.
    pub(super) fn retain(&mut self, wanted: impl Fn(&Place) -> bool) {
        self.failed.retain(|at, _| wanted(at));
    }

    /// The ports that other programs hold, to be looked up on the machine.
    pub(super) fn held(&self) -> Vec<(PortProtocol, SocketAddr)> {
        let held = self.failed.iter().filter(|(_, failure)| matches!(failure.why, Why::Held(_)));
        held.map(|((key, address), _)| (key.protocol, SocketAddr::new(*address, key.number))).collect()
    }

    /// Takes over the names of the programs that hold ports.
    pub(super) fn on_holders(&mut self, held: &[(PortProtocol, SocketAddr)], holders: Vec<Option<String>>) {
        for ((protocol, at), holder) in held.iter().zip(holders) {
            let key = PortKey { protocol: *protocol, number: at.port() };
            if let Some(failure) = self.failed.get_mut(&(key, at.ip()))
                && matches!(failure.why, Why::Held(_))
            {
                failure.why = Why::Held(holder);
            }
        }
    }

    /// The records that the journal lacks: one for each port at an address, and again when the reason changes.
    pub(super) fn untold(&mut self) -> Vec<String> {
        let mut records = Vec::new();
        for ((key, address), failure) in &mut self.failed {
            let words = failure.why.words();
            if failure.told.as_ref() != Some(&words) {
                records.push(format!("port {key} cannot be published on {address}: {words}"));
                failure.told = Some(words);
            }
        }
        records
    }

    /// The ports for the machine's description, by number.
    pub(super) fn unpublished(&self) -> Vec<UnpublishedPort> {
        let mut reasons: BTreeMap<PortKey, BTreeMap<String, BTreeSet<IpAddr>>> = BTreeMap::new();
        for ((key, address), failure) in &self.failed {
            reasons.entry(*key).or_default().entry(failure.why.words()).or_default().insert(*address);
        }
        let words = |(why, addresses): (String, BTreeSet<IpAddr>)| {
            let named: Vec<_> = addresses.iter().take(ADDRESSES_MAX).map(ToString::to_string).collect();
            let more = match addresses.len() - named.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{why} (at {}{more})", named.join(", "))
        };
        let port = |(port, reasons): (PortKey, BTreeMap<String, BTreeSet<IpAddr>>)| {
            let mut why = reasons.into_iter().map(words).collect::<Vec<_>>().join("; ");
            why.truncate(why.floor_char_boundary(UNPUBLISHED_WHY_MAX));
            UnpublishedPort { port, why }
        };
        reasons.into_iter().take(UNPUBLISHED_MAX).map(port).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u16, host: u8) -> Place {
        (PortKey { protocol: PortProtocol::Tcp, number }, [10, 0, 0, host].into())
    }

    fn words(failures: &Failures) -> Vec<(u16, String)> {
        failures.unpublished().into_iter().map(|it| (it.port.number, it.why)).collect()
    }

    #[test]
    fn a_held_port_names_its_program_and_its_addresses_until_it_is_free() {
        let mut failures = Failures::default();
        let in_use = || io::Error::from(io::ErrorKind::AddrInUse);
        for host in 1..=4 {
            failures.failed(at(80, host), &in_use());
        }
        let held = failures.held();
        assert_eq!(held.len(), 4);
        let nginx = || Some("nginx (pid 7)".to_owned());
        failures.on_holders(&held, vec![nginx(), nginx(), nginx(), None]);
        let expected =
            "held by another program (at 10.0.0.4); held by nginx (pid 7) (at 10.0.0.1, 10.0.0.2 and 1 more)";
        assert_eq!(words(&failures), [(80, expected.into())]);
        assert_eq!(failures.untold().len(), 4);
        // It is held at the next try, too, and keeps its name.
        failures.failed(at(80, 1), &in_use());
        assert_eq!(words(&failures), [(80, expected.into())]);
        assert_eq!(failures.untold(), Vec::<String>::new());
        assert!(failures.listens(&at(80, 1)) && !failures.listens(&at(80, 1)));
        failures.retain(|at| at.1 == IpAddr::from([10, 0, 0, 2]));
        assert_eq!(words(&failures), [(80, "held by nginx (pid 7) (at 10.0.0.2)".into())]);
        failures.on_holders(&held, vec![None; 4]);
        assert_eq!(failures.untold(), ["port 80/tcp cannot be published on 10.0.0.2: held by another program"]);
    }

    #[test]
    fn a_port_that_the_kernel_refuses_has_the_kernels_words() {
        let mut failures = Failures::default();
        failures.failed(at(80, 1), &io::Error::from_raw_os_error(13));
        assert_eq!(failures.held(), []);
        assert_eq!(words(&failures), [(80, "Permission denied (os error 13) (at 10.0.0.1)".into())]);
    }

    #[test]
    fn what_is_told_of_ports_fits_into_a_description() {
        let mut failures = Failures::default();
        for number in 1..=200 {
            failures.failed(at(number, 1), &io::Error::other("é".repeat(500)));
        }
        let unpublished = failures.unpublished();
        let description = essaim_model::NodeDescription { unpublished, ..Default::default() };
        assert_eq!(description.check(), Ok(()));
        assert_eq!(description.unpublished.len(), UNPUBLISHED_MAX);
    }
}
