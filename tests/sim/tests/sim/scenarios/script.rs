//! The language of scenarios: one command a line, in words that an operator would use.
//!
//! A line is a comment (`#`), empty, a command (`>`), or, indented by four spaces, output of the command above it. Any
//! other line, and an unknown command, is refused with its line number and a list of all commands.

use essaim::testkit::fault::{Fault, Number};
use std::fmt;
use std::time::Duration;

/// Forms of all commands, shown when a command cannot be read.
const FORMS: &str = "\
  cluster of N nodes, M managers, seed S                       always first

  what an operator asks, of a manager that can be reached or, with ` at nX` behind it, of that node:
  create NAME, R replicas|on every node [, SETTING]…           update NAME[, SETTING]…
  scale NAME to R      roll back NAME      remove NAME
  drain|pause|activate|promote|demote nX   label nX KEY=VALUE
  remove nX [by force]                     nX leaves [by force]
    SETTING: image I · only where KEY==VALUE · restart never|on failure|after T · N at a time
             watch T · on failure pause|continue|rollback · start first · stop within T · label KEY=VALUE

  what goes wrong, until `heal` or what is said behind the arrow:
  kill nX, restart nX → start nX           cut the power of nX|everybody → power
  cut off nX           cut nX from nY      nothing gets from nX to nY
  freeze nX → thaw nX  lose N of 1000 packets
  slow disk of nX, T   full disk of nX     failing disk of nX
  fail PATH            hand over           heal
  program I fails to start|is missing|ignores stops|runs for ever|ends after T with code N

  what passes, and what is looked at:
  wait T               settle
  until NAME runs N    until nX is up|down   until nX leads    until the update of NAME is STATE
  nodes                services            tasks of NAME       spread of NAME       machines
  records              records of PATH";

/// A scenario's lines, without the recorded output.
pub(super) struct Script {
    pub(super) lines: Vec<Line>,
}

/// A line of a scenario that is not recorded output.
pub(super) enum Line {
    /// A comment or an empty line.
    Prose(String),
    /// A line that begins with `>`.
    Command {
        /// The command as it is written, without `> `.
        text: String,
        /// Line number in the file.
        number: usize,
        /// The command, parsed.
        command: Command,
    },
}

/// A parsed command.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    Cluster {
        nodes: Number,
        managers: Number,
        seed: u64,
    },
    Ask {
        what: Request,
        at: Option<Number>,
    },
    Strike(Fault),
    Relieve(Relief),
    /// Kills the actor with this path.
    Fail(String),
    Program {
        image: String,
        does: Program,
    },
    Wait(Duration),
    Settle,
    Until(Condition),
    Show {
        what: View,
        at: Option<Number>,
    },
}

/// A request that an operator sends to the API.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    /// Creates a service; `replicas` is `None` for a global service.
    Create {
        name: String,
        replicas: Option<u32>,
        settings: Vec<Setting>,
    },
    Update {
        name: String,
        settings: Vec<Setting>,
    },
    Scale {
        name: String,
        replicas: u32,
    },
    RollBack {
        name: String,
    },
    Remove {
        name: String,
    },
    Availability {
        node: Number,
        word: &'static str,
    },
    Role {
        node: Number,
        word: &'static str,
    },
    Label {
        node: Number,
        key: String,
        value: String,
    },
    RemoveNode {
        node: Number,
        force: bool,
    },
    Leave {
        node: Number,
        force: bool,
    },
}

/// A setting in the spec of a service.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Setting {
    Image(String),
    Only(String),
    RestartOn(&'static str),
    RestartAfter(Duration),
    AtATime(u64),
    Watch(Duration),
    OnFailure(String),
    StartFirst,
    StopWithin(Duration),
    Label(String, String),
}

/// The end of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relief {
    Everything,
    /// Starts a node's daemon again after `kill` or `restart`.
    Start(Number),
    Thaw(Number),
    Power,
}

/// Behaviour of the tasks of an image.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Program {
    FailsToStart,
    Missing,
    IgnoresStops,
    RunsForEver,
    Ends { after: Duration, code: i32 },
}

/// A condition that a scenario waits for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    Runs { name: String, replicas: u64 },
    Node { node: Number, is: &'static str },
    Leads(Number),
    Update { name: String, state: String },
}

/// A table or list that a scenario shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum View {
    Nodes,
    Services,
    Tasks(String),
    Spread(String),
    Machines,
    Records(Option<String>),
}

