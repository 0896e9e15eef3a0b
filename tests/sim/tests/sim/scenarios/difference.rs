//! Line-by-line difference between two texts.

/// Number of unchanged lines that are shown before and after each change.
const AROUND: usize = 3;

/// The lines that differ, with a few unchanged lines around them: `-` marks a line only in `before`, `+` one only in
/// `after`.
pub(super) fn show(before: &str, after: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    // `common[i][j]` is the length of the longest common subsequence of `a[i..]` and `b[j..]`. The table is quadratic,
    // which is enough for scenarios of a hundred lines.
    let mut common = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            lines.push((' ', a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || i < a.len() && common[i + 1][j] >= common[i][j + 1] {
            lines.push(('-', a[i]));
            i += 1;
        } else {
            lines.push(('+', b[j]));
            j += 1;
        }
    }
    let near = |place: usize| {
        let from = place.saturating_sub(AROUND);
        lines[from..(place + AROUND + 1).min(lines.len())].iter().any(|(sign, _)| *sign != ' ')
    };
    let (mut text, mut left_out) = (String::new(), false);
    for (place, (sign, line)) in lines.iter().enumerate() {
        if near(place) {
            text.push_str(&format!("{sign} {line}\n"));
            left_out = false;
        } else if !left_out {
            text.push_str("  …\n");
            left_out = true;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_shown_with_what_stands_around_it() {
        let before = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let after = before.replace("6\n", "six\nand more\n");
        assert_eq!(show(before, &after), "  …\n  3\n  4\n  5\n- 6\n+ six\n+ and more\n  7\n  8\n  9\n");
        assert_eq!(show(before, before), "  …\n");
    }
}
