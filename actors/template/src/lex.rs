//! Lexer of templates: cuts the text into text and actions, and actions into tokens.

use super::TemplateError;

/// Literal text or one action of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fragment {
    /// Text that is printed as it is.
    Text(String),
    /// The tokens between `{{` and `}}`.
    Action(Vec<Token>),
}

/// A token of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `.`, `.A`, `.A.B`: the field names; empty for the dot alone.
    Field(Vec<String>),
    /// `$`, `$x`, `$x.A`: the variable's name and the field names after it.
    Variable(String, Vec<String>),
    Word(String),
    Text(String),
    Integer(i64),
    Float(f64),
    Pipe,
    Open,
    Close,
    Comma,
    /// `:=`, which declares a variable.
    Declare,
    /// `=`, which assigns to a declared variable.
    Assign,
}

/// Cuts a template into fragments.
pub(super) fn lex(text: &str) -> Result<Vec<Fragment>, TemplateError> {
    let mut fragments = Vec::new();
    let mut rest = text;
    let mut trim_next = false;
    while let Some(start) = rest.find("{{") {
        let mut before = &rest[..start];
        if trim_next {
            before = before.trim_start();
        }
        let inside = &rest[start + 2..];
        let end =
            end_of_action(inside).ok_or_else(|| TemplateError(format!("an action is not closed: {{{{{inside}")))?;
        let mut action = &inside[..end];
        if let Some(trimmed) = action.strip_prefix("- ") {
            action = trimmed;
            before = before.trim_end();
        }
        trim_next = action.ends_with(" -");
        if trim_next {
            action = &action[..action.len() - 2];
        }
        if !before.is_empty() {
            fragments.push(Fragment::Text(before.to_owned()));
        }
        let action = action.trim();
        if !action.starts_with("/*") {
            fragments.push(Fragment::Action(tokens(action)?));
        }
        rest = &inside[end + 2..];
    }
    let after = if trim_next { rest.trim_start() } else { rest };
    if !after.is_empty() {
        fragments.push(Fragment::Text(after.to_owned()));
    }
    Ok(fragments)
}

/// Position of the `}}` that ends the action, outside of string literals.
fn end_of_action(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if letter == '\\' => escaped = true,
            Some(open) if letter == open => quote = None,
            Some(_) => (),
            None if letter == '"' || letter == '`' => quote = Some(letter),
            None if text[at..].starts_with("}}") => return Some(at),
            None => (),
        }
    }
    None
}

fn tokens(action: &str) -> Result<Vec<Token>, TemplateError> {
    let mut found = Vec::new();
    let mut rest = action.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '|' => (Token::Pipe, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            ':' if rest.starts_with(":=") => (Token::Declare, 2),
            '=' => (Token::Assign, 1),
            '"' => quoted(rest)?,
            '`' => {
                let end = rest[1..].find('`').ok_or_else(|| TemplateError("a raw string is not closed".to_owned()))?;
                (Token::Text(rest[1..=end].to_owned()), end + 2)
            }
            '.' => {
                let (names, length) = path(rest);
                (Token::Field(names), length)
            }
            '$' => {
                let name = word_length(&rest[1..]);
                let (names, length) =
                    if rest[1 + name..].starts_with('.') { path(&rest[1 + name..]) } else { (Vec::new(), 0) };
                (Token::Variable(rest[1..=name].to_owned(), names), 1 + name + length)
            }
            '0'..='9' | '-' => number(rest)?,
            letter if letter.is_alphabetic() || letter == '_' => {
                let length = word_length(rest);
                (Token::Word(rest[..length].to_owned()), length)
            }
            other => return Err(TemplateError(format!("unexpected {other:?} in {{{{{action}}}}}"))),
        };
        found.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(found)
}

fn path(text: &str) -> (Vec<String>, usize) {
    let mut names = Vec::new();
    let mut length = 0;
    while text[length..].starts_with('.') {
        let name = word_length(&text[length + 1..]);
        if name == 0 {
            return (names, if length == 0 { 1 } else { length });
        }
        names.push(text[length + 1..length + 1 + name].to_owned());
        length += 1 + name;
    }
    (names, length)
}

fn word_length(text: &str) -> usize {
    text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len())
}

fn number(text: &str) -> Result<(Token, usize), TemplateError> {
    let length = 1 + text[1..].find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len() - 1);
    let digits = &text[..length];
    let token = digits.parse().map(Token::Integer).or_else(|_| digits.parse().map(Token::Float));
    token.map(|token| (token, length)).map_err(|_| TemplateError(format!("{digits:?} is no number")))
}

fn quoted(text: &str) -> Result<(Token, usize), TemplateError> {
    let mut value = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((Token::Text(value), at + 1)),
            '\\' => match letters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, other)) => value.push(other),
                None => break,
            },
            other => value.push(other),
        }
    }
    Err(TemplateError(format!("a string is not closed: {text}")))
}