/// Error of a line that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    line: usize,
    why: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl Script {
    /// Parses a scenario; recorded output is skipped.
    pub(super) fn read(text: &str) -> Result<Self, Unreadable> {
        let mut lines: Vec<Line> = Vec::new();
        let mut commands = 0;
        for (number, line) in text.lines().enumerate().map(|(place, line)| (place + 1, line)) {
            let unreadable = |why: String| Unreadable { line: number, why };
            if let Some(text) = line.strip_prefix("> ") {
                let command = Command::read(text)
                    .map_err(|why| unreadable(format!("`{text}`: {why}\nThese are the commands:\n\n{FORMS}\n")))?;
                if matches!(command, Command::Cluster { .. }) != (commands == 0) {
                    return Err(unreadable("`cluster of …` is the first command, and only that".into()));
                }
                commands += 1;
                lines.push(Line::Command { text: text.into(), number, command });
            } else if line.is_empty() || line.starts_with('#') {
                lines.push(Line::Prose(line.into()));
            } else if !line.starts_with("    ") {
                let why = "expected a comment (`# …`), a command (`> …`), or what was seen (behind four spaces)";
                return Err(unreadable(why.into()));
            } else if commands == 0 {
                return Err(unreadable("something was seen before the first command".into()));
            }
        }
        if commands == 0 {
            return Err(Unreadable { line: 1, why: "there is no command in it".into() });
        }
        Ok(Self { lines })
    }
}

impl Command {
    fn read(text: &str) -> Result<Self, String> {
        let (rest, at) = match text.rsplit_once(" at ") {
            Some((rest, who)) if who.starts_with('n') && !who.contains(' ') => (rest, Some(node(who)?)),
            _ => (text, None),
        };
        let parts: Vec<&str> = rest.split(", ").collect();
        let words: Vec<&str> = parts[0].split(' ').collect();
        if let Some(what) = Request::read(&words, &parts[1..])? {
            return Ok(Self::Ask { what, at });
        }
        if let Some(what) = View::read(&words, parts.len()) {
            return Ok(Self::Show { what, at });
        }
        if at.is_some() {
            return Err("this is not asked of a node".into());
        }
        match (words.as_slice(), &parts[1..]) {
            (["cluster", "of", nodes, "nodes"], [managers, seed]) => Ok(Self::Cluster {
                nodes: number(nodes)?,
                managers: number(
                    managers.strip_suffix(" managers").or(managers.strip_suffix(" manager")).unwrap_or(""),
                )?,
                seed: number(seed.strip_prefix("seed ").unwrap_or(""))?,
            }),
            (["slow", "disk", "of", of], [lag]) => Ok(Self::Strike(Fault::SlowDisk(node(of)?, span(lag)?))),
            (["program", image, does @ ..], []) => {
                let does = match does {
                    ["fails", "to", "start"] => Program::FailsToStart,
                    ["is", "missing"] => Program::Missing,
                    ["ignores", "stops"] => Program::IgnoresStops,
                    ["runs", "for", "ever"] => Program::RunsForEver,
                    ["ends", "after", count, unit, "with", "code", code] => {
                        Program::Ends { after: span(&format!("{count} {unit}"))?, code: number(code)? }
                    }
                    _ => return Err("no program does that".into()),
                };
                Ok(Self::Program { image: (*image).into(), does })
            }
            (words, []) => Self::read_fault(words),
            _ => Err("nobody knows this".into()),
        }
    }

