//! Circles: modules that use each other, directly or by way of others, can be read, tested and changed only together.
//!
//! Two modules are *siblings* when one folder (or one file) declares both. In every folder of every crate the siblings
//! form layers: none of them uses a sibling that uses it. A module uses a sibling when it or a module below it names an
//! item of the sibling or of a module below that. The path is followed to the item's definition, so a re-export by the
//! parent (`use super::X`) counts as a use of the sibling that defines `X`. Three things are no use:
//!
//! - What is compiled for tests only.
//! - The parent itself: a folder's `mod.rs` is the door to its modules, and these may use what it defines.
//! - Another actor's message type (`Msg`, or a name that ends in it): two actors that talk to each other name each
//!   other's messages, and an actor's messages stand in its file. Neither of the two needs the other to be built.
//!
//! Calls of methods are not followed, because their paths do not show in the source.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::check;
use crate::sources::{Source, sources};

/// Uses that would close a circle and are allowed: the folder that declares both modules, the user, the used, and why.
const EXCEPTIONS: &[(&str, &str, &str, &str)] = &[];

/// Path of a module below the root of its crate, by names.
type Place = Vec<String>;

/// The modules of one crate.
#[derive(Default)]
struct Modules {
    by_place: BTreeMap<Place, Module>,
}

/// A module: the names that it brings into scope, and the paths in its code.
#[derive(Default)]
struct Module {
    /// Folder that holds, or would hold, the files of the modules below this one.
    folder: String,
    /// Imported names, each with its path as written.
    imports: BTreeMap<String, Vec<String>>,
    /// Paths in code, as written, imports included.
    paths: Vec<Vec<String>>,
}

/// A use of one sibling by another, with a path in the code that shows it.
type Uses = BTreeMap<(String, String), String>;

impl Modules {
    /// Reads the crate with this root file.
    fn read(root: &str, sources: &[Source]) -> Self {
        let mut modules = Self::default();
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        modules.read_file(root, folder, Vec::new(), sources);
        modules
    }

    fn read_file(&mut self, file: &str, folder: &str, place: Place, sources: &[Source]) {
        let Some(source) = sources.iter().find(|source| source.path == file) else { return };
        let parsed = syn::parse_file(&source.text).unwrap_or_else(|why| panic!("{file}: {why}"));
        self.read_items(&parsed.items, folder, place, sources);
    }

    fn read_items(&mut self, items: &[syn::Item], folder: &str, place: Place, sources: &[Source]) {
        let mut module = Module { folder: folder.to_owned(), ..Module::default() };
        let mut below = Vec::new();
        for item in items {
            match item {
                syn::Item::Mod(child) if !is_for_tests(&child.attrs) => below.push(child),
                syn::Item::Mod(_) => (),
                other => module.visit_item(other),
            }
        }
        self.by_place.insert(place.clone(), module);
        for child in below {
            let name = child.ident.to_string();
            let own = format!("{folder}/{name}");
            let mut place = place.clone();
            place.push(name);
            match &child.content {
                Some((_, items)) => self.read_items(items, &own, place, sources),
                None => {
                    let file = [format!("{own}.rs"), format!("{own}/mod.rs")];
                    let file = file.iter().find(|file| sources.iter().any(|source| source.path == **file));
                    if let Some(file) = file {
                        self.read_file(file, &own, place, sources);
                    }
                }
            }
        }
    }

    /// Follows a path, as written in a module, to the module that defines the item, with the item's name. `None` for
    /// a path to another crate, and for one that names a module and nothing in it.
    fn definition(&self, place: &[String], path: &[String], depth: usize) -> Option<(Place, String)> {
        // Re-exports of re-exports are a few steps deep; a path that leads back to itself is another crate's.
        if depth > 16 {
            return None;
        }
        let mut place = place.to_vec();
        let mut rest = path;
        let mut is_rooted = false;
        while let Some((first, next)) = rest.split_first() {
            match first.as_str() {
                "crate" => place.clear(),
                "self" => (),
                "super" => drop(place.pop()),
                _ => break,
            }
            (rest, is_rooted) = (next, true);
        }
        loop {
            let (name, next) = rest.split_first()?;
            place.push(name.clone());
            if !self.by_place.contains_key(&place) {
                place.pop();
                break;
            }
            (rest, is_rooted) = (next, true);
        }
        let (name, next) = rest.split_first()?;
        match self.by_place.get(&place)?.imports.get(name) {
            Some(import) if import != path => {
                let path: Vec<String> = import.iter().chain(next).cloned().collect();
                self.definition(&place, &path, depth + 1)
            }
            _ => is_rooted.then(|| (place, name.clone())),
        }
    }

