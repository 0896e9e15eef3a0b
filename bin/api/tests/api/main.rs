//! The HTTP face over a cluster that is a state in memory.
//!
//! `replay` sends what the stock CLI sent, recording by recording; `routes` asks what no recording asked; `streams`
//! reads events and logs; `socket` does it over a real socket.

mod fake;
mod replay;
mod routes;
mod shape;
mod socket;
mod streams;
mod world;
