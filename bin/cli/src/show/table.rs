//! Columns aligned with spaces, as Go's tabwriter does it for docker: a cell ends with a tab, a column is as wide
//! as its widest cell plus three, ten at least, and what follows the last tab of a line is not padded.

/// The narrowest column, its cell and the gap counted together.
const COLUMN_WIDTH_MIN: usize = 10;

/// Spaces between a column's widest cell and the next column.
const GAP: usize = 3;

/// Aligns lines of tab-separated cells.
pub(crate) fn align(text: &str) -> String {
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        for (column, cell) in row.iter().take(row.len() - 1).enumerate() {
            if widths.len() <= column {
                widths.push(COLUMN_WIDTH_MIN);
            }
            widths[column] = widths[column].max(width(cell) + GAP);
        }
    }
    let mut out = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if column + 1 < row.len() {
                out.extend(std::iter::repeat_n(' ', widths[column] - width(cell)));
            }
        }
        out.push('\n');
    }
    out
}

fn width(cell: &str) -> usize {
    cell.chars().count()
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
