//! Changes of plain nouns. Their rules, and the tables that they change, are in `noun`.

use super::Made;
use crate::{AnyId, AnyPut, Event, State};

impl State {
    pub(super) fn put_object(&mut self, put: &AnyPut, events: &mut Vec<Event>) -> Made {
        let replaced = self.tables.put(put, (self.applied.index, self.at))?;
        events.push(Event::Object { old: replaced.old, new: replaced.new });
        Ok(())
    }

    pub(super) fn remove_object(&mut self, id: AnyId, events: &mut Vec<Event>) -> Made {
        let replaced = self.tables.remove(id, self.services.values())?;
        events.push(Event::Object { old: replaced.old, new: replaced.new });
        Ok(())
    }
}
