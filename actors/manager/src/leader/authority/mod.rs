//! Lets machines in, and signs certificates.
//!
//! A certificate says what is committed, and nothing else: a stranger with the right secret is accepted by a commit
//! before its certificate is signed, and a renewal says the role that the state has for that node now. So a manager's
//! certificate exists only after the commit that promoted it. Enrolment is keyed by the public key: asking again,
//! after an answer that was lost, finds the same node. A node that was removed gets nothing.
//!
//! - `signer`: the decision and the signature; a handle, since requests need not wait for each other.
//! - `actor`: hands it to the endpoint for as long as this manager leads.

mod actor;
mod signer;

pub(super) use actor::AuthorityActor;
