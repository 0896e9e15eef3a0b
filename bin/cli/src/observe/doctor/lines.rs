//! The findings as a table that is no wider than the terminal: short columns, and beside them what was found and, on lines
//! of its own, what to do.
//!
//! A text is broken between words and never inside of backticks, so that a command can be copied as it stands. Where the
//! short columns leave too little room, the texts stand below them.

use essaim_docker::own::Finding;

use crate::show::align;

/// Columns where the output is no terminal.
const COLUMNS_DEFAULT: usize = 100;

/// Room for the texts below which they stand on lines of their own.
const TEXT_WIDTH_MIN: usize = 40;

/// Indentation of texts that stand below the short columns.
const BELOW: usize = 4;

/// Columns of the terminal on stdout.
pub(super) fn columns() -> usize {
    terminal_size::terminal_size_of(std::io::stdout()).map_or(COLUMNS_DEFAULT, |(width, _)| width.0.into())
}

/// The table, for this number of columns.
pub(super) fn table(findings: &[Finding], columns: usize) -> String {
    let mut short = String::from("VERDICT\tCODE\tCHECK\tNODE\tFOUND\n");
    for Finding { code, check, verdict, node, .. } in findings {
        short.push_str(&format!("{}\t{code}\t{check}\t{node}\t|\n", verdict.as_str()));
    }
    let short = align(&short);
    let mut heads = short.lines();
    let Some(head) = heads.next() else { return String::new() };
    let indent = head.trim_end_matches("FOUND").chars().count();
    let is_beside = columns >= indent + TEXT_WIDTH_MIN;
    let indent = if is_beside { indent } else { BELOW };
    let mut text = format!("{head}\n");
    for (head, Finding { found, next, .. }) in heads.zip(findings) {
        let head = head.trim_end_matches('|');
        let next = if next.is_empty() { String::new() } else { format!("next: {next}") };
        let lines = [found, &next].into_iter().flat_map(|words| wrapped(words, columns.saturating_sub(indent)));
        let mut lines: Vec<_> = lines.collect();
        let first = if is_beside && !lines.is_empty() { lines.remove(0) } else { String::new() };
        text.push_str(format!("{head}{first}").trim_end());
        text.push('\n');
        for line in lines {
            text.push_str(&format!("{:indent$}{line}\n", ""));
        }
    }
    text
}

/// The text in lines of at most this width, unless one word or command is longer.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words(text) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

/// The words of a text. What is between backticks belongs to one word.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut is_command) = (String::new(), false);
    for letter in text.chars() {
        is_command ^= letter == '`';
        if letter.is_whitespace() && !is_command {
            words.push(std::mem::take(&mut word));
        } else {
            word.push(letter);
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_docker::own::Verdict;

    fn findings() -> Vec<Finding> {
        let of = |code: &str, check: &str, verdict, node: &str, found: &str, next: &str| Finding {
            code: code.into(),
            check: check.into(),
            verdict,
            node: node.into(),
            found: found.into(),
            next: next.into(),
        };
        let next = "stop it with `systemctl disable --now nginx.service`, or publish another port";
        vec![
            of("D109", "published ports", Verdict::Fail, "n2", "port 80/tcp is not published: held by nginx", next),
            of("D201", "quorum", Verdict::Ok, "", "3 of 3 managers\nare there", ""),
        ]
    }

    #[test]
    fn texts_are_wrapped_beside_the_short_columns_and_commands_stay_whole() {
        let expected = "\
VERDICT   CODE      CHECK             NODE      FOUND
fail      D109      published ports   n2        port 80/tcp is not published: held by nginx
                                                next: stop it with
                                                `systemctl disable --now nginx.service`, or
                                                publish another port
ok        D201      quorum                      3 of 3 managers are there
";
        assert_eq!(table(&findings(), 92), expected);
        assert!(table(&findings(), 92).lines().all(|line| line.chars().count() <= 92));
    }

    #[test]
    fn on_a_narrow_terminal_texts_stand_below_the_short_columns() {
        let expected = "\
VERDICT   CODE      CHECK             NODE      FOUND
fail      D109      published ports   n2
    port 80/tcp is not published: held by nginx
    next: stop it with `systemctl disable --now nginx.service`, or
    publish another port
ok        D201      quorum
    3 of 3 managers are there
";
        assert_eq!(table(&findings(), 66), expected);
        // Nothing fits into this one: each word has a line.
        assert!(table(&findings(), 5).contains("\n    `systemctl disable --now nginx.service`,\n"));
    }
}
