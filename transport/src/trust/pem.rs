//! PEM in and out: base 64 between two lines.

use super::TrustError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write as _;

/// Characters in a line of base 64 (RFC 7468).
const LINE: usize = 64;

pub(super) fn write(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let encoded = STANDARD.encode(der);
    for start in (0..encoded.len()).step_by(LINE) {
        let end = encoded.len().min(start + LINE);
        let _ = writeln!(text, "{}", &encoded[start..end]);
    }
    let _ = writeln!(text, "-----END {label}-----");
    text
}

/// Every block with this label; blocks with other labels are skipped.
pub(super) fn read(label: &str, text: &str) -> Result<Vec<Vec<u8>>, TrustError> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines().map(str::trim) {
        match &mut open {
            None if line == begin => open = Some(String::new()),
            None => (),
            Some(body) if line == end => {
                let der =
                    STANDARD.decode(&*body).map_err(|why| TrustError::BadPem(format!("in a {label} block: {why}")))?;
                blocks.push(der);
                open = None;
            }
            Some(body) => body.push_str(line),
        }
    }
    match open {
        None => Ok(blocks),
        Some(_) => Err(TrustError::BadPem(format!("a {label} block has no end"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_blocks_survive_and_others_are_skipped() {
        let (a, b) = (vec![1; 100], vec![2; 3]);
        let text = format!("{}{}{}", write("ONE", &a), write("OTHER", &[9]), write("ONE", &b));
        assert_eq!(read("ONE", &text), Ok(vec![a, b]));
    }

    #[test]
    fn a_block_without_end_is_an_error() {
        assert!(read("ONE", "-----BEGIN ONE-----\nAAAA\n").is_err());
    }
}
