//! What was measured: samples of Essaim and of its peer, and what there is to reach.

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// What was measured, for example `worker killed: all running elsewhere`.
    pub(crate) what: String,
    /// The unit of the samples.
    pub(crate) unit: Unit,
    /// Essaim's.
    pub(crate) ours: Samples,
    /// The peer's, if it is installed.
    pub(crate) peer: Option<Peer>,
    /// What there is to reach.
    pub(crate) goal: Goal,
    /// What a reader must know beside the numbers: rounds thrown away, a peer that is missing, a recorded figure.
    pub(crate) notes: Vec<String>,
}

/// Whoever does the same work.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// For example `Docker Swarm 20.10`.
    pub(crate) name: String,
    /// Its samples, in the unit of the figure.
    pub(crate) samples: Samples,
}

/// What a number counts, and whether more of it is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Something per second.
    PerSecond,
    /// Mebibytes.
    Mebibytes,
    /// Bytes.
    Bytes,
    /// How many.
    Count,
}

/// What there is to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// So many times better than the peer.
    Ratio(f64),
    /// So many times better than the peer, and no more than this.
    RatioAndMost(f64, f64),
    /// No more than this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// No more than so many times what the peer needs; the peer of growth is the smallest size.
    Within(f64),
    /// Nothing: others are held against it.
    Base,
}

/// One number a round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Unit {
    /// As it is written behind a number.
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

    /// Whether more of it is better.
    pub(crate) const fn more_is_better(self) -> bool {
        matches!(self, Self::PerSecond)
    }
}

impl Samples {
    /// Adds a round.
    pub(crate) fn add(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// How many rounds.
    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// The middle one; of two in the middle their mean. None without rounds.
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

    /// The worst one.
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
    /// How many times better than the peer, by the medians.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let (ours, theirs) = (self.ours.median()?, self.peer.as_ref()?.samples.median()?);
        Some(if self.unit.more_is_better() { ours / theirs } else { theirs / ours })
    }

    /// Whether the goal is reached; none if that cannot be told, for want of a peer or of rounds.
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
