//! Services that come from a compose file: the digest of their image, credentials, and the wait until they have converged.

use serde_json::Value;

use super::{image, wait};
use crate::client::Client;
use crate::exit::Failure;

/// Whether the registry is asked for the digest of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolve {
    /// It is.
    Ask,
    /// The image stays as it is named.
    Leave,
}

/// The `X-Registry-Auth` header for the image of a spec, if it is wanted.
pub(crate) fn auth(spec: &Value, wanted: bool) -> Result<Option<String>, Failure> {
    if wanted { image::credentials(spec).map(Some) } else { Ok(None) }
}

/// Gives the image of a spec its tag, and its digest if the registry is asked. Returns a warning when it does not answer.
pub(crate) async fn resolve(
    client: &Client,
    spec: &mut Value,
    resolve: Resolve,
    auth: Option<&str>,
) -> Result<Option<String>, Failure> {
    image::tag(spec);
    match resolve {
        Resolve::Leave => Ok(None),
        Resolve::Ask => image::pin(client, spec, auth).await,
    }
}

/// Waits until a service has converged.
pub(crate) async fn wait(client: &Client, id: &str, name: &str, quiet: bool) -> Result<(), Failure> {
    wait::for_service(client, id, name, &wait::Waiting::attached(quiet)).await
}
