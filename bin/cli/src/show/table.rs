//! Columns aligned with spaces, as Go's tabwriter does it for docker: a cell ends with a tab, a column is as wide
//! as its widest cell plus three, ten at least, and what follows the last tab of a line is not padded.

use std::io::Write as _;
use tabwriter::TabWriter;

/// The narrowest column, its cell and the gap counted together. The crate counts the gap apart.
const COLUMN_WIDTH_MIN: usize = 10;

/// Spaces between a column's widest cell and the next column.
const GAP: usize = 3;

/// Aligns lines of tab-separated cells.
pub(crate) fn align(text: &str) -> String {
    let mut writer = TabWriter::new(Vec::new()).minwidth(COLUMN_WIDTH_MIN - GAP).padding(GAP);
    let written = writer.write_all(text.as_bytes()).and_then(|()| writer.flush());
    written.expect("memory takes what is written");
    let aligned = writer.into_inner().expect("it was flushed");
    String::from_utf8(aligned).expect("text and spaces")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_as_wide_as_its_widest_cell() {
        let table = align("ID\tHOSTNAME\tSTATUS\nlong-identifier\tn1\tReady\n");
        assert_eq!(table, "ID                HOSTNAME   STATUS\nlong-identifier   n1         Ready\n");
    }

    #[test]
    fn a_narrow_column_keeps_ten() {
        assert_eq!(align("NODE\tERROR\tPORTS\nn1\t\t\n"), "NODE      ERROR     PORTS\nn1                  \n");
    }
}
