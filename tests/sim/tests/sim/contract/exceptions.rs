//! The recorded commands that are not compared because they belong to later areas, and those that differ.

use super::recorded::Command;

/// Commands of later areas: what must be in the command line, and the area.
const LATER: &[(&str, &str)] = &[
    ("--network", "services on networks"),
    ("--network-add", "services on networks"),
    ("volume", "volumes (answered by the engine: tests/cluster)"),
    ("--autolock", "autolock"),
    ("--autolock=true", "autolock"),
    ("--autolock=false", "autolock"),
    ("unlock", "autolock"),
    ("unlock-key", "autolock"),
];

/// The same by the beginning of the name: commands on objects that an earlier command of a later area made.
const LATER_BY_NAME: &[(&str, &str)] = &[
    ("061", "rotation of the authority"),
    ("165", "services on networks"),
    ("172", "services on networks"),
    ("197", "stacks (a file of the client alone)"),
    ("198", "stacks on networks"),
    ("205", "stacks on networks"),
    ("206", "stacks on networks"),
    ("207", "stacks on networks"),
    ("208", "stacks (a file of the client alone)"),
    ("209", "stacks on networks"),
    ("210", "stacks on networks"),
    ("211", "stacks on networks"),
    ("212", "stacks on networks"),
    ("213-events", "stacks on networks"),
    ("231", "autolock"),
    ("232", "autolock"),
    ("235", "autolock"),
    ("244", "autolock"),
    ("245", "autolock"),
    ("246", "autolock"),
];

/// Commands that are compared although they have a word of a later area: they need nothing of it.
const NOT_LATER: &[&str] = &["114", "179"];

/// Commands of later areas, by the beginning of their name, that are run without the flags of these areas: they set much
/// else.
const WITHOUT_FLAGS: &[&str] = &["100", "101", "102", "110", "155"];

/// Flags of later areas; each has a value.
const FLAGS: &[&str] = &["--network", "--endpoint-mode", "-p", "--publish", "--publish-add", "--publish-rm"];

/// Commands that differ, by the beginning of their name, and why.
pub(super) const EXCEPTIONS: &[(&str, &str)] = &[
    ("001", "names Essaim as the platform and among the components"),
    ("002", "names Essaim as the platform and among the components"),
    ("020", "says which half of the token is wrong and where to get the right one"),
    ("021", "says what is wrong with the token"),
    ("053", "says which half of the token is wrong"),
    ("070", "a subnet that overlaps with another network's is refused; Swarm takes it, and the network never works"),
    ("071", "lists no network with an overlapping subnet, which was refused (070)"),
    ("075", "nothing is on the ingress network: published ports need no network between nodes yet"),
    ("116", "says which constraint is wrong, and which operators there are beyond Swarm's"),
    ("140", "shows a port in host mode once; Swarm shows it once for each version of IP"),
    ("177", "completes no network with an overlapping subnet, which was refused (070)"),
    ("179", "completes no network with an overlapping subnet, which was refused (070)"),
    ("191", "a drained node's task goes on until its replacement runs; Swarm stops it first"),
    ("218", "a task of a lost node is orphaned at once; Swarm shows it as running for a day"),
    ("219", "a task of a lost node does not count as running; Swarm counts it"),
    ("222", "shows no containers of services on networks, which come later"),
    ("226", "there is no network with an overlapping subnet to prune, which was refused (070)"),
    ("239", "a node that runs is never shown as unknown; after an election Swarm shows all of them so"),
    ("240", "a lost manager is shown as down; Swarm's new leader shows it as unknown for longer"),
    ("241", "answers at once and says which managers are missing; Swarm waits twenty seconds for its deadline"),
    ("242", "says which managers are missing"),
    ("243", "shows the cluster as it was known last; Swarm shows an error instead"),
];

/// Commands whose rows come in another order here, by the beginning of their name, and why.
const IN_ANY_ORDER: &[(&str, &str)] = &[
    ("056", "two nodes of one name come in the order of their ids, and the replayed ids begin with a 0"),
    ("158", "each node sends its lines when it has them"),
    ("159", "each node sends its lines when it has them"),
    ("160", "each node sends its lines when it has them"),
    ("161", "each node sends its lines when it has them"),
    ("173", "the order of completions means nothing"),
    ("174", "the order of completions means nothing"),
    ("175", "the order of completions means nothing"),
    ("177", "the order of completions means nothing"),
    ("179", "the order of completions means nothing"),
];

/// The later area that a command belongs to.
pub(super) fn later(command: &Command) -> Option<&'static str> {
    if NOT_LATER.iter().any(|start| command.name.starts_with(start)) {
        return None;
    }
    let by_word = || LATER.iter().find(|(word, _)| command.argv.iter().any(|arg| arg == word));
    let by_name = LATER_BY_NAME.iter().find(|(start, _)| command.name.starts_with(start));
    by_name.or_else(by_word).map(|(_, area)| *area)
}

/// The arguments without the flags of later areas, for a command that is run so.
pub(super) fn without_flags(command: &Command) -> Option<Vec<String>> {
    WITHOUT_FLAGS.iter().find(|start| command.name.starts_with(**start))?;
    let mut argv = Vec::new();
    let mut words = command.argv.iter();
    while let Some(word) = words.next() {
        if FLAGS.contains(&word.as_str()) {
            words.next();
        } else {
            argv.push(word.clone());
        }
    }
    Some(argv)
}

/// Why a command differs.
pub(super) fn exception(name: &str) -> Option<&'static str> {
    EXCEPTIONS.iter().find(|(start, _)| name.starts_with(start)).map(|(_, why)| *why)
}

/// Whether the rows of a command may come in any order.
pub(super) fn in_any_order(name: &str) -> bool {
    IN_ANY_ORDER.iter().any(|(start, _)| name.starts_with(start))
}

#[test]
fn every_exception_names_a_recording() {
    let all = super::recorded::commands();
    for (start, _) in EXCEPTIONS.iter().chain(LATER_BY_NAME).chain(IN_ANY_ORDER) {
        assert!(all.iter().any(|it| it.name.starts_with(start)), "{start} is no recording");
    }
}
