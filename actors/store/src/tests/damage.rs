//! Power cuts at every point of a workload, torn ends, rot, and disks that fill up.

use super::world::{World, accept, has, write};
use crate::format::{LogId, Vote};
use crate::log::database::LogDatabase;
use crate::log::{LogBackend, LogError, Op};
use crate::seal::{Sealer, Secret};
use crate::{OpenError, Start};
use essaim_system::env::{Disk, DiskFault, DiskFile, SimDisk};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn sealer() -> Arc<Sealer> {
    Arc::new(Sealer::new(&Secret::new([1; 32]), [2; 16]))
}

/// A disk whose power fails after a number of writes and syncs.
#[derive(Clone)]
struct Fuse {
    disk: SimDisk,
    left: Arc<AtomicU64>,
}

impl Fuse {
    fn burn(&self) -> io::Result<()> {
        let burnt = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if burnt.is_err() {
            self.disk.set_fault(DiskFault::Dead);
            return Err(io::Error::other("the power is gone"));
        }
        Ok(())
    }
}

struct FuseFile {
    fuse: Fuse,
    file: Box<dyn DiskFile>,
}

impl DiskFile for FuseFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, bytes)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.fuse.burn()?;
        self.file.write_at(offset, bytes)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fuse.burn()?;
        self.file.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.fuse.burn()?;
        self.file.sync()
    }
}

impl Disk for Fuse {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.disk.read(name)
    }
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.disk.write(name, bytes)
    }
    fn write_secret(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_secret(name, bytes)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn remove_folder(&self, name: &str) -> io::Result<()> {
        self.disk.remove_folder(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.disk.list(folder)
    }
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(FuseFile { fuse: self.clone(), file: self.disk.open(name)? }))
    }
    fn path(&self) -> Option<PathBuf> {
        None
    }
    fn blocks(&self) -> bool {
        false
    }
}

fn entry(index: u64, content: u8) -> (u64, Vec<u8>) {
    (index, vec![content; 300])
}

/// Operations on a log, group by group: appends, votes, a truncation, a purge.
fn workload() -> Vec<Vec<Op>> {
    let mut groups = vec![vec![Op::Vote(Vote { term: 1, node: 1, committed: true })]];
    for group in 0..6 {
        groups.push(vec![Op::Append((0..4).map(|place| entry(group * 4 + place, 1)).collect())]);
    }
    groups.push(vec![Op::Vote(Vote { term: 2, node: 2, committed: false }), Op::TruncateFrom(20)]);
    groups.push(vec![Op::Append(vec![entry(20, 2), entry(21, 2)])]);
    groups.push(vec![Op::Purge(LogId { term: 1, index: 9 })]);
    groups.push(vec![Op::Append(vec![entry(22, 2)])]);
    groups
}

type Holds = (Option<Vote>, Option<LogId>, Vec<(u64, Vec<u8>)>);

/// The contents of the log after the first `groups` of the workload.
fn expected(groups: usize) -> Holds {
    let (mut vote, mut purged, mut entries) = (None, None, Vec::new());
    for op in workload().into_iter().take(groups).flatten() {
        match op {
            Op::Append(records) => entries.extend(records),
            Op::TruncateFrom(from) => entries.retain(|(index, _)| *index < from),
            Op::Purge(upto) => {
                purged = Some(upto);
                entries.retain(|(index, _)| *index > upto.index);
            }
            Op::Vote(given) => vote = Some(given),
            Op::Committed(_) => (),
        }
    }
    (vote, purged, entries)
}

