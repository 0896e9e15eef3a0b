//! Splits values of flags: fields between commas as in a CSV line, and words as in a shell.

/// The fields of one CSV line. A field in double quotes may contain commas, and two double quotes for one.
pub(super) fn fields(text: &str) -> Result<Vec<String>, String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => field.extend(letters.next()),
            '"' if quoted || field.is_empty() => quoted = !quoted,
            '"' => return Err(format!("{text:?}: a quote belongs at the beginning of a field")),
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    if quoted {
        return Err(format!("{text:?}: a quote is never closed"));
    }
    fields.push(field);
    Ok(fields)
}

/// Words of a command as a shell splits them: quotes keep spaces, a backslash keeps the next letter, and a `#` at the
/// beginning of a word begins a comment.
pub(super) fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let kept = match (quote, letter) {
            (Some('"') | None, '\\') => letters.next().ok_or_else(|| format!("{text:?} ends with a backslash"))?,
            (Some(open), close) if open == close => {
                quote = None;
                continue;
            }
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
                continue;
            }
            (None, '#') if word.is_none() => break,
            (None, blank) if blank.is_whitespace() => {
                words.extend(word.take());
                continue;
            }
            (_, other) => other,
        };
        word.get_or_insert_default().push(kept);
    }
    if quote.is_some() {
        return Err(format!("{text:?}: a quote is never closed"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_in_quotes_keeps_its_commas() {
        let expected = ["type=tmpfs", "volume-opt=o=a,b\"c", ""].map(str::to_owned).to_vec();
        assert_eq!(fields(r#"type=tmpfs,"volume-opt=o=a,b""c","#), Ok(expected));
        assert!(fields(r#"a"b"#).is_err() && fields(r#""a"#).is_err());
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        for (text, expected) in [
            ("ping -c 3", vec!["ping", "-c", "3"]),
            ("sh -c 'echo \"a b\"'", vec!["sh", "-c", "echo \"a b\""]),
            (r#"a\ b "" "c\"d" # no"#, vec!["a b", "", "c\"d"]),
            ("", vec![]),
        ] {
            assert_eq!(words(text), Ok(expected.into_iter().map(str::to_owned).collect()), "{text}");
        }
        assert!(words("'a").is_err() && words("a\\").is_err());
    }
}
