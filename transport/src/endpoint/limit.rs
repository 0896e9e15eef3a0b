//! Rate limit on joining, by address. Pure: the time is passed in.
//!
//! Each address has a token bucket of [`BURST`] requests, which refills at [`PER_SECOND`]. A wrong secret costs
//! [`WRONG_COST`], so guessing is slow while a rack of machines behind one address can still join.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;
use tokio::time::Instant;

/// Requests that an address may make at once: a dev cluster of this many nodes on one machine.
const BURST: u32 = 64;

/// Requests per second that an address may make in the long run.
const PER_SECOND: u32 = 4;

/// Requests that a wrong secret costs in addition. 128 bits cannot be guessed; the limit keeps the noise, and the work
/// that it causes, small.
const WRONG_COST: u32 = 7;

/// Addresses with a bucket. A further one replaces the bucket that was unused for longest.
const ADDRESSES_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Limiter {
    buckets: BTreeMap<IpAddr, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Fill level in units of one request / [`UNIT`].
    level: u64,
    at: Instant,
}

/// Parts of one request: refilling is exact to the millisecond at one request a second.
const UNIT: u64 = 1000;

impl Limiter {
    /// Counts a request of the address. Returns the time that it must wait when its bucket is empty.
    pub(super) fn take(&mut self, now: Instant, addr: IpAddr) -> Result<(), Duration> {
        let bucket = self.bucket(now, addr);
        match bucket.level.checked_sub(UNIT) {
            Some(rest) => {
                bucket.level = rest;
                Ok(())
            }
            None => Err(Duration::from_millis((UNIT - bucket.level).div_ceil(u64::from(PER_SECOND)))),
        }
    }

    /// Charges the address for a wrong secret.
    pub(super) fn punish(&mut self, now: Instant, addr: IpAddr) {
        let bucket = self.bucket(now, addr);
        bucket.level = bucket.level.saturating_sub(u64::from(WRONG_COST) * UNIT);
    }

    fn bucket(&mut self, now: Instant, addr: IpAddr) -> &mut Bucket {
        let key = subnet(addr);
        if self.buckets.len() >= ADDRESSES_MAX && !self.buckets.contains_key(&key) {
            let stalest = self.buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(key, _)| *key);
            stalest.map(|key| self.buckets.remove(&key));
        }
        let full = u64::from(BURST) * UNIT;
        let bucket = self.buckets.entry(key).or_insert(Bucket { level: full, at: now });
        let passed = u64::try_from(now.saturating_duration_since(bucket.at).as_millis()).unwrap_or(u64::MAX);
        bucket.level = bucket.level.saturating_add(passed.saturating_mul(u64::from(PER_SECOND))).min(full);
        bucket.at = now;
        bucket
    }
}

/// The part of an address that identifies its host: all of an IPv4 address; the /64 of an IPv6 address, since a host
/// owns all of it.
pub(super) fn subnet(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(_) => addr,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    #[test]
    fn an_address_that_asks_too_often_waits_and_others_do_not() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(limiter.take(now, addr(1)), Ok(()));
        }
        assert_eq!(limiter.take(now, addr(1)), Err(Duration::from_millis(250)));
        assert_eq!(limiter.take(now, addr(2)), Ok(()));
        assert_eq!(limiter.take(now + Duration::from_millis(250), addr(1)), Ok(()));
    }

    #[test]
    fn wrong_secrets_use_up_the_budget_sooner() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        let mut asked = 0;
        while limiter.take(now, addr(1)).is_ok() {
            limiter.punish(now, addr(1));
            asked += 1;
        }
        assert_eq!(asked, BURST / (1 + WRONG_COST));
    }

    #[test]
    fn the_table_of_addresses_is_bounded() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        for number in 0..5000u32 {
            let _ = limiter.take(now + Duration::from_millis(u64::from(number)), IpAddr::from(number.to_be_bytes()));
        }
        assert_eq!(limiter.buckets.len(), ADDRESSES_MAX);
    }
}
