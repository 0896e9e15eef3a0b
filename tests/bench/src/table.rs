//! Output of figures: a table for people, JSON for programs.

use crate::figure::{Figure, Goal, Samples, Unit};
use serde_json::{Value, json};
use std::fmt::Write;

/// The figures as a table, with the notes below it.
pub(crate) fn text(figures: &[Figure]) -> String {
    let mut lines = vec![["what", "ours", "worst", "peer", "worst", "ratio", "to reach", ""].map(str::to_owned)];
    for figure in figures {
        let number =
            |value: Option<f64>| value.map_or("-".into(), |value| format!("{} {}", short(value), figure.unit.text()));
        let (peer, worst) = match &figure.peer {
            Some(peer) => (number(peer.samples.median()), number(peer.samples.worst(figure.unit))),
            None => ("-".into(), "-".into()),
        };
        lines.push([
            figure.what.clone(),
            number(figure.ours.median()),
            number(figure.ours.worst(figure.unit)),
            peer,
            worst,
            figure.ratio().map_or("-".into(), |ratio| format!("{}x", short(ratio))),
            goal(figure.goal, figure.unit),
            verdict(figure).into(),
        ]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..8).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "{cell:width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    for figure in figures {
        let peer = figure.peer.iter().map(|peer| format!("the peer is {}, {} rounds", peer.name, peer.samples.len()));
        let rounds = std::iter::once(format!("{} rounds", figure.ours.len()));
        let notes: Vec<String> = rounds.chain(peer).chain(figure.notes.iter().cloned()).collect();
        let _ = writeln!(text, "{}: {}", figure.what, notes.join("; "));
    }
    text
}

/// The figures as JSON, for programs.
pub(crate) fn json(figures: &[Figure]) -> Value {
    let samples = |samples: &Samples, unit| json!({ "median": samples.median(), "worst": samples.worst(unit), "rounds": samples.len() });
    let line = |figure: &Figure| {
        let peer = figure.peer.as_ref();
        json!({
            "what": figure.what,
            "unit": figure.unit.text(),
            "ours": samples(&figure.ours, figure.unit),
            "peer": peer.map(|peer| json!({ "name": peer.name, "samples": samples(&peer.samples, figure.unit) })),
            "ratio": figure.ratio(),
            "goal": goal(figure.goal, figure.unit),
            "reached": figure.is_reached(),
            "notes": figure.notes,
        })
    };
    figures.iter().map(line).collect()
}

fn verdict(figure: &Figure) -> &'static str {
    match figure.is_reached() {
        Some(true) => "reached",
        Some(false) => "missed",
        None if figure.goal == Goal::Base => "",
        None => "?",
    }
}

fn goal(goal: Goal, unit: Unit) -> String {
    let unit = unit.text();
    match goal {
        Goal::Ratio(least) => format!("≥ {}x", short(least)),
        Goal::RatioAndMost(least, most) => format!("≥ {}x, ≤ {} {unit}", short(least), short(most)),
        Goal::AtMost(most) => format!("≤ {} {unit}", short(most)),
        Goal::AtLeast(least) => format!("≥ {} {unit}", short(least)),
        Goal::Within(most) => format!("≤ {}x", short(most)),
        Goal::Base => "-".into(),
    }
}

/// A number with about three significant digits.
fn short(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}
