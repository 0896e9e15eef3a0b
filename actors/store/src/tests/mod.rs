//! Scenarios: a few stores in one process, connected by memory, on disks that lose unsynced data, in virtual time.

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
