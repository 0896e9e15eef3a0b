//! From the names of files to one tree: reading, variables, `include`, `extends`, the merge of several files.
//!
//! Each file is parsed, interpolated, checked against the table and brought to the long form; then its includes are loaded,
//! its services extended, and it is merged upon the files before it. Paths begin at the folder of the first file, and in
//! files that another one includes or extends from, at the folder of theirs.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::{self, under};
use crate::dotenv::{self, wrong_variable};
use crate::fault::{Fault, FaultKind, Notice, Outcome, Place, Weight};
use crate::merge::{merge, settle};
use crate::source::{Source, folder, join};
use crate::tree::{Kind, Map, Node, Scalar, Value};
use crate::variables::expand;
use crate::{canon, values, yaml};

/// Bytes of one file at most.
const FILE_LEN_MAX: usize = 4 << 20;

/// Files that one application may be read from.
const FILES_MAX: usize = 256;

/// Variable with the name of the stack, which files may use and the environment may set.
const NAME: &str = "COMPOSE_PROJECT_NAME";

/// What is read, and how.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The compose files in the order in which they are merged.
    pub files: Vec<String>,
    /// Folder that relative paths begin at; the folder of the first file when it is empty.
    pub folder: String,
    /// Files of variables in place of `.env`.
    pub env_files: Vec<String>,
    /// Profiles that are asked for, besides those of `COMPOSE_PROFILES`.
    pub profiles: Vec<String>,
    /// Name of the stack; the name in the files, or that of the folder, when there is none.
    pub name: Option<String>,
    /// Leaves variables as they are written.
    pub no_interpolation: bool,
}

/// Variables that a file may use: those of the environment, then those of files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope(BTreeMap<String, String>);

/// Reads the files of one request.
pub(crate) struct Loader<'a> {
    pub(crate) source: &'a dyn Source,
    request: &'a Request,
    pub(crate) notices: Vec<Notice>,
    missed: BTreeSet<String>,
    files: usize,
}

/// What the files say together, and the variables they were read with.
pub(crate) struct Loaded {
    pub(crate) tree: Node,
    pub(crate) scope: Scope,
    pub(crate) name: String,
}

impl Scope {
    pub(crate) fn lookup(&self, source: &dyn Source, name: &str) -> Option<String> {
        source.variable(name).or_else(|| self.0.get(name).cloned())
    }
}

impl<'a> Loader<'a> {
    pub(crate) fn new(source: &'a dyn Source, request: &'a Request) -> Self {
        Self { source, request, notices: Vec::new(), missed: BTreeSet::new(), files: 0 }
    }

    /// Loads all files.
    pub(crate) fn load(&mut self) -> Outcome<Loaded> {
        let Some(first) = self.request.files.first() else {
            let place = Place::whole("compose.yml");
            return Err(Fault::new(FaultKind::File, &place, "", "no file is named", "name one with -c"));
        };
        let root = match self.request.folder.as_str() {
            "" => folder(first).to_owned(),
            folder => folder.to_owned(),
        };
        let mut scope = Scope::default();
        match self.request.env_files.as_slice() {
            [] => self.variables(&join(self.source, &root, ".env"), false, &mut scope)?,
            files => {
                for file in files {
                    self.variables(file, true, &mut scope)?;
                }
            }
        }
        let files = self.request.files.clone();
        let name = self.name(&files, &root, &scope)?;
        scope.0.insert(NAME.to_owned(), name.clone());
        let tree = self.merged(&files, &root, &scope, &mut Vec::new(), None)?;
        Ok(Loaded { tree, scope, name })
    }

