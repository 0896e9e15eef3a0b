//! Interpolation: `$V`, `${V}`, and the six ways to say what happens when a variable is not set or is empty.
//!
//! | written | set | empty | not set |
//! |---|---|---|---|
//! | `$V`, `${V}` | value | empty | empty, with a notice |
//! | `${V:-word}` | value | word | word |
//! | `${V-word}` | value | empty | word |
//! | `${V:?text}` | value | error | error |
//! | `${V?text}` | value | empty | error |
//! | `${V:+word}` | word | empty | empty |
//! | `${V+word}` | word | word | empty |
//!
//! A word may contain variables in its turn. `$$` is one dollar. Keys are not interpolated, and neither are numbers and
//! flags, so a value that came from a variable is a text, which readers of numbers and flags accept.

/// What is wrong with an expression, or with the variable it names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The text is no expression.
    Syntax(String),
    /// The variable is required and not set.
    Required { name: String, text: String },
}

/// Replaces the variables of a text. `unset` hears the names of those that are not set and have no other value.
pub(crate) fn expand(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut dyn FnMut(&str),
) -> Result<String, Wrong> {
    let mut cursor = Cursor { rest: text, lookup, unset };
    cursor.text(false)
}

struct Cursor<'a> {
    rest: &'a str,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    unset: &'a mut dyn FnMut(&str),
}

/// How an expression goes on after the name of its variable.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    Default,
    Required,
    Replaced,
}

impl Cursor<'_> {
    /// Reads up to the end, or up to the closing brace of the expression around it.
    fn text(&mut self, inside: bool) -> Result<String, Wrong> {
        let mut out = String::new();
        while let Some(c) = self.rest.chars().next() {
            if inside && c == '}' {
                break;
            }
            if c == '$' {
                out.push_str(&self.dollar()?);
            } else {
                out.push(c);
                self.rest = &self.rest[c.len_utf8()..];
            }
        }
        Ok(out)
    }

    fn dollar(&mut self) -> Result<String, Wrong> {
        let at = self.rest;
        self.rest = &self.rest[1..];
        if let Some(rest) = self.rest.strip_prefix('$') {
            self.rest = rest;
            return Ok("$".to_owned());
        }
        if let Some(rest) = self.rest.strip_prefix('{') {
            self.rest = rest;
            return self.braces(at);
        }
        match self.name() {
            "" => Err(Wrong::Syntax(first_word(at))),
            name => Ok(self.value(name)),
        }
    }

    fn value(&mut self, name: &str) -> String {
        (self.lookup)(name).unwrap_or_else(|| {
            (self.unset)(name);
            String::new()
        })
    }

    fn name<'b>(&mut self) -> &'b str
    where
        Self: 'b,
    {
        let rest = self.rest;
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if rest.starts_with(|c: char| c.is_ascii_digit()) {
            return "";
        }
        self.rest = &rest[end..];
        &rest[..end]
    }

    fn braces(&mut self, at: &str) -> Result<String, Wrong> {
        let wrong = || Wrong::Syntax(first_word(at));
        let name = self.name();
        if name.is_empty() {
            return Err(wrong());
        }
        if let Some(rest) = self.rest.strip_prefix('}') {
            self.rest = rest;
            return Ok(self.value(name));
        }
        let (also_empty, rest) = match self.rest.strip_prefix(':') {
            Some(rest) => (true, rest),
            None => (false, self.rest),
        };
        let rule = match rest.chars().next() {
            Some('-') => Rule::Default,
            Some('?') => Rule::Required,
            Some('+') => Rule::Replaced,
            _ => return Err(wrong()),
        };
        self.rest = &rest[1..];
        let held = (self.lookup)(name).filter(|value| !(also_empty && value.is_empty()));
        // Variables of a word that is not used are not missed.
        let used = held.is_some() == (rule == Rule::Replaced);
        let word = if used {
            self.text(true)?
        } else {
            let lookup = |_: &str| Some(String::new());
            let mut quiet = Cursor { rest: self.rest, lookup: &lookup, unset: &mut |_| () };
            // A required variable of an unused word counts as set: only the end of the word is looked for.
            quiet.skip()?;
            self.rest = &self.rest[self.rest.len() - quiet.rest.len()..];
            String::new()
        };
        self.rest = self.rest.strip_prefix('}').ok_or_else(wrong)?;
        match (rule, held) {
            (Rule::Default | Rule::Required, Some(value)) => Ok(value),
            (Rule::Default, None) | (Rule::Replaced, Some(_)) => Ok(word),
            (Rule::Replaced, None) => Ok(String::new()),
            (Rule::Required, None) => Err(Wrong::Required { name: name.to_owned(), text: word }),
        }
    }

    /// Moves to the brace that closes the expression around this text.
    fn skip(&mut self) -> Result<(), Wrong> {
        let at = self.rest;
        let mut open = 0_usize;
        while let Some(c) = self.rest.chars().next() {
            if self.rest.starts_with("$$") {
                self.rest = &self.rest[2..];
                continue;
            }
            if self.rest.starts_with("${") {
                open += 1;
            } else if c == '}' {
                if open == 0 {
                    return Ok(());
                }
                open -= 1;
            }
            self.rest = &self.rest[c.len_utf8()..];
        }
        Err(Wrong::Syntax(first_word(at)))
    }
}

