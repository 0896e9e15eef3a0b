//! A short checksum, the same on every machine and in every version: FNV-1a with 64 bits.
//!
//! It detects accidental differences. It is no protection against deliberate ones.

/// A checksum to which bytes are added. How the bytes are split into calls makes no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum(u64);

impl Default for Sum {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Sum {
    /// Checksum of these bytes alone.
    pub fn of(bytes: &[u8]) -> u64 {
        let mut sum = Self::default();
        sum.add(bytes);
        sum.value()
    }

    /// Adds bytes at the end.
    pub fn add(&mut self, bytes: &[u8]) {
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        self.0 = bytes.iter().fold(self.0, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(PRIME));
    }

    /// Checksum of all bytes that were added so far.
    pub const fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_definition() {
        // Test vectors of draft-eastlake-fnv, appendix C: the empty string, "a", "foobar".
        assert_eq!(Sum::of(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(Sum::of(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(Sum::of(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