/// After a power cut at any point, the log holds everything acknowledged and at most the one group under way, whole:
/// whether the disk lost all unsynced data or kept some of it torn.
#[test]
fn a_power_cut_at_any_point_loses_nothing_acknowledged() {
    let mut cut_points = 0;
    for torn in [None, Some(1), Some(2), Some(3)] {
        // Torn disks are cut at some points only, because each of the four runs has hundreds.
        for fuse in (0..).step_by(if torn.is_some() { 7 } else { 2 }) {
            let disk = SimDisk::new();
            let left = Arc::new(AtomicU64::new(fuse));
            let fused: Arc<dyn Disk> = Arc::new(Fuse { disk: disk.clone(), left });
            let mut acknowledged = 0;
            if let Ok(log) = LogDatabase::open(&fused, "log.redb", sealer()) {
                for group in workload() {
                    if log.commit(&group).is_err() {
                        break;
                    }
                    acknowledged += 1;
                }
                std::mem::forget(log); // The machine is off: nothing tidies up.
            }
            let is_through = acknowledged == workload().len();
            disk.crash(torn.map(|seed| StdRng::seed_from_u64(seed * 1000 + fuse)).as_mut());
            disk.set_fault(DiskFault::None);
            let whole: Arc<dyn Disk> = Arc::new(disk);
            let log = LogDatabase::open(&whole, "log.redb", sealer())
                .unwrap_or_else(|why| panic!("cut {fuse}, torn {torn:?}: {why}"));
            let found = log.load().unwrap_or_else(|why| panic!("cut {fuse}, torn {torn:?}: {why}"));
            let holds = (found.vote, found.purged, found.entries);
            assert!(
                holds == expected(acknowledged) || holds == expected(acknowledged + 1),
                "cut {fuse}, torn {torn:?}, {acknowledged} acknowledged: {:?}",
                holds.2.iter().map(|(index, _)| index).collect::<Vec<_>>()
            );
            cut_points += 1;
            if is_through {
                break;
            }
        }
    }
    assert!(cut_points > 50, "{cut_points} cuts");
}

fn filled() -> (SimDisk, Arc<dyn Disk>) {
    let disk = SimDisk::new();
    let dynamic: Arc<dyn Disk> = Arc::new(disk.clone());
    let log = LogDatabase::open(&dynamic, "log.redb", sealer()).expect("opened");
    for group in workload() {
        log.commit(&group).expect("committed");
    }
    log.close();
    (disk, dynamic)
}

/// Replaces a good record by one that cannot be opened.
fn spoil(disk: &Arc<dyn Disk>, index: u64) {
    let other = Arc::new(Sealer::new(&Secret::new([9; 32]), [2; 16]));
    let log = LogDatabase::open(disk, "log.redb", other).expect("opened");
    log.commit(&[Op::Append(vec![entry(index, 3)])]).expect("committed");
    log.close();
}

/// redb returns entries of whole commits only, so the last entry was acknowledged like every other.
#[test]
fn a_damaged_record_is_a_reason_not_to_start_also_when_it_is_the_last() {
    for damaged in [15, 22] {
        let (_, disk) = filled();
        spoil(&disk, damaged);
        // Opened twice: the first start must not have repaired the record.
        for _ in 0..2 {
            let log = LogDatabase::open(&disk, "log.redb", sealer()).expect("opened");
            match log.load() {
                Err(LogError::Damaged(why)) => {
                    assert!(why.contains("log.redb") && why.contains(&format!("entry {damaged}")), "{why}");
                }
                other => panic!("{other:?}"),
            }
            log.close();
        }
    }
}

