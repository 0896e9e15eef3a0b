//! Figures: samples of Essaim and of its peer, and the goal.

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// What was measured, for example `worker killed: all running elsewhere`.
    pub(crate) what: String,
    /// The unit of the samples.
    pub(crate) unit: Unit,
    /// Samples of Essaim.
    pub(crate) ours: Samples,
    /// Samples of the peer, if it is installed.
    pub(crate) peer: Option<Peer>,
    /// Goal of the figure.
    pub(crate) goal: Goal,
    /// Notes for the reader: rounds that were thrown away, a missing peer, a recorded figure.
    pub(crate) notes: Vec<String>,
}

/// A peer that does the same work.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Name and version of the peer, for example `Docker Swarm 20.10`.
    pub(crate) name: String,
    /// Samples of the peer, in the unit of the figure.
    pub(crate) samples: Samples,
}

/// Unit of a number, and whether a larger number is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Millis,
    Micros,
    /// A rate per second.
    PerSecond,
    Mebibytes,
    Bytes,
    /// A number without a unit.
    Count,
}

/// Goal of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// At least this many times better than the peer.
    Ratio(f64),
    /// At least this many times better than the peer, and at most this value.
    RatioAndMost(f64, f64),
    /// At most this value.
    AtMost(f64),
    /// At least this value.
    AtLeast(f64),
    /// At most this many times the peer's value; in the rows of growth the peer is the smallest size.
    Within(f64),
    /// No goal: other figures are compared with this one.
    Base,
}

/// Samples, one for each round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Unit {
    /// The unit as text after a number.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Millis => "ms",
            Self::Micros => "µs",
            Self::PerSecond => "/s",
            Self::Mebibytes => "MiB",
            Self::Bytes => "B",
            Self::Count => "",
        }
    }

    /// Whether a larger number is better.
    pub(crate) const fn more_is_better(self) -> bool {
        matches!(self, Self::PerSecond)
    }
}

impl Samples {
    /// Adds the sample of a round.
    pub(crate) fn add(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// Number of samples, one for each round.
    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Median of the samples; `None` without rounds.
    pub(crate) fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(sorted[middle]),
            _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        }
    }

    /// Worst of the samples in this unit.
    pub(crate) fn worst(&self, unit: Unit) -> Option<f64> {
        let all = self.0.iter().copied();
        if unit.more_is_better() { all.reduce(f64::min) } else { all.reduce(f64::max) }
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<T: IntoIterator<Item = f64>>(samples: T) -> Self {
        Self(samples.into_iter().collect())
    }
}

impl Figure {
    /// How many times better than the peer Essaim is, by the medians.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let (ours, theirs) = (self.ours.median()?, self.peer.as_ref()?.samples.median()?);
        Some(if self.unit.more_is_better() { ours / theirs } else { theirs / ours })
    }

    /// Whether the goal is reached; `None` without a peer or without rounds.
    pub(crate) fn is_reached(&self) -> Option<bool> {
        let ours = self.ours.median()?;
        match self.goal {
            Goal::Ratio(least) => Some(self.ratio()? >= least),
            Goal::RatioAndMost(least, most) => Some(self.ratio()? >= least && ours <= most),
            Goal::AtMost(most) => Some(ours <= most),
            Goal::AtLeast(least) => Some(ours >= least),
            Goal::Within(most) => Some(self.ratio()? * most >= 1.0),
            Goal::Base => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(unit: Unit, ours: &[f64], theirs: &[f64], goal: Goal) -> Figure {
        let peer = Peer { name: "peer".into(), samples: theirs.iter().copied().collect() };
        let ours = ours.iter().copied().collect();
        Figure { what: "x".into(), unit, ours, peer: Some(peer), goal, notes: Vec::new() }
    }

    #[test]
    fn less_time_is_better_and_more_per_second_is_better() {
        let time = figure(Unit::Millis, &[10.0, 20.0, 30.0], &[200.0], Goal::Ratio(10.0));
        assert_eq!(
            (time.ratio(), time.is_reached(), time.ours.worst(Unit::Millis)),
            (Some(10.0), Some(true), Some(30.0))
        );
        let rate = figure(Unit::PerSecond, &[10.0, 20.0], &[30.0], Goal::Ratio(1.0));
        assert_eq!(
            (rate.ratio(), rate.is_reached(), rate.ours.worst(Unit::PerSecond)),
            (Some(0.5), Some(false), Some(10.0))
        );
    }

    #[test]
    fn a_larger_size_may_cost_a_little_more() {
        let within = |ours: f64| figure(Unit::Millis, &[ours], &[10.0], Goal::Within(1.3)).is_reached();
        assert_eq!((within(12.9), within(13.1), within(5.0)), (Some(true), Some(false), Some(true)));
    }

    #[test]
    fn without_a_peer_no_ratio_is_reached_or_missed() {
        let mut alone = figure(Unit::Millis, &[10.0], &[], Goal::Ratio(10.0));
        assert_eq!(alone.is_reached(), None);
        alone.peer = None;
        assert_eq!((alone.ratio(), alone.is_reached()), (None, None));
    }
}
