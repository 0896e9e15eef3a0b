//! Dependencies between the crates: which crate may use which.
//!
//! The table below is the one of ARCHITECTURE.md: an arrow goes from a crate to the crates that it is built on, and a
//! crate may use every crate that its arrows reach. Development dependencies are free, except that no crate depends on
//! the test crates.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};

use crate::{check, root};

/// Allowed dependencies of each crate, from the top layer down.
const ARROWS: &[(&str, &[&str])] = &[
    ("essaim-cli", &["essaim", "essaim-docker", "essaim-compose", "essaim-template"]),
    ("essaim", &["essaim-api", "essaim-engines"]),
    ("essaim-api", &["essaim-node", "essaim-docker"]),
    ("essaim-node", &["essaim-manager", "essaim-worker"]),
    ("essaim-manager", &["essaim-store", "essaim-presence", "essaim-policy"]),
    ("essaim-engines", &["essaim-worker"]),
    ("essaim-store", &["essaim-system", "essaim-protocol", "essaim-model"]),
    ("essaim-worker", &["essaim-presence", "essaim-protocol", "essaim-model"]),
    ("essaim-compose", &["essaim-docker"]),
    ("essaim-docker", &["essaim-model"]),
    ("essaim-presence", &["essaim-system", "essaim-membership"]),
    ("essaim-system", &["essaim-transport"]),
    ("essaim-protocol", &["essaim-model"]),
    ("essaim-policy", &["essaim-model"]),
    ("essaim-transport", &["essaim-wire"]),
    ("essaim-membership", &["essaim-wire"]),
    ("essaim-model", &["essaim-wire", "essaim-template"]),
    ("essaim-template", &[]),
    ("essaim-wire", &[]),
    // openraft's dependency, replaced by a crate of this workspace.
    ("base2histogram", &[]),
];

/// Test crates, which may use every crate.
const TESTS: &[&str] = &["essaim-sim", "essaim-cluster-tests", "essaim-bench", "essaim-tidy"];

/// Crates of pure code, which reach no runtime, no actor and no socket.
const PURE: &[&str] =
    &["essaim-wire", "essaim-template", "essaim-membership", "essaim-model", "essaim-policy", "essaim-compose"];

/// Libraries that a pure crate must not reach, not even indirectly.
const IMPURE: &[&str] = &["tokio", "ractor", "ractor_cluster", "quinn", "quinn-proto", "mio", "hyper", "axum"];

/// Crates that alone may name a library, so that it can be replaced in one place.
const OWNERS: &[(&str, &[&str])] = &[
    ("openraft", &["essaim-store"]),
    ("redb", &["essaim-store"]),
    ("quinn", &["essaim-transport"]),
    ("foca", &["essaim-membership"]),
    ("bollard", &["essaim-engines"]),
    ("axum", &["essaim-api", "essaim-cli"]),
];

fn metadata() -> Metadata {
    // Only packages for this machine's platform are read: packages for other platforms may be missing here, and nothing
    // is downloaded.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(["--offline", "--filter-platform", &platform].map(str::to_owned).to_vec())
        .exec()
        .expect("cargo knows its workspace")
}

fn uses(package: &Package) -> BTreeSet<&str> {
    let built = package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development);
    built.map(|dependency| dependency.name.as_str()).collect()
}

/// All crates that the arrows reach from this crate.
fn reach(from: &str) -> BTreeSet<&'static str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = vec![from];
    while let Some(name) = open.pop() {
        let (_, direct) =
            ARROWS.iter().find(|(known, _)| *known == name).expect("every crate has its line in the table");
        for next in *direct {
            if reached.insert(*next) {
                open.push(next);
            }
        }
    }
    reached
}

#[test]
fn every_crate_has_its_line_in_the_table() {
    let metadata = metadata();
    let known = |name: &str| ARROWS.iter().any(|(known, _)| *known == name) || TESTS.contains(&name);
    let members = metadata.workspace_packages();
    let strangers = members.iter().filter(|package| !known(&package.name)).map(|package| package.name.to_string());
    check("a crate without a line in the table of arrows", strangers.collect());
}

#[test]
fn a_crate_uses_only_what_its_arrows_reach() {
    let metadata = metadata();
    let ours: BTreeSet<&str> = metadata.workspace_packages().iter().map(|package| package.name.as_str()).collect();
    let mut complaints = Vec::new();
    for package in metadata.workspace_packages() {
        if TESTS.contains(&package.name.as_str()) {
            continue;
        }
        let allowed = reach(&package.name);
        let used = uses(package);
        let wrong = used.iter().filter(|name| ours.contains(**name) && !allowed.contains(**name));
        complaints.extend(wrong.map(|name| format!("{} uses {name}", package.name)));
    }
    check("an arrow that is not in the table", complaints);
}

#[test]
fn nobody_is_built_on_the_tests() {
    let metadata = metadata();
    let mut complaints = Vec::new();
    for package in metadata.workspace_packages() {
        // The test crates may use each other's libraries.
        if TESTS.contains(&package.name.as_str()) {
            continue;
        }
        let all: BTreeSet<_> = package.dependencies.iter().map(|dependency| dependency.name.as_str()).collect();
        complaints.extend(
            TESTS.iter().filter(|name| all.contains(**name)).map(|name| format!("{} uses {name}", package.name)),
        );
    }
    check("a crate that needs the tests", complaints);
}

#[test]
fn a_library_is_named_by_its_owner_alone() {
    let metadata = metadata();
    let mut complaints = Vec::new();
    for package in metadata.workspace_packages() {
        let used = uses(package);
        for (library, owners) in OWNERS {
            if used.contains(library) && !owners.contains(&package.name.as_str()) {
                complaints.push(format!("{} uses {library}, which belongs to {}", package.name, owners.join(" and ")));
            }
        }
    }
    check("a library outside of its owner", complaints);
}

#[test]
fn a_pure_crate_reaches_no_runtime() {
    let metadata = metadata();
    let resolve = metadata.resolve.as_ref().expect("cargo resolved the workspace");
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut complaints = Vec::new();
    for package in metadata.workspace_packages().into_iter().filter(|package| PURE.contains(&package.name.as_str())) {
        // Each package is kept with the path of dependencies to it, so that a complaint can be understood.
        let mut seen = BTreeSet::new();
        let mut open = vec![(package.id.clone(), package.name.to_string())];
        while let Some((id, way)) = open.pop() {
            for dependency in nodes[&id].deps.iter() {
                let built = dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
                if built && seen.insert(dependency.pkg.clone()) {
                    let name = metadata[&dependency.pkg].name.to_string();
                    let way = format!("{way} → {name}");
                    if IMPURE.contains(&name.as_str()) {
                        complaints.push(way.clone());
                    }
                    open.push((dependency.pkg.clone(), way));
                }
            }
        }
    }
    check("a pure crate reaches a runtime", complaints);
}