    fn read_fault(words: &[&str]) -> Result<Self, String> {
        let strike = |fault| Ok(Self::Strike(fault));
        match words {
            ["kill", one] => strike(Fault::Crash(node(one)?)),
            ["restart", one] => strike(Fault::Restart(node(one)?)),
            ["cut", "the", "power", "of", "everybody"] => strike(Fault::Blackout),
            ["cut", "the", "power", "of", one] => strike(Fault::PowerCut(node(one)?)),
            ["cut", "off", one] => strike(Fault::Isolate(node(one)?)),
            ["cut", one, "from", other] => strike(Fault::Cut(node(one)?, node(other)?)),
            ["nothing", "gets", "from", one, "to", other] => strike(Fault::CutOneWay(node(one)?, node(other)?)),
            ["freeze", one] => strike(Fault::Freeze(node(one)?)),
            ["lose", share, "of", "1000", "packets"] => strike(Fault::Loss(number(share)?)),
            ["full", "disk", "of", one] => strike(Fault::FullDisk(node(one)?)),
            ["failing", "disk", "of", one] => strike(Fault::FailingDisk(node(one)?)),
            ["hand", "over"] => strike(Fault::HandOver),
            ["heal"] => Ok(Self::Relieve(Relief::Everything)),
            ["start", one] => Ok(Self::Relieve(Relief::Start(node(one)?))),
            ["thaw", one] => Ok(Self::Relieve(Relief::Thaw(node(one)?))),
            ["power"] => Ok(Self::Relieve(Relief::Power)),
            ["fail", path] => Ok(Self::Fail((*path).into())),
            ["wait", count, unit] => Ok(Self::Wait(span(&format!("{count} {unit}"))?)),
            ["settle"] => Ok(Self::Settle),
            ["until", one, "is", "up"] => Ok(Self::Until(Condition::Node { node: node(one)?, is: "ready" })),
            ["until", one, "is", "down"] => Ok(Self::Until(Condition::Node { node: node(one)?, is: "down" })),
            ["until", one, "leads"] => Ok(Self::Until(Condition::Leads(node(one)?))),
            ["until", name, "runs", replicas] => {
                Ok(Self::Until(Condition::Runs { name: (*name).into(), replicas: number(replicas)? }))
            }
            ["until", "the", "update", "of", name, "is", state @ ..] => {
                Ok(Self::Until(Condition::Update { name: (*name).into(), state: state.join("_") }))
            }
            _ => Err("nobody knows this".into()),
        }
    }
}

impl Request {
    /// Parses a request of an operator; `None` when the words are another kind of command.
    fn read(words: &[&str], settings: &[&str]) -> Result<Option<Self>, String> {
        let availability = |one: &str, word| Ok(Some(Self::Availability { node: node(one)?, word }));
        let role = |one: &str, word| Ok(Some(Self::Role { node: node(one)?, word }));
        match (words, settings) {
            (["create", name], [how_many, settings @ ..]) => {
                let replicas = match how_many.split_once(' ') {
                    _ if *how_many == "on every node" => None,
                    Some((count, "replicas" | "replica")) => Some(number(count)?),
                    _ => return Err("say how many: `R replicas` or `on every node`".into()),
                };
                let settings = settings.iter().map(|it| Setting::read(it)).collect::<Result<_, _>>()?;
                Ok(Some(Self::Create { name: (*name).into(), replicas, settings }))
            }
            (["update", name], settings) => {
                let settings = settings.iter().map(|it| Setting::read(it)).collect::<Result<_, _>>()?;
                Ok(Some(Self::Update { name: (*name).into(), settings }))
            }
            (["scale", name, "to", replicas], []) => {
                Ok(Some(Self::Scale { name: (*name).into(), replicas: number(replicas)? }))
            }
            (["roll", "back", name], []) => Ok(Some(Self::RollBack { name: (*name).into() })),
            (["drain", one], []) => availability(one, "drain"),
            (["pause", one], []) => availability(one, "pause"),
            (["activate", one], []) => availability(one, "active"),
            (["promote", one], []) => role(one, "manager"),
            (["demote", one], []) => role(one, "worker"),
            (["label", one, pair], []) => {
                let (key, value) = pair.split_once('=').ok_or("a label is KEY=VALUE")?;
                Ok(Some(Self::Label { node: node(one)?, key: key.into(), value: value.into() }))
            }
            (["remove", one, "by", "force"], []) => Ok(Some(Self::RemoveNode { node: node(one)?, force: true })),
            (["remove", one], []) if node(one).is_ok() => Ok(Some(Self::RemoveNode { node: node(one)?, force: false })),
            (["remove", name], []) => Ok(Some(Self::Remove { name: (*name).into() })),
            ([one, "leaves", "by", "force"], []) => Ok(Some(Self::Leave { node: node(one)?, force: true })),
            ([one, "leaves"], []) => Ok(Some(Self::Leave { node: node(one)?, force: false })),
            _ => Ok(None),
        }
    }
}

