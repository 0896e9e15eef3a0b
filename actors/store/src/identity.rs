//! Identity of this manager in the group, and the layout of its files.
//!
//! The store's folder contains `identity`, `key`, and one folder for each history and group number that this node ever
//! had; `identity` names the one in force, and is replaced as a whole. A new history, or a promotion after a demotion,
//! is prepared beside the old one and comes into force at once; only then is the old one removed.

use crate::error::OpenError;
use crate::format::{GroupIdentity, IdentityFile};
use crate::log::database::place;
use crate::seal::{Sealer, Secret};
use essaim_system::env::{Disk, Seed, folder};
use essaim_wire::{decode, encode};
use std::io;
use std::sync::Arc;

const IDENTITY: &str = "identity";
const KEY: &str = "key";

/// Name of the log's file in its folder.
pub(crate) const LOG: &str = "log.redb";

/// Reads the identity in force, if there is one.
pub(crate) fn find(disk: &Arc<dyn Disk>) -> Result<Option<GroupIdentity>, OpenError> {
    let Some(bytes) = disk.find(IDENTITY)? else { return Ok(None) };
    let file = decode(&bytes).map_err(|why| {
        OpenError::damaged(format!("the file {} is damaged: {why}", place(disk, IDENTITY)), &place(disk, ""))
    })?;
    let IdentityFile::V1(identity) = file;
    Ok(Some(identity))
}

/// Puts an identity in force, and removes the folders of all others.
pub(crate) fn keep(disk: &Arc<dyn Disk>, identity: GroupIdentity) -> io::Result<()> {
    disk.write(IDENTITY, &encode(&IdentityFile::V1(identity)))?;
    let own = name(identity);
    for other in disk.list("")? {
        if other.starts_with("group-") && other != own {
            disk.remove_folder(&other)?;
        }
    }
    Ok(())
}

/// Checks that the log of the identity in force exists: an empty one in its place would forget votes and entries that
/// other managers rely on.
pub(crate) fn expect_log(disk: &Arc<dyn Disk>, identity: GroupIdentity) -> Result<(), OpenError> {
    let files = files(disk, identity);
    if files.list("")?.iter().any(|name| name == LOG) {
        return Ok(());
    }
    Err(OpenError::damaged(format!("the log {} is gone", place(&files, LOG)), &place(disk, "")))
}

/// The folder of an identity, as a disk.
pub(crate) fn files(disk: &Arc<dyn Disk>, identity: GroupIdentity) -> Arc<dyn Disk> {
    folder(disk, &name(identity))
}

/// The name of an identity's folder.
pub(crate) fn name(GroupIdentity { raft_id, lineage, .. }: GroupIdentity) -> String {
    format!("group-{}-{:016x}-{raft_id}", lineage.ordinal, lineage.nonce)
}

/// A sealer with the key of this node; the key is drawn when there is none yet.
pub(crate) fn sealer(disk: &Arc<dyn Disk>, seed: &Seed) -> Result<Arc<Sealer>, OpenError> {
    let secret = match disk.find(KEY)? {
        Some(text) => Secret::from_file(&text)
            .ok_or_else(|| OpenError::damaged(format!("the key {} is damaged", place(disk, KEY)), &place(disk, "")))?,
        None => {
            if find(disk)?.is_some() {
                let what = format!("the key {} is gone, and nothing opens without it", place(disk, KEY));
                return Err(OpenError::damaged(what, &place(disk, "")));
            }
            let secret = Secret::new(seed.draw_bytes());
            disk.write_secret(KEY, secret.to_file().as_bytes())?;
            secret
        }
    };
    let salt: [u8; 32] = seed.draw_bytes();
    Ok(Arc::new(Sealer::new(&secret, std::array::from_fn(|place| salt[place]))))
}
