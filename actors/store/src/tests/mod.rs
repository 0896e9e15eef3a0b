//! Scenarios: a few stores in one process, memory between them, disks that lose what was not synced, virtual time.

mod appends;
mod checks;
mod damage;
mod endpoints;
mod group;
mod levels;
mod real;
mod suite;
mod world;
mod writes;
