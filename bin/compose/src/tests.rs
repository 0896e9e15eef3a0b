//! Compose files as people write them, and what they are read as.
//!
//! Each folder of `fixtures/files` holds the files of one application, in `expected.txt` the compose file in the long form,
//! the order of the start and the notices, and in `requests.txt` what is sent to deploy it. Each folder of
//! `fixtures/errors` holds files with one error, and its text. `ESSAIM_REFRESH=1` writes the texts anew; they are reviewed
//! as a diff. `request.txt` says what is asked for: files, variables of the environment, profiles.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use crate::check::under;
use crate::convert::Ids;
use crate::fault::{Fault, FaultKind, Weight};
use crate::table::{Fate, row, rows};
use crate::tree::{Node, Value};
use crate::{Application, Request, Source, canonical, yaml};

/// Folder that the files of a case appear to be in.
const ROOT: &str = "/app";

/// The files of a folder, as if they were in [`ROOT`], and some variables.
struct Folder {
    at: PathBuf,
    variables: BTreeMap<String, String>,
}

impl Source for Folder {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(below) = path.strip_prefix(ROOT) else { return Ok(None) };
        Ok(fs::read(self.at.join(below.trim_start_matches('/'))).ok())
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

fn fixtures(kind: &str) -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(kind);
    let mut folders: Vec<_> = fs::read_dir(root)
        .expect("the fixtures are there")
        .map(|entry| entry.expect("a folder").path())
        .map(|path| (path.file_name().expect("a name").to_string_lossy().into_owned(), path))
        .collect();
    folders.sort();
    folders
}

/// The files and the request of a case.
fn case(at: &Path) -> (Folder, Request) {
    let mut folder = Folder { at: at.to_owned(), variables: BTreeMap::from([("HOME".into(), "/users/ann".into())]) };
    let mut request = Request::default();
    let file = |name: &str| format!("{ROOT}/{name}");
    for line in fs::read_to_string(at.join("request.txt")).unwrap_or_else(|_| "file compose.yml".into()).lines() {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("file", name) => request.files.push(file(name)),
            ("profile", name) => request.profiles.push(name.into()),
            ("env-file", name) => request.env_files.push(file(name)),
            ("name", name) => request.name = Some(name.into()),
            ("open", _) => request.no_interpolation = true,
            ("set", pair) => {
                let (name, value) = pair.split_once('=').expect("NAME=value");
                folder.variables.insert(name.into(), value.into());
            }
            (other, _) => panic!("{other:?} says nothing"),
        }
    }
    (folder, request)
}

