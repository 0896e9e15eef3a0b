//! Between these types and the nouns of `model`.
