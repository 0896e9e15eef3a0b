//! Mounts: file systems of a task beside its root.

use crate::{Labels, Refusal};
use bincode::{Decode, Encode};
use essaim_wire::record;
use std::collections::BTreeSet;
use std::ops::Deref;

/// The mounts of a task. No two have the same target.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// Accepts mounts with distinct targets.
    pub fn parse(mounts: Vec<Mount>) -> Result<Self, Refusal> {
        let mut targets = BTreeSet::new();
        for mount in &mounts {
            if !targets.insert(&mount.target) {
                return Err(Refusal::invalid(format!("ContainerSpec: duplicate mount point: {}", mount.target)));
            }
        }
        Ok(Self(mounts))
    }
}

impl Deref for Mounts {
    type Target = [Mount];

    fn deref(&self) -> &[Mount] {
        &self.0
    }
}

/// A mount: one file system of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    target: String,
    source: MountSource,
    /// Whether the task can only read the mount.
    pub read_only: bool,
    /// Consistency asked of a mount on macOS; Linux ignores it.
    pub consistency: Option<String>,
}
record!(Mount { 1: target, source, read_only, consistency });

/// Source of a mount's content, and how it is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum MountSource {
    /// A bind mount: a path of the host.
    Bind {
        /// Path on the host.
        source: String,
        /// How the path is mounted; the engine's defaults when `None`.
        options: Option<BindOptions>,
    },
    /// A volume.
    Volume {
        /// Name of the volume; `None` for a new volume of each task.
        source: Option<String>,
        /// How the volume is created and mounted; the engine's defaults when `None`.
        options: Option<VolumeOptions>,
    },
    /// A file system in memory.
    Tmpfs {
        /// Size and mode of the file system; the engine's defaults when `None`.
        options: Option<TmpfsOptions>,
    },
    /// The content of an image.
    Image {
        /// Name of the image.
        source: String,
        /// Folder of the image; all of it when `None`.
        subpath: Option<String>,
    },
    /// A named pipe of Windows.
    NamedPipe {
        /// Pipe of the host.
        source: String,
    },
    /// A volume of the cluster.
    Cluster {
        /// Name of the volume, or `group:` and the name of a group.
        source: String,
        /// Whether the request had options for the volume, which Docker shows as an empty object.
        options: bool,
    },
}

/// How a path of the host is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BindOptions {
    /// How later mounts below this one propagate; the engine's default when `None`.
    pub propagation: Option<Propagation>,
    /// Whether mounts below this one are left out.
    pub non_recursive: bool,
    /// Whether the path is created when it does not exist.
    pub create_mountpoint: bool,
    /// Whether mounts below a read-only one stay writable.
    pub read_only_non_recursive: bool,
    /// Whether it is an error when mounts below a read-only one cannot be made read-only.
    pub read_only_force_recursive: bool,
}
record!(BindOptions {
    1: propagation,
    non_recursive,
    create_mountpoint,
    read_only_non_recursive,
    read_only_force_recursive
});

/// Mount propagation: whether a mount that is made later below one copy of a mount appears below its other copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Propagation {
    /// Mounts do not propagate.
    Private,
    /// Mounts do not propagate, nor do those of any mount below.
    RPrivate,
    /// Mounts propagate in both directions.
    Shared,
    /// Mounts propagate in both directions, and so do those of every mount below.
    RShared,
    /// Mounts propagate from the host to the task.
    Slave,
    /// Mounts propagate from the host to the task, and so do those of every mount below.
    RSlave,
}

impl Propagation {
    /// Parses Docker's word for a propagation.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or_else(|| Refusal::invalid(format!("invalid propagation mode: {text}")))
    }

    /// Docker's word for the propagation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::RPrivate => "rprivate",
            Self::Shared => "shared",
            Self::RShared => "rshared",
            Self::Slave => "slave",
            Self::RSlave => "rslave",
        }
    }

    const ALL: [Self; 6] = [Self::Private, Self::RPrivate, Self::Shared, Self::RShared, Self::Slave, Self::RSlave];
}

/// How a volume is created and mounted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeOptions {
    /// Whether a new volume starts empty, without a copy of what the image has at the target.
    pub no_copy: bool,
    /// Labels of a new volume.
    pub labels: Labels,
    /// Folder of the volume; all of it when `None`.
    pub subpath: Option<String>,
    /// Driver that creates the volume; the engine's default when `None`.
    pub driver: Option<Driver>,
}
record!(VolumeOptions { 1: no_copy, labels, subpath, driver });

/// A volume driver and its options.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Driver {
    /// Name of the driver; the engine's default when `None`.
    pub name: Option<String>,
    /// Options of the driver.
    pub options: Labels,
}
record!(Driver { 1: name, options });

/// How a file system in memory is created.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TmpfsOptions {
    /// Size in bytes at most; the engine decides when `None`.
    pub size_bytes: Option<u64>,
    /// File mode of its root folder.
    pub mode: Option<u32>,
    /// Mount options of the kernel, each a name and optionally a value.
    pub options: Vec<Vec<String>>,
}
record!(TmpfsOptions { 1: size_bytes, mode, options });

