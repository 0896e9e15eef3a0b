//! The sentences: what nodes say to each other.