    /// Which siblings use each other, by the folder that holds them.
    fn uses(&self) -> BTreeMap<String, Uses> {
        let mut uses: BTreeMap<String, Uses> = BTreeMap::new();
        for (user, module) in &self.by_place {
            for path in &module.paths {
                let Some((used, item)) = self.definition(user, path, 0) else { continue };
                let shared = user.iter().zip(&used).take_while(|(a, b)| a == b).count();
                if item.ends_with("Msg") || shared == user.len() || shared == used.len() {
                    continue;
                }
                let folder = &self.by_place[&user[..shared]].folder;
                let witness = format!("{} names {}", user.join("::"), path.join("::"));
                let pair = (user[shared].clone(), used[shared].clone());
                uses.entry(folder.clone()).or_default().entry(pair).or_insert(witness);
            }
        }
        uses
    }
}

impl Visit<'_> for Module {
    fn visit_item(&mut self, item: &syn::Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        let mut open = vec![(Vec::new(), &item.tree)];
        while let Some((mut path, tree)) = open.pop() {
            let (name, last) = match tree {
                syn::UseTree::Path(inner) => {
                    path.push(inner.ident.to_string());
                    open.push((path, &inner.tree));
                    continue;
                }
                syn::UseTree::Group(group) => {
                    open.extend(group.items.iter().map(|tree| (path.clone(), tree)));
                    continue;
                }
                syn::UseTree::Name(inner) => (inner.ident.to_string(), inner.ident.to_string()),
                syn::UseTree::Rename(inner) => (inner.rename.to_string(), inner.ident.to_string()),
                syn::UseTree::Glob(_) => ("*".to_owned(), "*".to_owned()),
            };
            // `use a::b::{self}` imports `b`.
            let name = if last == "self" { path.last().cloned().unwrap_or(name) } else { name };
            if last != "self" {
                path.push(last);
            }
            if name != "*" {
                self.imports.insert(name, path.clone());
            }
            self.paths.push(path);
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &syn::Macro) {
        self.paths.extend(paths_in(&call.tokens));
        visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, attribute: &syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.paths.extend(paths_in(&list.tokens));
        }
    }

    /// `pub(in crate::leader)` names a module without using it.
    fn visit_visibility(&mut self, _: &syn::Visibility) {}
}

/// The paths among the tokens of a macro call.
fn paths_in(tokens: &TokenStream) -> Vec<Vec<String>> {
    let (mut found, mut path, mut colons) = (Vec::new(), Vec::new(), 0);
    for token in tokens.clone() {
        match token {
            TokenTree::Ident(ident) if colons == 2 || path.is_empty() => path.push(ident.to_string()),
            TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() && colons < 2 => {
                colons += 1;
                continue;
            }
            TokenTree::Ident(ident) => found.push(std::mem::replace(&mut path, vec![ident.to_string()])),
            TokenTree::Group(group) => {
                found.push(std::mem::take(&mut path));
                found.extend(paths_in(&group.stream()));
            }
            _ => found.push(std::mem::take(&mut path)),
        }
        colons = 0;
    }
    found.push(path);
    found.retain(|path| path.len() > 1);
    found
}

/// Whether an item is compiled for tests only.
fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => {
            let condition = list.tokens.to_string();
            condition == "test" || condition.starts_with("all (test") || condition.starts_with("all(test")
        }
        _ => false,
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The shortest circle through each module that is in one; each circle once.
fn circles(uses: &Uses) -> BTreeSet<Vec<String>> {
    let users: BTreeSet<&String> = uses.keys().map(|(user, _)| user).collect();
    users.into_iter().filter_map(|user| Some(turned(way(uses, user, user)?))).collect()
}

/// The shortest way by which a module uses another: the modules on it, from the user to the last before the used one.
fn way(uses: &Uses, from: &str, to: &str) -> Option<Vec<String>> {
    let mut open = vec![vec![from.to_owned()]];
    let mut seen = BTreeSet::new();
    while !open.is_empty() {
        let mut next = Vec::new();
        for way in open {
            let last = way.last()?;
            for (_, used) in uses.keys().filter(|(user, _)| user == last) {
                if used == to {
                    return Some(way);
                }
                if seen.insert(used.clone()) {
                    next.push(way.iter().chain([used]).cloned().collect());
                }
            }
        }
        open = next;
    }
    None
}

/// A circle, from the first of its modules in alphabetical order.
fn turned(mut circle: Vec<String>) -> Vec<String> {
    let first = circle.iter().enumerate().min_by_key(|(_, name)| *name).map_or(0, |(at, _)| at);
    circle.rotate_left(first);
    circle
}

