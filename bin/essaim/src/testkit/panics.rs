//! Panics of a run, for bug hunting: a supervisor restarts an actor that panics, which hides the panic. A run has one
//! thread, so its panics are those of its thread.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

static WATCHED: Once = Once::new();

thread_local! {
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Remembers the panics of this thread from now on; they are still printed.
pub(crate) fn watch() {
    SEEN.take();
    WATCHED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            SEEN.with_borrow_mut(|seen| seen.push(info.to_string()));
            before(info);
        }));
    });
}

/// Takes the panics of this thread so far, in words.
pub(crate) fn seen() -> Vec<String> {
    SEEN.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_that_somebody_catches_is_seen_once() {
        watch();
        let caught = panic::catch_unwind(|| panic!("for the test"));
        assert!(caught.is_err());
        assert!(seen().iter().any(|text| text.contains("for the test")));
        assert!(seen().is_empty());
    }
}
