//! Payloads: a node has the data of a secret or config only while it has orders for a task that uses it.

use crate::testkit::fault::Number;
use essaim_worker::PayloadsHeld;

/// Checks what a node has of secrets and configs: with its last orders, and kept from before.
pub(crate) fn look(number: Number, held: &PayloadsHeld) -> Option<String> {
    let surplus: Vec<_> = held.held.difference(&held.needed).map(|id| format!("{} {id}", id.word())).collect();
    (!surplus.is_empty()).then(|| format!("n{number} has what no task of it uses: {}", surplus.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::{PayloadId, SecretId};

    #[test]
    fn a_secret_without_a_task_that_uses_it_is_seen() {
        let id = |id| PayloadId::Secret(SecretId::from_bits(id));
        let held = PayloadsHeld { held: [id(1)].into(), needed: [id(1), id(2)].into() };
        assert_eq!(look(3, &held), None, "one that is missing is asked for again");
        let held = PayloadsHeld { held: [id(1), id(2)].into(), needed: [id(1)].into() };
        let why = format!("n3 has what no task of it uses: secret {}", SecretId::from_bits(2));
        assert_eq!(look(3, &held), Some(why));
    }
}
