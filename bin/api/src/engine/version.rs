//! Versions of Docker's API between three parties: the client, the face and the engine. Pure.
//!
//! Announced is the older of the face's and the engine's newest version. A client that negotiates then writes its requests
//! for the engine that runs its containers, and refuses the flags that this engine does not know; with a newer version it
//! would send fields that an older engine skips without a word (`docker run --mac-address` for an engine below 1.44). The
//! requests about services need 1.41 at most, with few flags excepted, which an engine that old does not honour either.
//! A client that does not negotiate may still use any version that the face knows: requests for the engine are handed on
//! with the engine's newest version if the client's is newer.

use essaim_docker::ping::API_VERSION;
use std::fmt;
use std::str::FromStr;

/// A version of Docker's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion {
    major: u16,
    minor: u16,
}

impl FromStr for ApiVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once('.').ok_or(())?;
        Ok(Self { major: major.parse().map_err(drop)?, minor: minor.parse().map_err(drop)? })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The version that is announced to clients on a machine whose engine's newest version is `engine`.
pub(crate) fn announced(engine: ApiVersion) -> ApiVersion {
    let own: ApiVersion = API_VERSION.parse().expect("our own version is a version");
    own.min(engine)
}

/// The path that a request is handed on with: with the client's version if the engine knows it, with the engine's newest
/// otherwise, and without a version if the client named none.
///
/// A version below the engine's oldest stays as it is: the engine refuses it in its own words.
pub(super) fn path_for(engine: Option<ApiVersion>, client: Option<&str>, path_and_query: &str) -> String {
    let Some(client) = client else { return path_and_query.to_owned() };
    match (client.parse::<ApiVersion>(), engine) {
        (Ok(asked), Some(newest)) => format!("/v{}{path_and_query}", asked.min(newest)),
        _ => format!("/v{client}{path_and_query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> ApiVersion {
        text.parse().expect("a version")
    }

    #[test]
    fn the_older_of_both_is_announced() {
        assert_eq!(announced(version("1.41")).to_string(), "1.41");
        assert_eq!(announced(version("1.99")).to_string(), API_VERSION);
        assert!(version("1.9") < version("1.41"), "versions are numbers and no text");
    }

    #[test]
    fn a_request_is_handed_on_with_a_version_that_the_engine_knows() {
        let old = Some(version("1.41"));
        let check = |engine, client, expected: &str| assert_eq!(path_for(engine, client, "/info?a=b"), expected);
        check(old, Some("1.50"), "/v1.41/info?a=b");
        check(old, Some("1.30"), "/v1.30/info?a=b");
        check(old, None, "/info?a=b");
        check(None, Some("1.50"), "/v1.50/info?a=b");
        assert!("1".parse::<ApiVersion>().is_err() && "a.b".parse::<ApiVersion>().is_err());
    }
}
