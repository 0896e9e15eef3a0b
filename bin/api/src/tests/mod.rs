//! Tests of the face with a Docker Engine that is played by the test, over real unix sockets.

mod engine;
mod events;
mod info;
mod proxy;
