//! The page of Swarm's rules names tests; each of them must exist.

use crate::sources::sources;
use crate::{check, root};

/// The page, below the root.
const PAGE: &str = "docs/swarm-rules.md";

#[test]
fn every_test_that_the_page_of_swarms_rules_names_exists() {
    let page = std::fs::read_to_string(root().join(PAGE)).expect("the page is there");
    let sources = sources();
    let exists = |module: &str, name: &str| {
        let (file, function) = (format!("/{module}.rs"), format!("fn {name}("));
        sources.iter().any(|source| source.path.ends_with(&file) && source.text.contains(&function))
    };
    let named: Vec<_> = page.split('`').skip(1).step_by(2).filter_map(|it| it.split_once("::")).collect();
    assert!(named.len() > 50, "the page names tests");
    let gone = named.into_iter().filter(|(module, name)| *module != "file" && !exists(module, name));
    check("a test that is named and does not exist", gone.map(|(module, name)| format!("{module}::{name}")).collect());
}