/// One flipped bit anywhere in the file is detected, or changes nothing that is read; there is never a panic or other
/// data.
#[test]
fn rot_anywhere_in_the_file_is_noticed_or_harmless() {
    let (disk, dynamic) = filled();
    let len = disk.files().iter().find(|(name, _)| name == "log.redb").expect("it is there").1;
    let whole = dynamic.read("log.redb").expect("read");
    let mut noticed = 0;
    // Every page of 4 KiB is hit about three times, at different offsets.
    for offset in (0..len).step_by(1361) {
        disk.rot("log.redb", offset);
        let read = || {
            LogDatabase::open(&dynamic, "log.redb", sealer()).and_then(|log| {
                let found = log.load();
                log.close();
                found
            })
        };
        match read() {
            Err(_) => {
                noticed += 1;
                assert!(read().is_err(), "bit at {offset}: what was noticed once is noticed again");
            }
            Ok(found) => {
                let holds = (found.vote, found.purged, found.entries);
                assert_eq!(holds, expected(workload().len()), "bit at {offset} changed what is read");
            }
        }
        dynamic.write("log.redb", &whole).expect("whole again");
    }
    assert!(noticed > 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_with_a_damaged_log_names_the_file_and_the_way_back_and_the_group_goes_on() {
    let mut world = World::of(3).await;
    let leader = world.leader().await;
    for place in 100..130 {
        assert!(write(&leader, place).await);
    }
    let victim = world.follower().await.node().bits();
    world.stop(victim).await;
    let disk = world.disks[&victim].clone();
    let (name, len) = disk.files().into_iter().find(|(name, _)| name.ends_with("log.redb")).expect("a log");
    for offset in (0..len).step_by(512) {
        disk.rot(&name, offset);
    }
    let refused = world.start(victim, Start::Resume).await.err().expect("it does not start");
    let text = refused.to_string();
    assert!(matches!(refused, OpenError::Damaged(_)), "{text}");
    assert!(text.contains("log.redb") && text.contains("demote this node"), "{text}");
    assert!(write(&leader, 200).await, "the cluster loses nothing");
}

#[tokio::test(start_paused = true)]
async fn a_store_whose_key_is_gone_or_another_does_not_start() {
    let mut world = World::of(1).await;
    world.stop(1).await;
    let disk: Arc<dyn Disk> = Arc::new(world.disks[&1].clone());
    let key = disk.read("key").expect("it lies there");
    disk.remove("key").expect("removed");
    let text = world.start(1, Start::Resume).await.err().expect("no key").to_string();
    assert!(text.contains("key"), "{text}");
    disk.write_secret("key", Secret::new([8; 32]).to_file().as_bytes()).expect("another");
    let text = world.start(1, Start::Resume).await.err().expect("another key").to_string();
    assert!(text.contains("does not open with the key"), "{text}");
    disk.write_secret("key", &key).expect("the right one again");
    world.start(1, Start::Resume).await.expect("it starts");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_stops_its_manager_and_nobody_elses() {
    let world = World::of(3).await;
    let leader = world.leader().await;
    world.disks[&leader.node().bits()].set_fault(DiskFault::SyncsFail);
    let other = world.follower().await;
    let mut through = 0;
    for place in 100..110 {
        through += u32::from(write(&other, place).await);
    }
    assert!(through >= 8, "{through}");
    let next = world.running().into_iter().find(|store| store.leadership().borrow().active().is_some());
    assert_ne!(next.expect("somebody leads").node(), leader.node());
}

/// A log that a disk refuses to open is not damaged: the way out is another disk, or space on this one.
#[test]
fn a_disk_that_refuses_damages_no_log() {
    let ways = [DiskFault::WritesFail, DiskFault::SyncsFail, DiskFault::WritesTear];
    for fault in ways {
        let (disk, dynamic) = filled();
        disk.crash(None);
        disk.set_fault(fault);
        match LogDatabase::open(&dynamic, "log.redb", sealer()).map(drop) {
            Err(LogError::Disk(why)) => assert!(why.to_string().contains("log.redb"), "{why}"),
            other => panic!("{fault:?}: {other:?}"),
        }
        disk.set_fault(DiskFault::None);
        let log = LogDatabase::open(&dynamic, "log.redb", sealer()).expect("whole");
        let found = log.load().expect("whole");
        assert_eq!((found.vote, found.purged, found.entries), expected(workload().len()), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_that_was_written_lies_on_disk_in_the_open() {
    let world = World::of(1).await;
    let leader = world.leader().await;
    let mut secret = super::world::node(100);
    secret.message = "a-secret-nobody-may-read".repeat(4);
    leader.change(vec![essaim_model::Change::AcceptNode(Box::new(secret)), accept(101)], None).await.expect("done");
    leader.raft().trigger().snapshot().await.expect("asked");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(has(&leader, 101) && leader.status().snapshot.0 > 0);
    world.stop(1).await;
    let disk = &world.disks[&1];
    for (name, _) in disk.files() {
        let bytes = disk.read(&name).expect("read");
        assert!(!bytes.windows(12).any(|window| window == b"a-secret-nob"), "{name}");
    }
}