/// The complaints about the circles in one folder. Exceptions that close no circle are complaints too.
fn judge(folder: &str, mut uses: Uses, exceptions: &[(&str, &str, &str, &str)]) -> Vec<String> {
    let here: Vec<_> = exceptions.iter().filter(|(of, ..)| *of == folder).collect();
    for (_, user, used, _) in &here {
        uses.remove(&((*user).to_owned(), (*used).to_owned()));
    }
    let idle = here.iter().filter(|(_, user, used, _)| way(&uses, used, user).is_none());
    let mut complaints: Vec<String> =
        idle.map(|(_, user, used, _)| format!("{folder}: the exception for {user} → {used} is not needed")).collect();
    for circle in circles(&uses) {
        let steps = circle.iter().zip(circle.iter().cycle().skip(1));
        let shown: Vec<_> = steps.map(|(a, b)| uses[&(a.clone(), b.clone())].as_str()).collect();
        complaints.push(format!("{folder}: {} → {}: {}", circle.join(" → "), circle[0], shown.join(", ")));
    }
    complaints
}

#[test]
fn no_module_uses_a_sibling_that_uses_it() {
    let sources = sources();
    let is_root = |source: &&Source| source.path.ends_with("/lib.rs") || source.path.ends_with("/main.rs");
    let mut complaints = Vec::new();
    let mut folders = BTreeSet::new();
    for root in sources.iter().filter(is_root) {
        for (folder, uses) in Modules::read(&root.path, &sources).uses() {
            complaints.extend(judge(&folder, uses, EXCEPTIONS));
            folders.insert(folder);
        }
    }
    let gone = EXCEPTIONS.iter().filter(|(folder, ..)| !folders.contains(*folder));
    complaints.extend(gone.map(|(folder, ..)| format!("{folder}: there is an exception for a folder without modules")));
    check("modules that use each other in a circle", complaints);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The complaints about a crate of these files.
    fn complaints(files: &[(&str, &str)], exceptions: &[(&str, &str, &str, &str)]) -> Vec<String> {
        let source = |(path, text): &(&str, &str)| Source { path: format!("a/{path}.rs"), text: (*text).to_owned() };
        let sources: Vec<Source> = files.iter().map(source).collect();
        let uses = Modules::read("a/lib.rs", &sources).uses();
        uses.into_iter().flat_map(|(folder, uses)| judge(&folder, uses, exceptions)).collect()
    }

    #[test]
    fn a_circle_is_found_by_way_of_a_re_export() {
        let lib = ("lib", "mod x; mod y; pub use y::Y;");
        let found = complaints(
            &[lib, ("x", "use crate::Y; pub struct X(Y);"), ("y", "pub struct Y; fn f() { crate::x::g() }")],
            &[],
        );
        assert_eq!(found, ["a: x → y → x: x names crate::Y, y names crate::x::g"]);
    }

    #[test]
    fn a_circle_of_three_is_found_once() {
        let files = [
            ("lib", "mod x; mod y; mod z;"),
            ("x", "use super::y; type A = y::Y;"),
            ("y", "type A = Vec<crate::z::Z>;"),
            ("z", "fn f() { println!(\"{}\", crate::x::VALUE) }"),
        ];
        assert_eq!(complaints(&files, &[]).len(), 1);
        assert!(complaints(&files[..3], &[]).is_empty());
    }

    #[test]
    fn siblings_below_the_root_form_layers_too() {
        let files = [
            ("lib", "mod x;"),
            ("x/mod", "mod y; mod z; use y::Y;"),
            ("x/y", "pub struct Y; fn f(_: super::z::Z) {}"),
            ("x/z", "pub struct Z; impl super::Y {}"),
        ];
        assert_eq!(complaints(&files, &[]), ["a/x: y → z → y: x::y names super::z::Z, x::z names super::Y"]);
    }

    #[test]
    fn tests_parents_messages_and_other_crates_make_no_circle() {
        let files = [
            ("lib", "mod x; mod y; pub struct Own;"),
            ("x", "use crate::y::Y; use crate::Own; #[cfg(test)] mod tests { use crate::y::Y; } pub enum Msg {}"),
            ("y", "use crate::x::Msg as Other; use other::x::X; #[cfg(test)] use crate::x::X; pub struct Y(Own);"),
        ];
        assert_eq!(complaints(&files, &[]), Vec::<String>::new());
    }

    #[test]
    fn an_exception_lasts_as_long_as_it_is_needed() {
        let lib = ("lib", "mod x; mod y;");
        let y = ("y", "pub struct Y; fn f(_: crate::x::X) {}");
        let exception = [("a", "x", "y", "for the test")];
        assert!(complaints(&[lib, ("x", "pub struct X(crate::y::Y);"), y], &exception).is_empty());
        let files = [lib, ("x", "pub struct X(crate::y::Y);"), ("y", "pub struct Y; use crate::x;")];
        assert_eq!(complaints(&files, &exception), ["a: the exception for x → y is not needed"]);
    }
}
