//! PEM encoding: base 64 between two lines (RFC 7468), by the crate `pem`.

use super::TrustError;
use pem::{EncodeConfig, LineEnding, Pem};

pub(super) fn write(label: &str, der: &[u8]) -> String {
    pem::encode_config(&Pem::new(label, der), EncodeConfig::new().set_line_ending(LineEnding::LF))
}

/// Decodes every block with this label; blocks with other labels are skipped.
pub(super) fn read(label: &str, text: &str) -> Result<Vec<Vec<u8>>, TrustError> {
    let blocks = pem::parse_many(text).map_err(|why| TrustError::BadPem(why.to_string()))?;
    // At a block without an end the crate stops, as if there were no more blocks.
    if blocks.len() != text.matches("-----BEGIN ").count() {
        return Err(TrustError::BadPem(format!("a block without an end, where {label} was looked for")));
    }
    Ok(blocks.into_iter().filter(|block| block.tag() == label).map(Pem::into_contents).collect())
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
    fn lines_have_64_characters_and_end_as_on_unix() {
        let text = write("ONE", &[1; 50]);
        assert!(text.lines().nth(1).is_some_and(|line| line.len() == 64) && !text.contains('\r'), "{text}");
    }

    #[test]
    fn a_block_without_end_is_an_error() {
        assert!(read("ONE", "-----BEGIN ONE-----\nAAAA\n").is_err());
        assert!(read("ONE", &format!("{}-----BEGIN ONE-----\nAAAA\n", write("ONE", &[1]))).is_err());
    }
}
