//! The route `/distribution/{name}/json`: what a registry says of an image. Essaim asks no registry yet, so every image
//! is unknown; the CLI continues without an answer, and says so on standard error.

use crate::ask::Path;
use crate::reply::Answer;
use essaim_model::{Refusal, RefusalKind};

pub(super) async fn inspect(Path(name): Path) -> Answer {
    let name = name.strip_suffix("/json").unwrap_or(&name);
    let text = format!("manifest unknown: no registry is asked for {name:?}: each node looks it up for itself");
    Err(Refusal::new(RefusalKind::NotFound, text).into())
}
