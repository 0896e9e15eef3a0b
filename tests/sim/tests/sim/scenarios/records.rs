//! What the journals said, as an operator follows a story by them.
//!
//! Of thousands of lines a story needs a few: what the managers concluded of nodes, who leads, where tasks went, how
//! an update goes. Those of one actor are shown whole on request. A line is told with the command that it followed,
//! and with how soon after; the order is that in which the lines were written.

use super::words::{Names, within};
use essaim::testkit::fault::Number;
use essaim_node::Handle;
use essaim_system::{Record, RecordKind};
use essaim_wire::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// So many records of a node at a time.
const PAGE: usize = 1_000;

/// The records since they were last shown.
#[derive(Default)]
pub(super) struct Records {
    /// What was done, and when.
    marks: Vec<(Instant, String)>,
    kept: Vec<Kept>,
    /// How far each start of each node was read.
    next: BTreeMap<(Number, u64), u64>,
}

/// Kept with the moment at which it was taken in, since a node's own time may be wrong, and with what it followed.
struct Kept {
    seen: Instant,
    mark: Option<usize>,
    at: Timestamp,
    node: Number,
    record: Arc<Record>,
}

impl Records {
    /// From now on records follow from this; those so far were taken in.
    pub(super) fn mark(&mut self, command: &str) {
        self.marks.push((Instant::now(), command.into()));
    }

    /// Nothing so far is of interest.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
        self.marks.clear();
    }

    /// Takes in what a node wrote since the last time.
    pub(super) fn take_in(&mut self, node: Number, handle: &Handle) {
        let next = self.next.entry((node, handle.generation().0)).or_insert(1);
        loop {
            let page = match handle.journal().read(*next, PAGE) {
                Ok(page) => page,
                Err(compacted) => {
                    *next = compacted.oldest;
                    continue;
                }
            };
            *next = page.next;
            if page.records.is_empty() {
                return;
            }
            let (seen, mark) = (Instant::now(), self.marks.len().checked_sub(1));
            self.kept.extend(page.records.into_iter().map(|record| Kept { seen, mark, at: record.at, node, record }));
        }
    }

    /// What became of the cluster.
    pub(super) fn of_the_cluster(&mut self, names: &Names) -> Vec<String> {
        self.tell(names, |record, _| {
            let by_the_leader = record.path.as_str().contains("/manager/leader");
            match record.kind {
                RecordKind::Node | RecordKind::Raft | RecordKind::Service => true,
                RecordKind::Task => by_the_leader,
                RecordKind::Escalated => true,
                _ => false,
            }
        })
    }

    /// All that concerns an actor and those below it.
    pub(super) fn of_an_actor(&mut self, path: &str, names: &Names) -> Vec<String> {
        self.tell(names, |_, of| of == path || of.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }

    fn tell(&mut self, names: &Names, wanted: impl Fn(&Record, &str) -> bool) -> Vec<String> {
        let mut kept = std::mem::take(&mut self.kept);
        kept.sort_by_key(|kept| (kept.seen, kept.at, kept.node, kept.record.seq));
        let mut lines: Vec<(Option<usize>, String)> = Vec::new();
        for Kept { seen, mark, node, record, .. } in kept {
            let path = without_draw(&names.clean(record.path.as_str()));
            if !wanted(&record, &path) {
                continue;
            }
            let soon = mark.and_then(|mark| self.marks.get(mark)).map(|(at, _)| within(seen - *at)).unwrap_or_default();
            let actor = path.strip_prefix(&format!("/n{node}")).unwrap_or(&path);
            let kind = match record.kind {
                RecordKind::Node | RecordKind::Raft | RecordKind::Service | RecordKind::Task => String::new(),
                kind => format!("{kind}: "),
            };
            // How long the back-off is, is drawn.
            let text = match record.kind {
                RecordKind::Restarting => String::new(),
                _ => names.clean(&record.reason),
            };
            let line = format!("{soon:14}  n{node}{actor}  {kind}{text}");
            lines.push((mark, line.trim_end_matches([':', ' ']).to_owned()));
        }
        let mut told: Vec<String> = Vec::new();
        let mut under = None;
        for (mark, line) in lines {
            if under != Some(mark) {
                told.extend(
                    mark.and_then(|mark| self.marks.get(mark)).map(|(_, command)| format!("after `{command}`:")),
                );
                under = Some(mark);
            }
            if told.last() != Some(&line) {
                told.push(line);
            }
        }
        if told.is_empty() { vec!["nothing".into()] } else { told }
    }
}

/// A task's path ends with the beginning of its id, which is drawn; its slot tells an operator enough.
fn without_draw(path: &str) -> String {
    match path.rsplit_once('.') {
        Some((slot, _)) if path.contains("/task.") => slot.into(),
        _ => path.into(),
    }
}
