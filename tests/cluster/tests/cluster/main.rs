//! Integration tests of real daemons.

mod containers;
mod contract;
mod crashes;
mod demo;
mod doctor;
mod engines;
mod exec;
mod exit_codes;
mod healing;
mod leaving;
mod namespaces;
mod ports;
mod restart;
mod roles;
mod rollouts;
mod secrets;
mod stacks;
mod talk;
mod trust;
mod volumes;
mod watching;