    /// Name of the stack: the one that is asked for, that of the environment, that of the last file that has one, or that
    /// of the folder. It is known before the files are read whole, since they may use it as a variable.
    fn name(&self, files: &[String], root: &str, scope: &Scope) -> Outcome<String> {
        let lookup = |name: &str| scope.lookup(self.source, name);
        if let Some(name) = self.request.name.clone().or_else(|| lookup(NAME)).filter(|name| !name.is_empty()) {
            return Ok(name);
        }
        let mut found = None;
        for file in files {
            let Some(text) = self.text(file, &Place::whole(file), "")? else { continue };
            for document in yaml::parse(file, &text)? {
                found = document.get("name").cloned().or(found);
            }
        }
        if let Some(node) = found {
            let text = values::text(&node, "name")?;
            if self.request.no_interpolation {
                return Ok(text);
            }
            let name =
                expand(&text, &lookup, &mut |_| ()).map_err(|wrong| wrong_variable(&wrong, &node.place, "name"))?;
            let good = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c));
            if !good {
                let cause = format!("{name:?} cannot be the name of a stack");
                return Err(values::wrong(&node, "name", cause, "use small letters, digits, dashes and underscores"));
            }
            return Ok(name);
        }
        let last = root.rsplit('/').next().unwrap_or_default().to_lowercase();
        let name: String = last.chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).collect();
        let name = name.trim_start_matches(['_', '-']);
        Ok(if name.is_empty() { "default".to_owned() } else { name.to_owned() })
    }

    /// Several files, each merged upon those before it.
    fn merged(
        &mut self,
        files: &[String],
        root: &str,
        scope: &Scope,
        chain: &mut Vec<String>,
        at: Option<&Place>,
    ) -> Outcome<Node> {
        let mut tree: Option<Node> = None;
        for file in files {
            if chain.contains(file) {
                let cause = format!("the file includes itself: {} → {file}", chain.join(" → "));
                let way_out = "take one `include` of this circle out";
                let place = at.cloned().unwrap_or_else(|| Place::whole(file));
                return Err(Fault::new(FaultKind::Circle, &place, "include", cause, way_out));
            }
            chain.push(file.clone());
            for document in self.documents(file, root, scope)? {
                let document = self.whole(document, file, root, scope, chain, tree.as_ref())?;
                match &mut tree {
                    Some(tree) => merge(tree, document, ""),
                    None => tree = Some(document),
                }
            }
            chain.pop();
        }
        let mut tree = tree.unwrap_or_else(|| Node::map(&Place::whole(files.first().map_or("", String::as_str))));
        settle(&mut tree);
        Ok(tree)
    }

    /// A document with what it includes, its services extended.
    fn whole(
        &mut self,
        mut document: Node,
        file: &str,
        root: &str,
        scope: &Scope,
        chain: &mut Vec<String>,
        before: Option<&Node>,
    ) -> Outcome<Node> {
        let includes = document.as_map_mut().and_then(|map| map.remove("include"));
        self.extend_all(&mut document, file, scope, before)?;
        let Some(Value::List(includes)) = includes.map(|node| node.value) else { return Ok(document) };
        let mut included = Node::map(&document.place);
        for (at, include) in includes.iter().enumerate() {
            let tree = self.include(include, &format!("include[{at}]"), root, scope, chain)?;
            import(&mut included, &tree, None)?;
        }
        let own = document.clone();
        import(&mut document, &included, Some(&own))?;
        Ok(document)
    }

    fn include(
        &mut self,
        node: &Node,
        path: &str,
        root: &str,
        scope: &Scope,
        chain: &mut Vec<String>,
    ) -> Outcome<Node> {
        let named = match node.as_text() {
            Some(file) => vec![file],
            None => {
                let held = node.get("path").ok_or_else(|| {
                    values::wrong(node, path, "the include names no file", "name one or several in `path`")
                })?;
                values::texts(held, &under(path, "path"))?
            }
        };
        if let Some(remote) = named.iter().find(|file| file.contains("://") || file.starts_with("git@")) {
            let cause = format!("{remote} is on another machine, and no file is fetched");
            return Err(Fault::new(FaultKind::File, &node.place, path, cause, "fetch it, and name the local copy"));
        }
        let files: Vec<_> = named.iter().map(|file| join(self.source, root, file)).collect();
        let Some(first) = files.first() else {
            return Err(values::wrong(node, path, "the include names no file", "name one or several in `path`"));
        };
        let below = match node.get("project_directory").and_then(Node::as_text) {
            Some(below) => join(self.source, root, &below),
            None => folder(first).to_owned(),
        };
        // The including file's variables win over those of the included one.
        let mut inner = Scope::default();
        match node.get("env_file") {
            None => self.variables(&join(self.source, &below, ".env"), false, &mut inner)?,
            Some(files) => {
                for file in values::texts(files, &under(path, "env_file"))? {
                    self.variables(&join(self.source, root, &file), true, &mut inner)?;
                }
            }
        }
        inner.0.extend(scope.0.clone());
        if self.source.read(first).ok().flatten().is_none() {
            let cause = format!("there is no file {first}");
            return Err(Fault::new(
                FaultKind::File,
                &node.place,
                path,
                cause,
                format!("paths begin at the folder {root:?}"),
            ));
        }
        self.merged(&files, &below, &inner, chain, Some(&node.place))
    }

    /// The documents of a file, interpolated, checked and in the long form.
    pub(crate) fn documents(&mut self, file: &str, root: &str, scope: &Scope) -> Outcome<Vec<Node>> {
        self.files += 1;
        let place = Place::whole(file);
        if self.files > FILES_MAX {
            let cause = format!("the application is made of more than {FILES_MAX} files");
            return Err(Fault::new(FaultKind::Limit, &place, "", cause, "merge some of the files"));
        }
        let text = self.text(file, &place, "")?.ok_or_else(|| {
            Fault::new(FaultKind::File, &place, "", "there is no such file", "name the compose file with -c")
        })?;
        let mut documents = yaml::parse(file, &text)?;
        for document in &mut documents {
            if !self.request.no_interpolation {
                self.interpolate(document, "", scope)?;
            }
            check::document(document, self.request.no_interpolation)?;
            check::numbers(document, "", "", &mut self.notices);
            check::restore(document, "");
            if document.is_null() {
                *document = Node::map(&document.place);
            }
            canon::document(document, root, self.source)?;
        }
        Ok(documents)
    }

    /// Contents of a file as text; `None` when there is none.
    pub(crate) fn text(&self, file: &str, place: &Place, path: &str) -> Outcome<Option<String>> {
        let Some(bytes) = self.source.read(file).map_err(|why| {
            let cause = format!("{file} cannot be read: {why}");
            Fault::new(FaultKind::File, place, path, cause, "give this user the right to read it")
        })?
        else {
            return Ok(None);
        };
        if bytes.len() > FILE_LEN_MAX {
            let cause = format!("{file} is larger than {} MiB", FILE_LEN_MAX >> 20);
            return Err(Fault::new(FaultKind::Limit, place, path, cause, "split the file"));
        }
        let text = String::from_utf8(bytes).map_err(|_| {
            let cause = format!("{file} is no text in UTF-8");
            Fault::new(FaultKind::Yaml, place, path, cause, "save it in UTF-8")
        })?;
        Ok(Some(text))
    }

    /// Adds the variables of a file to a scope.
    fn variables(&mut self, file: &str, required: bool, scope: &mut Scope) -> Outcome<()> {
        let place = Place::whole(file);
        let Some(text) = self.text(file, &place, "")? else {
            if required {
                let way_out = "make it, or name another one with --env-file";
                return Err(Fault::new(FaultKind::File, &place, "", "there is no such file", way_out));
            }
            return Ok(());
        };
        let known = scope.clone();
        let lookup = |name: &str| known.lookup(self.source, name);
        for (name, value) in dotenv::parse(file, &text, &lookup)? {
            if let Some(value) = value {
                scope.0.insert(name, value);
            }
        }
        Ok(())
    }

    /// Replaces the variables of all values. Names and keys have none.
    fn interpolate(&mut self, node: &mut Node, path: &str, scope: &Scope) -> Outcome<()> {
        match &mut node.value {
            Value::Scalar(Scalar { text, kind: Kind::Text }) if text.contains('$') => {
                let (mut unset, place) = (Vec::new(), node.place.clone());
                let lookup = |name: &str| scope.lookup(self.source, name);
                *text = expand(text, &lookup, &mut |name| unset.push(name.to_owned()))
                    .map_err(|wrong| wrong_variable(&wrong, &place, path))?;
                for name in unset {
                    self.miss(&name, &place);
                }
                Ok(())
            }
            Value::Null | Value::Scalar(_) => Ok(()),
            Value::List(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    self.interpolate(item, &format!("{path}[{at}]"), scope)?;
                }
                Ok(())
            }
            Value::Map(Map(entries)) => {
                for entry in entries {
                    self.interpolate(&mut entry.node, &under(path, &entry.key), scope)?;
                }
                Ok(())
            }
        }
    }

    /// Notes a variable that is not set, once.
    fn miss(&mut self, name: &str, place: &Place) {
        if self.missed.insert(name.to_owned()) {
            self.notices.push(Notice {
                place: place.clone(),
                path: format!("${name}"),
                weight: Weight::Read,
                why: "the variable is not set, and counts as empty".to_owned(),
                instead: format!("write ${{{name}:-}} if that is meant"),
            });
        }
    }
}

