//! Journal records, condensed to the lines by which an operator follows a story.
//!
//! Of thousands of records a story needs a few: what the managers concluded about nodes, who leads, where tasks went,
//! and how an update proceeds. All records of one actor are shown on request. A record is shown with the command that
//! it followed and the time since that command, in the order in which the records were written.

use super::words::{Names, within};
use essaim::testkit::fault::Number;
use essaim_node::Handle;
use essaim_system::{Record, RecordKind};
use essaim_wire::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// Records that are read from a journal at a time.
const PAGE: usize = 1_000;

/// All nodes' records since records were last shown.
#[derive(Default)]
pub(super) struct Records {
    /// Commands so far, and when each was given.
    marks: Vec<(Instant, String)>,
    kept: Vec<Kept>,
    /// Sequence number of the next record to read, for each node and each start of its daemon.
    next: BTreeMap<(Number, u64), u64>,
}

/// A record with the command before it, and with the virtual time at which it was collected, since the node's own clock
/// may be wrong.
struct Kept {
    seen: Instant,
    mark: Option<usize>,
    at: Timestamp,
    node: Number,
    record: Arc<Record>,
}

impl Records {
    /// Notes a command: records that are collected from now on follow from it.
    pub(super) fn mark(&mut self, command: &str) {
        self.marks.push((Instant::now(), command.into()));
    }

    /// Drops all records and commands so far.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
        self.marks.clear();
    }

    /// Collects the records that a node has written since the last call.
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

    /// Takes the records that tell what happened to the cluster, as lines; drops all others.
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

    /// Takes the records of an actor and of the actors below it, as lines; drops all others.
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
            // The text names the length of the back-off, which is drawn at random.
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

/// A path without the beginning of a task's id, which is drawn at random; the slot before it stays.
fn without_draw(path: &str) -> String {
    match path.rsplit_once('.') {
        Some((slot, _)) if path.contains("/task.") => slot.into(),
        _ => path.into(),
    }
}
