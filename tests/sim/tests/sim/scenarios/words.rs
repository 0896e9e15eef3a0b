//! Text that is the same in every run which an operator would call the same: ids become names, and times become spans.

use essaim::testkit::fault::Number;
use essaim_wire::NodeId;
use std::collections::BTreeMap;
use std::time::Duration;

/// Milliseconds of the spans that an operator tells apart. A time is shown as the smallest span that is not shorter, so
/// that a millisecond more or less makes no difference.
const SPANS_MS: [u64; 15] =
    [500, 1_000, 2_000, 3_000, 5_000, 7_000, 10_000, 15_000, 20_000, 30_000, 45_000, 60_000, 90_000, 120_000, 180_000];

/// Characters of an id in text.
const ID_LEN: usize = 25;

/// A time as a span, for example `within 2 s`.
pub(super) fn within(time: Duration) -> String {
    let spans = SPANS_MS.iter().map(|ms| Duration::from_millis(*ms));
    match spans.into_iter().find(|span| time <= *span) {
        Some(span) => format!("within {} s", span.as_secs_f64()),
        None => format!("after more than {} s", SPANS_MS[SPANS_MS.len() - 1] / 1_000),
    }
}

/// Names of the nodes, by id.
#[derive(Debug, Default)]
pub(super) struct Names {
    nodes: BTreeMap<String, Number>,
}

impl Names {
    pub(super) fn learn_node(&mut self, id: Option<NodeId>, number: Number) {
        if let Some(id) = id {
            self.nodes.insert(id.to_string(), number);
        }
    }

    /// Name of the node with this id; a dash for an empty id.
    pub(super) fn node(&self, id: &str) -> String {
        match self.nodes.get(id) {
            Some(number) => format!("n{number}"),
            None if id.is_empty() => "-".into(),
            None => "<a stranger>".into(),
        }
    }

    /// A text without ids and without numbers that are different in every run: a node's id becomes `<n1>`, any other id
    /// `<id>`, and the number of a term, member or start becomes `…`.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut cleaned = String::new();
        let mut word = String::new();
        for letter in text.chars().chain(['\n']) {
            if letter.is_ascii_alphanumeric() {
                word.push(letter);
                continue;
            }
            let is_count = word.bytes().all(|byte| byte.is_ascii_digit()) && !word.is_empty();
            match self.nodes.get(&word) {
                Some(number) => cleaned.push_str(&format!("<n{number}>")),
                None if is_id(&word) => cleaned.push_str("<id>"),
                None if is_count && ["term ", "number ", "start "].iter().any(|before| cleaned.ends_with(before)) => {
                    cleaned.push('…');
                }
                None => cleaned.push_str(&word),
            }
            word.clear();
            cleaned.push(letter);
        }
        cleaned.pop();
        cleaned
    }
}

fn is_id(word: &str) -> bool {
    word.len() == ID_LEN
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && word.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_as_the_first_span_that_it_does_not_exceed() {
        for (ms, words) in [(0, "within 0.5 s"), (500, "within 0.5 s"), (501, "within 1 s"), (14_000, "within 15 s")] {
            assert_eq!(within(Duration::from_millis(ms)), words);
        }
        assert_eq!(within(Duration::from_secs(181)), "after more than 180 s");
    }

    #[test]
    fn ids_become_names_and_what_counts_up_is_left_out() {
        let mut names = Names::default();
        let id = NodeId::from_bits(7 << 100);
        names.learn_node(Some(id), 3);
        let text = format!("n3 ({id}) leads in term 14, beside 10 others and jy1kz05t1k9mlex5t6ni0quci.");
        assert_eq!(names.clean(&text), "n3 (<n3>) leads in term …, beside 10 others and <id>.");
    }
}
