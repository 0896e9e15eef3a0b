//! Tests of the endpoint, each on both networks: QUIC on loopback, and the simulation in virtual time.

mod enrolment;
mod faults;
mod hostile;
mod quic_only;
mod sessions;
mod world;

/// Runs each test once on real UDP and once in the simulation.
macro_rules! on_both_networks {
    ($($fact:ident),+ $(,)?) => {
        mod on_quic {
            use crate::endpoint::tests::world::World;
            $(#[tokio::test]
            async fn $fact() {
                super::$fact(&mut World::on_quic()).await;
            })+
        }
        mod simulated {
            use crate::endpoint::tests::world::World;
            $(#[tokio::test(start_paused = true)]
            async fn $fact() {
                super::$fact(&mut World::simulated(7)).await;
            })+
        }
    };
}

pub(super) use on_both_networks;