/// Sections whose objects an include brings along.
const SECTIONS: &[&str] = &["services", "networks", "volumes", "secrets", "configs", "models"];

/// Brings the objects of an included tree into another. An object that is in both and not the same is a conflict; `own` is
/// the tree whose places are told of then.
fn import(tree: &mut Node, included: &Node, own: Option<&Node>) -> Outcome<()> {
    let Some(map) = tree.as_map_mut() else { return Ok(()) };
    for section in SECTIONS {
        let Some(more) = included.get(section).and_then(Node::as_map) else { continue };
        if map.get(section).is_none_or(Node::is_null) {
            map.set(section, Node::map(&included.place));
        }
        let Some(held) = map.get_mut(section).and_then(Node::as_map_mut) else { continue };
        for entry in &more.0 {
            match held.get(&entry.key) {
                None => held.0.push(entry.clone()),
                Some(same) if *same == entry.node => (),
                Some(_) => {
                    let path = format!("{section}.{}", entry.key);
                    let held = own
                        .and_then(|own| own.get(section))
                        .and_then(Node::as_map)
                        .and_then(|map| map.entry(&entry.key));
                    let place = held.map_or(&entry.place, |held| &held.place);
                    let cause = format!("{} defines it as well, in another way", entry.place);
                    let way_out =
                        "give one of the two another name, or merge the files: list both in the `path` of the include";
                    return Err(Fault::new(FaultKind::Conflict, place, path, cause, way_out));
                }
            }
        }
    }
    Ok(())
}
