//! What the docker CLI said, with everything masked that differs from run to run.

use serde_json::Value;
use std::collections::BTreeSet;

/// Exit code and output of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) exit: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// The text without the lines that the CLI prints at every poll, with ids, digests, tokens, addresses, versions, times
/// and ages masked, and with one space between words, since the widths of columns follow the longest cell.
pub(super) fn masked(text: &str) -> String {
    let mut masked = String::new();
    let mut before = String::new();
    for line in text.lines().filter(|line| !is_poll(line) && !is_of_networks(line)).map(line) {
        // Certificates differ in length, and clusters in the number of their managers.
        let repeats = line == before && (line == "<base64>" || line == "<address>");
        before.clone_from(&line);
        if !line.is_empty() && !repeats {
            masked.push_str(&line);
            masked.push('\n');
        }
    }
    masked
}

/// The different lines, masked, in order of their text, for output whose order means nothing: completions, and logs of
/// several nodes. The numbers that `ping` writes and the nodes of tasks are masked, too.
pub(super) fn in_any_order(text: &str) -> String {
    let mut lines = BTreeSet::new();
    for line in masked(text).lines() {
        let mut words = Vec::new();
        for word in line.split(' ') {
            let number = ["seq=", "time="].iter().find(|start| word.starts_with(**start));
            let node = word.split_once("@node").map(|(task, _)| format!("{task}@<node>"));
            words.push(number.map(|start| format!("{start}<number>")).or(node).unwrap_or_else(|| word.to_owned()));
        }
        lines.insert(words.join(" ") + "\n");
    }
    lines.into_iter().collect()
}

/// The lines of two texts that are in one of them only, by a longest common subsequence.
pub(super) fn diff(theirs: &str, ours: &str) -> String {
    let (a, b): (Vec<_>, Vec<_>) = (theirs.lines().collect(), ours.lines().collect());
    let mut common = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, String::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines += &format!("    - {}\n", a[i]);
            i += 1;
        } else {
            lines += &format!("    + {}\n", b[j]);
            j += 1;
        }
    }
    lines
}

/// The path of a request with ids and versions masked, so that the same request of two runs has the same path.
pub(super) fn path(path: &str) -> String {
    let mut decoded = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let code = match after {
            [high, low, ..] if *first == b'%' => {
                std::str::from_utf8(&[*high, *low]).ok().and_then(|it| u8::from_str_radix(it, 16).ok())
            }
            _ => None,
        };
        decoded.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    let decoded = String::from_utf8_lossy(&decoded);
    let masked: Vec<_> = decoded
        .split('&')
        .map(|part| part.split_once("version=").map_or(word(part), |(before, _)| word(before) + "version=<version>"))
        .collect();
    masked.join("&")
}

/// Whether the line shows the networks of a service, which come later.
fn is_of_networks(line: &str) -> bool {
    line.starts_with("Networks:")
}

/// JSON with those strings masked that are chosen.
pub(super) fn masked_json(value: &Value, is_chosen: &impl Fn(&str) -> bool) -> Value {
    let inner = |value: &Value| masked_json(value, is_chosen);
    match value {
        Value::String(text) if is_chosen(text) => Value::String(line(text)),
        Value::Array(all) => all.iter().map(inner).collect(),
        Value::Object(all) => all.iter().map(|(name, value)| (name.clone(), inner(value))).collect(),
        other => other.clone(),
    }
}

/// The text with ids as the recordings of requests have them: they begin with a 0.
pub(super) fn with_short_ids(text: &str) -> String {
    let mut short = String::new();
    for piece in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        if is_id(word) {
            short.push('0');
            short.push_str(&piece[1..]);
        } else {
            short.push_str(piece);
        }
    }
    short
}

/// Whether a word is an id, whole or cut to twelve characters.
pub(super) fn is_id(word: &str) -> bool {
    let of_id = |c: char| c.is_ascii_digit() || c.is_ascii_lowercase();
    matches!(word.len(), 12 | 25) && word.chars().all(of_id)
}

fn is_poll(line: &str) -> bool {
    let (first, rest) = line.split_once('/').unwrap_or((line, ""));
    let counts = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit()) && rest.contains(": ");
    let polls =
        ["overall progress", "verify: Waiting", "verify: Detected task failure", "job progress", "active tasks"];
    counts || polls.iter().any(|poll| line.starts_with(poll))
}

fn line(line: &str) -> String {
    if let Some(before) = before_base64(line) {
        return format!("{before}<base64>");
    }
    // gRPC's prefix of an error, which our errors do not have on purpose, is cut off.
    let line = match line.split_once("rpc error: code = ") {
        Some((before, after)) => format!("{before}{}", after.split_once("desc = ").map_or(after, |(_, reason)| reason)),
        None => line.to_owned(),
    };
    let mut words: Vec<String> = Vec::new();
    for next in line.split_whitespace() {
        if next.starts_with("ago") {
            drop_age(&mut words);
            words.push(next.replacen("ago", "<age>", 1));
        } else {
            words.push(word(next));
        }
    }
    if words.first().is_some_and(|first| first == "Runtimes:") {
        // The CLI prints them in any order.
        words[1..].sort();
    }
    words.join(" ")
}

