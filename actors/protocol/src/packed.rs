//! Packed values: a value travels as its bytes, and only the actor that needs it decodes them.

use bincode::{Decode, Encode};
use essaim_wire::{DecodeError, decode, encode};
use ractor::BytesConvertable;
use std::fmt;
use std::marker::PhantomData;

/// The encoded bytes of a `T`, or bytes that a peer claims to be that.
pub struct Packed<T> {
    bytes: Vec<u8>,
    of: PhantomData<fn() -> T>,
}

impl<T: Encode> Packed<T> {
    /// Encodes `value`.
    pub fn new(value: &T) -> Self {
        Self { bytes: encode(value), of: PhantomData }
    }
}

impl<T: Decode<()>> Packed<T> {
    /// Decodes the value, or says what is wrong with the bytes.
    pub fn open(&self) -> Result<T, DecodeError> {
        decode(&self.bytes)
    }
}

impl<T> BytesConvertable for Packed<T> {
    fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes, of: PhantomData }
    }
}

impl<T> Clone for Packed<T> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), of: PhantomData }
    }
}

impl<T> fmt::Debug for Packed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed({} bytes)", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_wire::{Index, Role};

    #[test]
    fn a_packed_value_opens_to_itself_and_bad_bytes_to_an_error() {
        assert_eq!(Packed::new(&Index(9)).open(), Ok(Index(9)));
        assert!(Packed::<Role>::from_bytes(vec![17]).open().is_err());
    }
}
