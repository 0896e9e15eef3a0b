//! The cluster's certificate authority on the leader: enrols machines, and signs certificates.
//!
//! A certificate says what is committed, and nothing else. A machine with a valid join token is accepted by a commit
//! before its certificate is signed, and a renewal says the role that the state has for the node now. So a manager's
//! certificate exists only after the commit that promoted it. Enrolment is keyed by the public key: when a machine
//! repeats a request whose answer was lost, it finds the same node. A node that was removed gets no certificate.
//!
//! - `signer`: the decision and the signature; a handle, since requests need not wait for each other.
//! - `actor`: installs the signer in the endpoint while this manager leads.

mod actor;
mod signer;

pub(super) use actor::AuthorityActor;
