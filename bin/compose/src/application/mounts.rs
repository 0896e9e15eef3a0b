//! The mounts of a service: its volumes, `tmpfs` and `shm_size`.

use essaim_docker::container::{BindOptions, ImageOptions, Mount, TmpfsOptions, VolumeOptions};

use super::Builder;
use crate::at::At;
use crate::fault::{Fault, FaultKind, Outcome, Weight};
use crate::values::{self, wrong};

/// A mount, and the volume of the application that it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The mount. Its source is the name in the file when it is of a volume.
    pub mount: Mount,
    /// Name of the volume in the files.
    pub volume: Option<String>,
}

/// Kinds of mounts, each with the key of its options.
const KINDS: &[&str] = &["volume", "bind", "tmpfs", "image", "npipe", "cluster"];

impl Builder<'_> {
    pub(super) fn mounts(&mut self, service: &At<'_>) -> Outcome<Vec<Mounted>> {
        let mut mounts = Vec::new();
        for at in service.items("volumes") {
            mounts.push(mount(&at)?);
        }
        for (at, line) in service.items("tmpfs").iter().zip(service.texts("tmpfs")?) {
            mounts.push(Mounted { mount: self.tmpfs(at, &line)?, volume: None });
        }
        if let Some(size_bytes) = service.bytes("shm_size")?.filter(|size| *size > 0) {
            let tmpfs_options = Some(TmpfsOptions { size_bytes, ..TmpfsOptions::default() });
            let mount = Mount { kind: "tmpfs".into(), target: "/dev/shm".into(), tmpfs_options, ..Mount::default() };
            mounts.push(Mounted { mount, volume: None });
        }
        Ok(mounts)
    }

    /// `TARGET[:OPTION,…]`.
    fn tmpfs(&mut self, at: &At<'_>, line: &str) -> Outcome<Mount> {
        let (target, options) = line.split_once(':').unwrap_or((line, ""));
        let mut made = TmpfsOptions::default();
        let mut read_only = false;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "size" => made.size_bytes = values::bytes(&crate::tree::Node::text(&at.node.place, value), &at.path)?,
                "mode" => made.mode = values::mode(&crate::tree::Node::text(&at.node.place, value), &at.path)?,
                "ro" => read_only = true,
                "rw" => (),
                _ if value.is_empty() => made.options.push(vec![name.to_owned()]),
                _ => made.options.push(vec![name.to_owned(), value.to_owned()]),
            }
        }
        if !target.starts_with('/') {
            self.notice(
                at,
                Weight::Read,
                format!("{target:?} is no whole path: tasks may not start"),
                "begin it with a slash",
            );
        }
        let tmpfs_options = (made != TmpfsOptions::default()).then_some(made);
        Ok(Mount { kind: "tmpfs".into(), target: target.to_owned(), read_only, tmpfs_options, ..Mount::default() })
    }
}

fn mount(at: &At<'_>) -> Outcome<Mounted> {
    let kind = at.words("type", KINDS)?.unwrap_or_default();
    let source = at.text("source")?.unwrap_or_default();
    for options in ["bind", "volume", "tmpfs", "image"] {
        if let Some(other) = at.at(options).filter(|_| options != kind && !(options == "bind" && kind == "npipe")) {
            let cause = format!("{options} options are incompatible with type {kind}");
            return Err(Fault::new(FaultKind::Conflict, &other.node.place, other.path, cause, "take them out"));
        }
    }
    let needs_source = ["bind", "npipe", "cluster", "image"].contains(&kind.as_str());
    if needs_source && source.is_empty() {
        return Err(wrong(at.node, &at.path, format!("a volume of type {kind} needs a `source`"), "name it"));
    }
    if kind == "tmpfs" && !source.is_empty() {
        return Err(wrong(at.node, &at.path, "a tmpfs has no `source`", "take it out"));
    }
    let mut mount = Mount {
        target: at.text("target")?.unwrap_or_default(),
        read_only: at.is("read_only")?,
        consistency: at.text("consistency")?.unwrap_or_default(),
        source: source.clone(),
        ..Mount::default()
    };
    match kind.as_str() {
        "bind" | "npipe" => {
            mount.bind_options =
                at.at("bind").map(|at| bind(&at)).transpose()?.filter(|made| *made != BindOptions::default())
        }
        "tmpfs" => {
            if let Some(at) = at.at("tmpfs") {
                let size_bytes = at.bytes("size")?.unwrap_or(0);
                mount.tmpfs_options =
                    Some(TmpfsOptions { size_bytes, mode: at.mode("mode")?.unwrap_or(0), ..TmpfsOptions::default() });
            }
        }
        "image" => {
            let subpath = at.at("image").map(|at| at.text("subpath")).transpose()?.flatten();
            mount.image_options = subpath.map(|subpath| ImageOptions { subpath });
        }
        "cluster" => mount.cluster_options = Some(essaim_docker::base::Empty {}),
        _ if !source.is_empty() => {
            let mut made = VolumeOptions::default();
            if let Some(at) = at.at("volume") {
                made.no_copy = at.is("nocopy")?;
                made.subpath = at.text("subpath")?.unwrap_or_default();
                made.labels = volume_labels(&at)?;
            }
            mount.volume_options = Some(made);
        }
        _ => (),
    }
    let named = ["volume", "cluster"].contains(&kind.as_str()) && !source.is_empty() && !source.starts_with("group:");
    mount.kind = kind;
    Ok(Mounted { mount, volume: named.then_some(source) })
}

/// Labels of a mount, which may still be in their short form.
fn volume_labels(at: &At<'_>) -> Outcome<essaim_docker::Labels> {
    let Some(labels) = at.at("labels") else { return Ok(essaim_docker::Labels::new()) };
    if labels.node.as_map().is_some() {
        return at.pairs("labels");
    }
    let lines = at.texts("labels")?;
    Ok(lines
        .iter()
        .map(|line| line.split_once('=').unwrap_or((line, "")))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect())
}

fn bind(at: &At<'_>) -> Outcome<BindOptions> {
    let recursive = at.words("recursive", &["enabled", "disabled", "writable", "readonly"])?.unwrap_or_default();
    Ok(BindOptions {
        propagation: at.text("propagation")?.unwrap_or_default(),
        create_mountpoint: at.is("create_host_path")?,
        non_recursive: recursive == "disabled",
        read_only_non_recursive: recursive == "writable",
        read_only_force_recursive: recursive == "readonly",
    })
}