impl Mount {
    /// Accepts a mount whose target is absolute and whose source fits its kind.
    pub fn parse(target: &str, source: MountSource) -> Result<Self, Refusal> {
        let invalid = |text: String| Err(Refusal::invalid(text));
        let is_pipe = matches!(source, MountSource::NamedPipe { .. });
        if target.is_empty() {
            return invalid("ContainerSpec: mount target must not be empty".into());
        }
        if !target.starts_with('/') && !is_pipe {
            return invalid(format!("invalid mount target, must be an absolute path: {target}"));
        }
        match &source {
            MountSource::Bind { source, .. } if !source.starts_with('/') => {
                return invalid(format!("invalid bind mount source, must be an absolute path: {source}"));
            }
            MountSource::Volume { source: Some(source), .. } if source.starts_with('/') => {
                return invalid(format!("invalid volume mount source, must not be an absolute path: {source}"));
            }
            MountSource::Image { source, .. }
            | MountSource::NamedPipe { source }
            | MountSource::Cluster { source, .. }
                if source.is_empty() =>
            {
                return invalid(format!("invalid mount {target}: it names no source"));
            }
            _ => (),
        }
        Ok(Self { target: target.into(), source, read_only: false, consistency: None })
    }

    /// Whether what the task writes to the mount stays on the node when the task ends.
    pub const fn keeps_data(&self) -> bool {
        let stays = matches!(self.source, MountSource::Bind { .. } | MountSource::Volume { source: Some(_), .. });
        stays && !self.read_only
    }

    /// Path of the mount in the task.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Source of the mount's content.
    pub const fn source(&self) -> &MountSource {
        &self.source
    }
}

impl MountSource {
    /// The path or name that is mounted, if the mount has one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Bind { source, .. }
            | Self::Image { source, .. }
            | Self::NamedPipe { source }
            | Self::Cluster { source, .. } => Some(source),
            Self::Volume { source, .. } => source.as_deref(),
            Self::Tmpfs { .. } => None,
        }
    }

    pub(super) fn name_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Bind { source, .. }
            | Self::Image { source, .. }
            | Self::NamedPipe { source }
            | Self::Cluster { source, .. } => Some(source),
            Self::Volume { source, .. } => source.as_mut(),
            Self::Tmpfs { .. } => None,
        }
    }

    /// Docker's word for the kind of mount.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "bind",
            Self::Volume { .. } => "volume",
            Self::Tmpfs { .. } => "tmpfs",
            Self::Image { .. } => "image",
            Self::NamedPipe { .. } => "npipe",
            Self::Cluster { .. } => "cluster",
        }
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("service-mount": Mounts, MountSource, Propagation, Mount, BindOptions, VolumeOptions, Driver, TmpfsOptions);

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(source: &str) -> MountSource {
        MountSource::Volume { source: Some(source.into()), options: None }
    }

    #[test]
    fn what_a_task_writes_stays_on_its_node_in_a_path_of_the_host_and_in_a_named_volume() {
        let bind = MountSource::Bind { source: "/srv".into(), options: None };
        let nameless = MountSource::Volume { source: None, options: None };
        for (source, keeps) in [
            (bind.clone(), true),
            (volume("data"), true),
            (nameless, false),
            (MountSource::Tmpfs { options: None }, false),
        ] {
            assert_eq!(Mount::parse("/data", source.clone()).expect("a mount").keeps_data(), keeps, "{source:?}");
        }
        let mut mount = Mount::parse("/data", bind).expect("a mount");
        mount.read_only = true;
        assert!(!mount.keeps_data(), "it writes nothing");
    }

    #[test]
    fn a_mount_has_an_absolute_target_and_a_source_of_its_kind() {
        let bind = |source: &str| MountSource::Bind { source: source.into(), options: None };
        assert!(Mount::parse("/data", volume("data")).is_ok());
        assert!(Mount::parse("/data", bind("/srv")).is_ok());
        assert!(Mount::parse("/scratch", MountSource::Tmpfs { options: None }).is_ok());
        for (target, source, text) in [
            ("data", volume("data"), "invalid mount target, must be an absolute path: data"),
            ("/data", bind("srv"), "invalid bind mount source, must be an absolute path: srv"),
            ("/data", volume("/srv"), "invalid volume mount source, must not be an absolute path: /srv"),
        ] {
            assert_eq!(Mount::parse(target, source).expect_err("refused").text, text);
        }
    }

    #[test]
    fn a_target_is_mounted_once() {
        let mount = |source| Mount::parse("/data", volume(source)).expect("a mount");
        let refused = Mounts::parse(vec![mount("a"), mount("b")]).expect_err("refused");
        assert_eq!(refused.text, "ContainerSpec: duplicate mount point: /data");
    }
}