/// Compares a text with that of a file, or writes the file.
fn compare(file: &Path, text: &str) -> Option<String> {
    if std::env::var_os("ESSAIM_REFRESH").is_some() {
        fs::write(file, text).expect("the fixture can be written");
        return None;
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    (expected != text).then(|| format!("--- {}\n{text}", file.display()))
}

/// Ids that tell their names.
struct Named;

impl Ids for Named {
    fn secret(&self, name: &str) -> Option<String> {
        Some(format!("id-of-secret-{name}"))
    }

    fn config(&self, name: &str) -> Option<String> {
        Some(format!("id-of-config-{name}"))
    }
}

fn requests(application: &Application, source: &dyn Source) -> Result<String, Box<Fault>> {
    let mut out = String::new();
    let mut put = |path: &str, body: &Json| writeln!(out, "POST {path} {body}").expect("a string");
    for body in application.network_requests() {
        put("/networks/create", &body);
    }
    for spec in application.secret_specs(source)? {
        put("/secrets/create", &json!(spec));
    }
    for spec in application.config_specs(source)? {
        put("/configs/create", &json!(spec));
    }
    for name in application.start_order() {
        put("/services/create", &json!(application.service_spec(name, &application.services[name], &Named)));
    }
    Ok(out)
}

#[test]
fn files_as_people_write_them_are_read_as_reviewed() {
    let mut wrong = Vec::new();
    let cases = fixtures("files");
    assert!(cases.len() >= 30, "thirty and more");
    for (name, at) in cases {
        let (source, request) = case(&at);
        if request.no_interpolation {
            let (text, _) = canonical(&source, &request).unwrap_or_else(|fault| panic!("{name}: {fault}"));
            wrong.extend(compare(&at.join("expected.txt"), &text));
            continue;
        }
        let application = Application::read(&source, &request).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let mut text = application.yaml();
        let order = application.start_order().join(" ");
        writeln!(text, "--- start order\n{order}\n--- notices").expect("a string");
        for notice in &application.notices {
            let moot = if notice.weight == Weight::Moot { " (moot)" } else { "" };
            writeln!(text, "{notice}{moot}").expect("a string");
        }
        wrong.extend(compare(&at.join("expected.txt"), &text));
        let sent = requests(&application, &source).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        wrong.extend(compare(&at.join("requests.txt"), &sent));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_long_form_reads_back_as_the_same_application() {
    for (name, at) in fixtures("files") {
        let (source, request) = case(&at);
        if request.no_interpolation {
            continue;
        }
        let first = Application::read(&source, &request).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        // What came from a variable is written out, and a dollar in it is one; such a file is read without variables.
        let text = first.yaml().replace('$', "$$");
        struct Once<'a>(&'a Folder, String);
        impl Source for Once<'_> {
            fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
                if path == "/app/canonical.yml" { Ok(Some(self.1.clone().into_bytes())) } else { self.0.read(path) }
            }
            fn variable(&self, name: &str) -> Option<String> {
                self.0.variable(name)
            }
        }
        let request =
            Request { files: vec!["/app/canonical.yml".into()], profiles: vec!["*".into()], ..Request::default() };
        let again = Application::read(&Once(&source, text.clone()), &request)
            .unwrap_or_else(|fault| panic!("{name}: {fault}\n{text}"));
        assert_eq!(again.services, first.services, "{name}");
        assert_eq!((&again.networks, &again.volumes), (&first.networks, &first.volumes), "{name}");
        assert_eq!(again.yaml(), first.yaml(), "{name}");
    }
}

#[test]
fn an_error_of_each_kind_names_its_line_and_the_way_out() {
    let (mut wrong, mut kinds) = (Vec::new(), BTreeSet::new());
    for (name, at) in fixtures("errors") {
        let (source, request) = case(&at);
        let read = Application::read(&source, &request);
        let Err(fault) = read.and_then(|application| requests(&application, &source)) else {
            panic!("{name} is accepted");
        };
        kinds.insert(fault.kind);
        assert!(!fault.way_out.is_empty(), "{name}");
        assert!(fault.place.line > 0 || fault.path.is_empty(), "{name}: {fault}");
        wrong.extend(compare(&at.join("expected.txt"), &format!("{:?}\n{fault}\n", fault.kind)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let all = [
        FaultKind::Yaml,
        FaultKind::UnknownKey,
        FaultKind::Form,
        FaultKind::Value,
        FaultKind::Variable,
        FaultKind::File,
        FaultKind::Reference,
        FaultKind::Circle,
        FaultKind::Conflict,
        FaultKind::Limit,
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
}

/// Marks the rows of the table that a file uses.
fn mark(node: &Node, path: &str, used: &mut BTreeSet<&'static str>) {
    match &node.value {
        Value::Map(map) => {
            for (key, node) in map.iter() {
                let Some(row) = row(&under(path, key)).or_else(|| row(&under(path, "*"))) else { continue };
                used.insert(row.path);
                mark(node, row.path, used);
            }
        }
        Value::List(items) => {
            let Some(row) = row(&format!("{path}[]")) else { return };
            used.insert(row.path);
            items.iter().for_each(|item| mark(item, row.path, used));
        }
        Value::Null | Value::Scalar(_) => (),
    }
}

#[test]
fn each_key_of_the_specification_is_in_a_file() {
    let mut used = BTreeSet::new();
    for (_, at) in fixtures("files") {
        let mut folders = vec![at];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml") {
                    let text = fs::read_to_string(&path).expect("a file");
                    for document in yaml::parse("f", &text).expect("YAML") {
                        mark(&document, "", &mut used);
                    }
                }
            }
        }
    }
    let unused: Vec<_> = rows().map(|row| row.path).filter(|path| !used.contains(path)).collect();
    assert!(unused.is_empty(), "no file uses {unused:#?}");
}

#[test]
fn each_ignored_key_of_a_file_has_a_notice() {
    let mut noticed = BTreeSet::new();
    for (_, at) in fixtures("files") {
        let (source, request) = case(&at);
        if let Ok(application) = Application::read(&source, &request) {
            noticed.extend(application.notices.into_iter().map(|notice| notice.why));
        }
    }
    for row in rows() {
        if let Fate::Ignored { why, .. } = row.fate {
            assert!(noticed.contains(why), "{}: {why}", row.path);
        }
    }
}

#[test]
fn the_page_has_the_keys_of_the_table() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compose.md");
    let text = fs::read_to_string(&page).expect("the page is there");
    let head: Vec<_> = text.split_inclusive("-p essaim-compose -->\n").take(1).collect();
    let mut whole = format!("{}\n| key | becomes |\n|---|---|\n", head.concat());
    for row in rows() {
        let fate = match row.fate {
            Fate::To(place) => place.to_owned(),
            Fate::Reader(does) => format!("read: {does}"),
            Fate::Moot(why) => format!("needs nothing: {why}"),
            Fate::Ignored { why, instead: "" } => format!("**ignored**: {why}"),
            Fate::Ignored { why, instead } => format!("**ignored**: {why}; {instead}"),
            // What they are made of has rows of its own, or belongs to a key that is ignored.
            Fate::Parts | Fate::Below => continue,
        };
        writeln!(whole, "| `{}` | {} |", row.path, fate.replace('|', "\\|")).expect("a string");
    }
    let wrong = compare(&page, &whole);
    assert_eq!(wrong, None);
}

