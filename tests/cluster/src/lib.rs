//! Tests of the product from outside: real daemons, real engines, real clients.
//!
//! [`harness`] starts daemons on loopback addresses or in network namespaces and observes them from outside; the bench
//! uses it as well. All tests are in one binary, `tests/cluster`: `healing`, `restart`, `trust`, `roles`, `leaving`,
//! `watching` and `demo` test on the loopback what the product promises, `namespaces` tests it with network cables that
//! can be pulled, and `contract` compares the output of the stock docker CLI with what was recorded against Docker
//! (`fixtures/`). `talk`, `containers` and `crashes` test with containers, on hosts with a Docker Engine each; `engines`
//! tests that these engines are ended with everything that they started. [`words`] masks what differs from run to run in
//! the output of the docker CLI; the simulator's contract test uses it as well.
//!
//! The tests assert order and cause, never a duration. They build nothing: the program under test is `ESSAIM_BIN`, or
//! the newest `essaim` in the target folder. A test that cannot run on this machine prints what is missing and passes.

pub mod harness;
pub mod words;
