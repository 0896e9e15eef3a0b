//! What the docker CLI said, with everything masked that differs from run to run. Its output against Essaim is compared
//! with recorded output against Docker, here with real daemons, and in the simulated cluster for every recorded command.

/// The text without the lines that the CLI prints at every poll, with ids, digests, tokens, addresses, versions, times
/// and ages masked, and with one space between words, since the widths of columns follow the longest cell.
pub fn masked(text: &str) -> String {
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

/// The line with everything masked that differs from run to run, and with one space between words.
pub fn line(line: &str) -> String {
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
            words.push(word(next).replacen("ago", "<age>", 1));
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

/// The word with everything masked that differs from run to run.
pub fn word(word: &str) -> String {
    map_pieces(word, piece)
}

/// The text with each of its pieces replaced: each longest run of letters, digits and `-.:+@`.
pub fn map_pieces(text: &str, replace: impl Fn(&str) -> String) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-.:+@".contains(c))).unwrap_or(rest.len());
        if length == 0 {
            let first = rest.chars().next().map_or(1, char::len_utf8);
            replaced.push_str(&rest[..first]);
            rest = &rest[first..];
            continue;
        }
        replaced.push_str(&replace(&rest[..length]));
        rest = &rest[length..];
    }
    replaced
}

/// Whether the CLI prints this line again at every poll.
fn is_poll(line: &str) -> bool {
    let (first, rest) = line.split_once('/').unwrap_or((line, ""));
    let counts = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit()) && rest.contains(": ");
    let polls =
        ["overall progress", "verify: Waiting", "verify: Detected task failure", "job progress", "active tasks"];
    counts || polls.iter().any(|poll| line.starts_with(poll))
}

/// Whether the line shows the networks of a service, which come later.
fn is_of_networks(line: &str) -> bool {
    line.starts_with("Networks:")
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

fn piece(piece: &str) -> String {
    let is = |text: &str, length: usize, radix: u32| {
        text.len() == length && text.chars().all(|c| c.is_digit(radix) && !c.is_ascii_uppercase())
    };
    let dotted = |text: &str, parts: usize| {
        let all: Vec<_> = text.split('.').collect();
        all.len() == parts && all.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    // Docker appends the digest of an image, which it gets from a registry.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_masked() {
        assert_eq!(
            line("jy1kz05t1k9mlex5t6ni0quci *   node1      Ready  28.5.2+dfsg4"),
            "<id> * node1 Ready <version>"
        );
        assert_eq!(
            line("    docker swarm join --token SWMTKN-1-35d9-es48 10.77.0.11:2377"),
            "docker swarm join --token <token> <address>"
        );
        assert_eq!(
            line("cmhdklaafus0   web.2   a:b   n   Running   Running about a minute ago"),
            "<id> web.2 a:b n Running Running <age>"
        );
        let json = r#"{"CurrentState":"Running 53 seconds ago","DesiredState":"Running","ID":"ckyxfksuon5a"}"#;
        assert_eq!(line(json), r#"{"CurrentState":"Running <age>","DesiredState":"Running","ID":"<id>"}"#);
        assert_eq!(line("web.2   n   Running less than a second ago"), "web.2 n Running <age>");
        assert_eq!(line(" Started:\t2 minutes ago"), "Started: <age>");
        assert_eq!(
            line("m63szh4kw3pk3sli290o8e91r   site   Less than a second ago   About a minute ago"),
            "<id> site <age> <age>"
        );
        assert_eq!(line("MIIBajCCARCgAwIBAgIUScrM8J8ZilkwXPvy"), "<base64>");
        assert_eq!(line("  directive: ShellCompDirectiveNoFileComp"), "directive: ShellCompDirectiveNoFileComp");
        assert_eq!(line("remote CA: rpc error: code = Unknown desc = no"), "remote CA: no");
        assert_eq!(line("agent.jy1kz05t1k9mlex5t6ni0quci at 2026-11-20T19:01:46.123Z"), "agent.<id> at <time>");
        assert_eq!(line("whoami:latest@sha256:0dad on node3"), "whoami:latest on node3");
    }

    #[test]
    fn lines_that_are_printed_at_every_poll_are_left_out() {
        let text = "12/15:  \nverify: Waiting 5 seconds\nverify: Service x converged\n";
        assert_eq!(masked(text), "verify: Service x converged\n");
    }
}