/// The requests that the docker CLI sent for the same files, without what it asked the registry for.
#[test]
fn requests_are_those_that_docker_stack_deploy_sends() {
    struct Recorded(Vec<Json>);
    impl Recorded {
        fn id(&self, pointer: &str, name: &str) -> Option<String> {
            let noun = if pointer == "Secret" { "Secrets" } else { "Configs" };
            let references = self
                .0
                .iter()
                .filter_map(|request| request.pointer(&format!("/body/TaskTemplate/ContainerSpec/{noun}"))?.as_array());
            let found = references.flatten().find(|reference| reference[format!("{pointer}Name")] == name)?;
            found[format!("{pointer}ID")].as_str().map(str::to_owned)
        }
    }
    impl Ids for Recorded {
        fn secret(&self, name: &str) -> Option<String> {
            self.id("Secret", name)
        }
        fn config(&self, name: &str) -> Option<String> {
            self.id("Config", name)
        }
    }
    for (name, at) in fixtures("recorded") {
        let text = fs::read_to_string(at.join("requests.json")).expect("the recording");
        let mut recorded: Vec<Json> = serde_json::from_str(&text).expect("JSON");
        let (source, request) = case(&at);
        let request = Request { name: Some(name.clone()), ..request };
        let application = Application::read(&source, &request).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let ids = Recorded(recorded.clone());
        let mut made: Vec<(&str, Json)> = Vec::new();
        made.extend(application.network_requests().into_iter().map(|body| ("/networks/create", body)));
        made.extend(
            application.secret_specs(&source).expect("files").into_iter().map(|spec| ("/secrets/create", json!(spec))),
        );
        made.extend(
            application.config_specs(&source).expect("files").into_iter().map(|spec| ("/configs/create", json!(spec))),
        );
        for (service, held) in &application.services {
            made.push(("/services/create", json!(application.service_spec(service, held, &ids))));
        }
        assert_eq!(made.len(), recorded.len(), "{name}");
        for request in &mut recorded {
            if let Some(Json::String(image)) = request.pointer_mut("/body/TaskTemplate/ContainerSpec/Image") {
                *image = image.split('@').next().unwrap_or_default().trim_end_matches(":latest").to_owned();
            }
            if let Some(Json::Object(placement)) = request.pointer_mut("/body/TaskTemplate/Placement") {
                placement.remove("Platforms");
            }
            let found =
                made.iter().find(|(path, body)| request["path"] == *path && request["body"]["Name"] == body["Name"]);
            let (_, body) = found.unwrap_or_else(|| panic!("{name}: no {}", request["body"]["Name"]));
            // As text: the order of the keys and of the lists is docker's as well.
            assert_eq!(body.to_string(), request["body"].to_string(), "{name}");
        }
    }
}