impl Setting {
    fn read(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split(' ').collect();
        match words.as_slice() {
            ["image", image] => Ok(Self::Image((*image).into())),
            ["only", "where", constraint] => Ok(Self::Only((*constraint).into())),
            ["restart", "never"] => Ok(Self::RestartOn("none")),
            ["restart", "on", "failure"] => Ok(Self::RestartOn("on-failure")),
            ["restart", "after", count, unit] => Ok(Self::RestartAfter(span(&format!("{count} {unit}"))?)),
            [count, "at", "a", "time"] => Ok(Self::AtATime(number(count)?)),
            ["watch", count, unit] => Ok(Self::Watch(span(&format!("{count} {unit}"))?)),
            ["on", "failure", action] => Ok(Self::OnFailure((*action).into())),
            ["start", "first"] => Ok(Self::StartFirst),
            ["stop", "within", count, unit] => Ok(Self::StopWithin(span(&format!("{count} {unit}"))?)),
            ["label", pair] => {
                let (key, value) = pair.split_once('=').ok_or("a label is KEY=VALUE")?;
                Ok(Self::Label(key.into(), value.into()))
            }
            _ => Err(format!("`{text}` is no setting of a service")),
        }
    }
}

impl View {
    fn read(words: &[&str], parts: usize) -> Option<Self> {
        match words {
            _ if parts != 1 => None,
            ["nodes"] => Some(Self::Nodes),
            ["services"] => Some(Self::Services),
            ["tasks", "of", name] => Some(Self::Tasks((*name).into())),
            ["spread", "of", name] => Some(Self::Spread((*name).into())),
            ["machines"] => Some(Self::Machines),
            ["records"] => Some(Self::Records(None)),
            ["records", "of", path] => Some(Self::Records(Some((*path).into()))),
            _ => None,
        }
    }
}

fn node(text: &str) -> Result<Number, String> {
    let digits = text.strip_prefix('n').ok_or_else(|| format!("`{text}` is no node: n1, n2, …"))?;
    digits.parse().map_err(|_| format!("`{text}` is no node: n1, n2, …"))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is no number, or none that fits here"))
}

fn span(text: &str) -> Result<Duration, String> {
    let (count, unit) =
        text.split_once(' ').ok_or_else(|| format!("`{text}` is no span of time: 500 ms, 2 s, 1 min"))?;
    let count: u64 = number(count)?;
    match unit {
        "ms" => Ok(Duration::from_millis(count)),
        "s" => Ok(Duration::from_secs(count)),
        "min" => Ok(Duration::from_secs(60 * count)),
        _ => Err(format!("`{unit}` is no unit of time: ms, s or min")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_nobody_knows_is_refused_by_its_line_with_what_is_allowed() {
        let refused = |text: &str| Script::read(text).err().map(|why| why.to_string()).unwrap_or_default();
        let text = refused("# A story.\n> cluster of 3 nodes, 1 manager, seed 1\n    n1 leads\n> blow up n2\n");
        assert!(text.starts_with("line 4: `blow up n2`: nobody knows this\n") && text.contains("cut off nX"), "{text}");
        assert!(refused("> nodes\n").starts_with("line 1: `cluster of …` is the first command"));
        let cluster = "> cluster of 3 nodes, 1 manager, seed 1\n";
        for (line, why) in [
            ("nothing", "line 2: expected a comment"),
            ("> kill web", "line 2: `kill web`: `web` is no node"),
            ("> wait 3 years", "line 2: `wait 3 years`: `years` is no unit"),
            (
                "> create web, 3 replicas, colour red",
                "line 2: `create web, 3 replicas, colour red`: `colour red` is no",
            ),
            ("> create web", "line 2: `create web`: nobody knows this"),
            ("> heal at n2", "line 2: `heal at n2`: this is not asked of a node"),
        ] {
            let text = refused(&format!("{cluster}{line}\n"));
            assert!(text.starts_with(why), "{line}: {text}");
        }
    }

    #[test]
    fn what_was_seen_is_no_part_of_the_script() {
        let script = Script::read("# Why\n\n> cluster of 5 nodes, 3 managers, seed 7\n    n1 leads\n> nodes at n2\n");
        let lines = script.map(|script| script.lines).unwrap_or_default();
        let [
            Line::Prose(_),
            Line::Prose(_),
            Line::Command { command: first, .. },
            Line::Command { command, number, .. },
        ] = lines.as_slice()
        else {
            panic!("two lines of prose and two commands");
        };
        assert_eq!(*first, Command::Cluster { nodes: 5, managers: 3, seed: 7 });
        assert_eq!((command, *number), (&Command::Show { what: View::Nodes, at: Some(2) }, 5));
    }
}
