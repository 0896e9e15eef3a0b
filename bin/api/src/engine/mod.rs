//! The machine's Docker Engine, as the face sees it: a unix socket that requests are handed on to.
//!
//! What concerns one machine (containers, images, volumes, builds) is answered by the engine itself. The face is a
//! reverse proxy for such a request: it opens one connection to the engine for it, sends the request on, and streams both
//! bodies without keeping them. When the engine switches protocols (`docker attach`, `exec`, BuildKit's session), the two
//! connections are joined byte by byte, and each direction ends by itself (half-close). Whichever side goes away, the
//! other's connection is closed: an engine stops its work for a client that is gone.
//!
//! Bounds: requests under way ([`client::Limits::requests`]), bytes that are buffered for each, the time to connect, and
//! the wait for an answer of an engine that does not even answer a ping. There is no bound on how long a request of a
//! living engine takes: `docker wait` may take days.
//!
//! The face learns which API version the engine speaks from its answers, and never asks for a newer one.
//!
//! - [`socket`]: where the engine is. [`dial`]: the way there.
//! - [`version`]: which API version a request is handed on with, and which one is announced to clients. Pure.
//! - [`client`]: one request to the engine, and the patience with it.
//! - [`proxy`]: a client's request handed on. [`splice`]: two connections joined.
//! - [`ask`]: the face's own questions to the engine, bounded in time and size. [`lines`]: the engine's events.

mod ask;
mod client;
mod dial;
mod lines;
mod proxy;
mod socket;
mod splice;
mod version;

#[cfg(test)]
pub(crate) use client::Limits;
pub(crate) use client::LocalEngine;
pub use dial::EngineInside;
pub(crate) use lines::Lines;
pub(crate) use proxy::ClientVersion;
pub use socket::EngineSocket;
