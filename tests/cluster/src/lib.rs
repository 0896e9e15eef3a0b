//! Real daemons, real engines, real clients.
//!
//! [`harness`] starts daemons on loopback addresses or in network namespaces and looks at them from outside, for the
//! bench as well. All tests are in one binary, `tests/cluster`: `healing`, `restart`, `trust`, `roles`, `watching` and `demo` tell what the product
//! must show, `namespaces` does so with cables that can be pulled, and `contract` compares what the stock docker CLI
//! prints with what it printed when it talked to Docker (`fixtures/`).
//!
//! They assert order and cause, never a duration. They build nothing: the program under test is `ESSAIM_BIN`, or the
//! newest `essaim` in the target folder. A test that cannot run here says what is missing and passes.

pub mod harness;