/// What stands before bytes in base 64, if the line ends with such.
fn before_base64(line: &str) -> Option<String> {
    let (before, last) = line.trim().rsplit_once([' ', '\t']).unwrap_or(("", line.trim()));
    let of_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let mixed = last.contains(|c: char| c.is_ascii_uppercase()) && last.contains(|c: char| c.is_ascii_lowercase());
    let mixed = mixed && last.contains(|c: char| c.is_ascii_digit());
    let is_base64 = last.len() >= 20 && mixed && last.chars().all(of_base64);
    let words = before.split_whitespace().map(|word| format!("{word} "));
    is_base64.then(|| words.collect())
}

/// Takes the words of an age off the end: `2 minutes`, `About a minute`, `Less than a second`.
fn drop_age(words: &mut Vec<String>) {
    words.pop();
    words.pop();
    if words.last().is_some_and(|last| last.eq_ignore_ascii_case("about")) {
        words.pop();
    }
    if words.last().is_some_and(|last| last == "than") {
        words.pop();
        words.pop();
    }
}

fn word(word: &str) -> String {
    let mut masked = String::new();
    let mut rest = word;
    while !rest.is_empty() {
        let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-.:+@".contains(c))).unwrap_or(rest.len());
        if length == 0 {
            let first = rest.chars().next().map_or(1, char::len_utf8);
            masked.push_str(&rest[..first]);
            rest = &rest[first..];
            continue;
        }
        masked.push_str(&piece(&rest[..length]));
        rest = &rest[length..];
    }
    masked
}

fn piece(piece: &str) -> String {
    let is = |text: &str, length: usize, radix: u32| {
        text.len() == length && text.chars().all(|c| c.is_digit(radix) && !c.is_ascii_uppercase())
    };
    let dotted = |text: &str, parts: usize| {
        let all: Vec<_> = text.split('.').collect();
        all.len() == parts && all.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let piece = piece.split_once("@sha256").map_or(piece, |(image, _)| image);
    let name = piece.trim_end_matches(['.', ':']);
    let masked = match () {
        () if piece.starts_with("SWMTKN-1-") => "<token>",
        () if is(name, 25, 36) || is(name, 12, 36) => "<id>",
        () if is(name, 64, 16) => "<digest>",
        () if dotted(name.split(':').next().unwrap_or(""), 4) => "<address>",
        () if name.len() >= 19 && name.as_bytes()[10] == b'T' && dotted(&name[..10].replace('-', "."), 3) => "<time>",
        () if name == "simulated" => "<version>",
        () if dotted(&name.replace('-', "."), 3) && name.len() == 10 => "<date>",
        () if name.len() >= 8 && dotted(&name[..8].replace(':', "."), 3) && name.as_bytes()[2] == b':' => "<time>",
        () if dotted(name.split(['+', '-']).next().unwrap_or(""), 3) => "<version>",
        () => {
            if let Some((task, node)) = piece.split_once('@') {
                return format!("{}@{node}", self::piece(task));
            }
            // `agent.<node>`, `web.1.<task>`, `web.1@node1`: an id may be a part of a name.
            let parts: Vec<_> =
                piece.split('.').map(|part| if is(part, 25, 36) || is(part, 12, 36) { "<id>" } else { part }).collect();
            return parts.join(".");
        }
    };
    masked.to_owned()
}

#[test]
fn what_differs_from_run_to_run_is_masked() {
    assert_eq!(line("jy1kz05t1k9mlex5t6ni0quci *   node1      Ready  28.5.2+dfsg4"), "<id> * node1 Ready <version>");
    assert_eq!(
        line("cmhdklaafus0   web.2   a:b   n   Running   Running about a minute ago"),
        "<id> web.2 a:b n Running Running <age>"
    );
    assert_eq!(line("web.2   n   Running less than a second ago"), "web.2 n Running <age>");
    assert_eq!(line(" Started:\t2 minutes ago"), "Started: <age>");
    assert_eq!(
        line("m63szh4kw3pk3sli290o8e91r   site   Less than a second ago   About a minute ago"),
        "<id> site <age> <age>"
    );
    assert_eq!(path("/tasks?filters=%7B%22id%22%3Atrue%7D"), "/tasks?filters={\"id\":true}");
    assert_eq!(path("/nodes/jy1kz05t1k9mlex5t6ni0quci/update?version=284"), "/nodes/<id>/update?version=<version>");
    assert_eq!(line("MIIBajCCARCgAwIBAgIUScrM8J8ZilkwXPvy"), "<base64>");
    assert_eq!(line("  directive: ShellCompDirectiveNoFileComp"), "directive: ShellCompDirectiveNoFileComp");
    assert_eq!(line("remote CA: rpc error: code = Unknown desc = no"), "remote CA: no");
    assert_eq!(line("agent.jy1kz05t1k9mlex5t6ni0quci at 2026-11-20T19:01:46.123Z"), "agent.<id> at <time>");
}