/// The expression as far as it is shown in an error.
fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or("$").chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<String, Wrong> {
        let lookup = |name: &str| match name {
            "SET" => Some("x".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        expand(text, &lookup, &mut |_| ())
    }

    #[test]
    fn each_way_of_writing_a_variable_does_what_the_table_says() {
        for (text, expanded) in [
            ("a $SET b", "a x b"),
            ("${SET}y", "xy"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NONE:-d}", "d"),
            ("${NONE-d}", "d"),
            ("${SET:-d}", "x"),
            ("${SET:+r}", "r"),
            ("${EMPTY:+r}", ""),
            ("${EMPTY+r}", "r"),
            ("${NONE+r}", ""),
            ("${EMPTY?e}", ""),
            ("${SET:?e}", "x"),
            ("${NONE:-${EMPTY:-${SET}}}", "x"),
            ("${NONE:-a${SET}b}c", "axbc"),
            ("${SET:-${NONE:?never}}", "x"),
            ("$$SET $${SET}", "$SET ${SET}"),
            ("${NONE:-$$5}", "$5"),
            ("${NONE:-}", ""),
            ("${NONE:-http://h:80/p}", "http://h:80/p"),
            ("äöü $SET", "äöü x"),
        ] {
            assert_eq!(of(text).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_said_with_the_expression() {
        for text in ["$", "a $ b", "$1", "${}", "${SET", "${SET:x}", "${SET!}", "${NONE:-${SET}", "${ SET}"] {
            assert!(matches!(of(text), Err(Wrong::Syntax(_))), "{text}");
        }
    }

    #[test]
    fn a_required_variable_is_missed_with_its_own_text() {
        let missed = |text: &str| Err(Wrong::Required { name: "NONE".into(), text: text.into() });
        assert_eq!(of("${NONE:?say it}"), missed("say it"));
        assert_eq!(of("${NONE?}"), missed(""));
        let empty = Wrong::Required { name: "EMPTY".into(), text: "x is short".into() };
        assert_eq!(of("${EMPTY:?$SET is short}"), Err(empty));
    }

    #[test]
    fn only_variables_that_are_used_are_missed() {
        let mut missed = Vec::new();
        let lookup = |name: &str| (name == "SET").then(|| "x".to_owned());
        let text = expand("$A ${SET:-$B} ${C:-$D}", &lookup, &mut |name| missed.push(name.to_owned()));
        assert_eq!((text, missed), (Ok(" x ".to_owned()), vec!["A".to_owned(), "D".to_owned()]));
    }
}
