//! A small replacement for `base2histogram`, the crate in which openraft keeps its statistics.
//!
//! openraft counts the sizes of its batches in the crate `base2histogram`. At its first use, version 0.2.3 of that
//! crate makes tables for all sixteen resolutions that it offers: 26 MiB that stay, of which openraft reads the 2 KiB
//! of one. A manager would spend more memory on them than on everything else that it has allocated. This crate takes
//! its place, under its name, with the part of its API that openraft uses: [`Histogram`] counts, [`PercentileStats`]
//! summarises, [`AsciiChart`] displays.
//!
//! The buckets are those of the original at the resolution that openraft uses: four per power of two, so that a
//! percentile is right within a quarter. Values within a bucket are assumed to be spread evenly.
//!
//! This crate can go once the original makes its tables on demand.

use std::fmt;
use std::marker::PhantomData;

/// Buckets per power of two.
const BUCKETS_EACH: usize = 1 << WITHIN_BITS;

/// Number of bits after the highest one that choose a bucket.
const WITHIN_BITS: u32 = 2;

/// Buckets for all `u64` values: one each for the values below [`BUCKETS_EACH`], then four for each power of two.
const BUCKETS: usize = BUCKETS_EACH * (u64::BITS - WITHIN_BITS + 1) as usize;

/// Characters of the longest bar in a chart.
const BAR_MAX: u64 = 40;

/// Counts of values by size. The type parameter exists for compatibility; the original stores it per period of time,
/// and here it has no effect.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: Box<[u64]>,
    total: u64,
    period: PhantomData<T>,
}

/// Summary of a histogram. Each field is the value at or below which that percentage of the values lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PercentileStats {
    /// Number of values counted in the histogram.
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

/// Histograms drawn as text, one below the other.
#[derive(Debug, Clone)]
pub struct AsciiChart<T = ()> {
    parts: Vec<(String, Histogram<T>)>,
}

impl<T> Histogram<T> {
    /// An empty histogram.
    pub fn new() -> Self {
        Self { counts: vec![0; BUCKETS].into(), total: 0, period: PhantomData }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        self.counts[bucket(value)] += count;
        self.total += count;
    }

    /// Number of values counted in the histogram.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The value at or below which this share of all values lies; 0 without values.
    pub fn percentile(&self, share: f64) -> u64 {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut below = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            if below + count >= rank {
                let (least, most) = (least(bucket), most(bucket));
                let part = (rank - below) as f64 / *count as f64;
                return least + ((most - least) as f64 * part) as u64;
            }
            below += count;
        }
        0
    }

    /// Summary with the usual percentiles.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total,
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Histogram<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filled = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        f.debug_map().entries(filled.map(|(bucket, count)| (least(bucket), count))).finish()
    }
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p0_1, p1, p5, p10, p50, p90, p99, p99_9 } = self;
        write!(
            f,
            "[samples: {samples}, P0.1: {p0_1}, P1: {p1}, P5: {p5}, P10: {p10}, P50: {p50}, P90: {p90}, P99: {p99}, \
             P99.9: {p99_9}]"
        )
    }
}

impl<T> AsciiChart<T> {
    /// An empty chart.
    pub const fn new() -> Self {
        Self { parts: Vec::new() }
    }

    /// Adds a histogram to the chart.
    #[must_use]
    pub fn add(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.parts.push((name.to_owned(), histogram));
        self
    }

    /// The chart with the percentiles of each histogram.
    pub const fn detailed(&self) -> &Self {
        self
    }
}

impl<T> Default for AsciiChart<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Display for AsciiChart<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.parts {
            writeln!(f, "{name} {}", histogram.percentile_stats())?;
            let highest = histogram.counts.iter().copied().max().unwrap_or(0);
            for (bucket, count) in histogram.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                let bar = "█".repeat((u128::from(*count) * u128::from(BAR_MAX) / u128::from(highest)) as usize);
                writeln!(f, "[{}, {}] {bar} {count}", least(bucket), most(bucket))?;
            }
        }
        Ok(())
    }
}

/// Bucket of a value: chosen by its highest bit and the two bits after it.
const fn bucket(value: u64) -> usize {
    if value < BUCKETS_EACH as u64 {
        return value as usize;
    }
    let dropped = u64::BITS - 1 - WITHIN_BITS - value.leading_zeros();
    BUCKETS_EACH * (dropped as usize + 1) + ((value >> dropped) as usize & (BUCKETS_EACH - 1))
}

/// The smallest value of a bucket.
const fn least(bucket: usize) -> u64 {
    if bucket < BUCKETS_EACH {
        return bucket as u64;
    }
    ((bucket % BUCKETS_EACH + BUCKETS_EACH) as u64) << (bucket / BUCKETS_EACH - 1)
}

/// The largest value of a bucket.
const fn most(bucket: usize) -> u64 {
    if bucket + 1 < BUCKETS { least(bucket + 1) - 1 } else { u64::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_counted_between_the_edges_of_its_bucket() {
        let powers = (0..u64::BITS).map(|bit| 1 << bit);
        for value in powers.flat_map(|power: u64| [power - 1, power, power + 1, power / 8 * 9]).chain([u64::MAX]) {
            let bucket = bucket(value);
            assert!(least(bucket) <= value && value <= most(bucket), "{value} in {bucket}");
        }
        assert_eq!((bucket(u64::MAX), most(BUCKETS - 1)), (BUCKETS - 1, u64::MAX));
    }

    #[test]
    fn buckets_follow_one_another_without_a_gap() {
        for bucket in 1..BUCKETS {
            assert_eq!(least(bucket), most(bucket - 1) + 1);
        }
    }

    #[test]
    fn percentiles_are_right_within_a_quarter() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p99, 0);
        (1..=100_000).for_each(|value| histogram.record(value));
        let PercentileStats { samples, p1, p50, p99, p99_9, .. } = histogram.percentile_stats();
        assert_eq!(samples, 100_000);
        for (found, right) in [(p1, 1000), (p50, 50_000), (p99, 99_000), (p99_9, 99_900)] {
            assert!(found.abs_diff(right) <= right / 4, "{found} instead of {right}");
        }
    }

    #[test]
    fn a_chart_shows_what_was_counted() {
        let mut histogram = Histogram::<()>::new();
        (0..3).for_each(|_| histogram.record(9));
        let chart = AsciiChart::new().add("sizes", histogram);
        assert!(chart.detailed().to_string().ends_with(&format!("[8, 9] {} 3\n", "█".repeat(40))));
    }
}
