//! The user that a task runs as: a name or a number, optionally with a group.
//!
//! Only root may change the user of a process, so a daemon that is not root runs tasks as its own user and refuses
//! others.

use essaim_worker::engine::EngineError;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid};

/// A user of the host, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// User and group ids to change to; none when the daemon already runs as that user.
    pub(super) change: Option<(u32, u32)>,
    /// Home directory of the user.
    pub(super) home: String,
}

/// Resolves `name`, `uid`, `name:group` or `uid:gid`.
pub(super) fn resolve(text: &str) -> Result<Identity, EngineError> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let missing = |what: &str| EngineError::Rejected(format!("unable to find {what} on this machine"));
    let known = match user.parse::<u32>() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)).ok().flatten(),
        Err(_) => User::from_name(user).ok().flatten(),
    };
    let uid = match (&known, user.parse::<u32>()) {
        (Some(known), _) => known.uid,
        // A numeric user needs no entry in the user database; its group has the same number unless one is given.
        (None, Ok(uid)) => Uid::from_raw(uid),
        (None, Err(_)) => return Err(missing(&format!("user {user}"))),
    };
    let gid = match group {
        None => known.as_ref().map_or(Gid::from_raw(uid.as_raw()), |known| known.gid),
        Some(group) => match group.parse::<u32>() {
            Ok(gid) => Gid::from_raw(gid),
            Err(_) => match Group::from_name(group).ok().flatten() {
                Some(known) => known.gid,
                None => return Err(missing(&format!("group {group}"))),
            },
        },
    };
    let change = if uid == geteuid() && (group.is_none() || gid == getegid()) {
        None
    } else if geteuid().is_root() {
        Some((uid.as_raw(), gid.as_raw()))
    } else {
        return Err(EngineError::Rejected(format!(
            "user {text}: only a daemon that runs as root can run a task as another user"
        )));
    };
    Ok(Identity { change, home: known.map_or_else(|| "/".into(), |known| known.dir.to_string_lossy().into_owned()) })
}

/// The home of the daemon's own user.
pub(super) fn own_home() -> String {
    match User::from_uid(geteuid()) {
        Ok(Some(user)) => user.dir.to_string_lossy().into_owned(),
        _ => "/".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_own_user_needs_no_change() {
        let uid = geteuid().to_string();
        assert_eq!(resolve(&uid).unwrap().change, None);
        assert_eq!(resolve(&format!("{uid}:{}", getegid())).unwrap().change, None);
    }

    #[test]
    fn another_user_is_for_root_alone() {
        let other = if geteuid().is_root() { 65534 } else { 0 };
        match resolve(&format!("{other}:{other}")) {
            Ok(identity) => assert_eq!((geteuid().is_root(), identity.change), (true, Some((other, other)))),
            Err(why) => assert!(!geteuid().is_root() && why.to_string().contains("runs as root"), "{why}"),
        }
    }

    #[test]
    fn who_does_not_exist_is_refused_by_name() {
        let refused = resolve("nobody-has-this-name").unwrap_err();
        assert_eq!(refused.to_string(), "unable to find user nobody-has-this-name on this machine");
        let refused = resolve(&format!("{}:no-such-group", geteuid())).unwrap_err();
        assert_eq!(refused.to_string(), "unable to find group no-such-group on this machine");
    }
}
