//! Compose files of this machine: which are meant, and where their variables come from.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use essaim_compose::{Application, Fault, Notice, Request, Source, Weight};

use crate::exit::Failure;

/// Names that files are looked for under when none is given, as Compose has them; the first that is there counts.
const DEFAULTS: &[&str] = &["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// Flags that say which files are read, and how.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Files {
    /// Path to a Compose file, or - for STDIN; several are merged in their order
    #[arg(short = 'c', long = "compose-file", value_name = "FILE")]
    files: Vec<String>,
    /// File of variables in place of .env; later ones count
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// Services of this profile, besides those without profiles ('*' for all)
    #[arg(long, value_name = "PROFILE")]
    profile: Vec<String>,
    /// Folder that relative paths begin at (default: that of the first file)
    #[arg(long, value_name = "FOLDER")]
    project_directory: Option<String>,
}

/// This machine as the source of files and variables.
pub(super) struct Machine;

impl Source for Machine {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        if path == "-" {
            // It can be read once, and a file may be asked for twice.
            static STDIN: OnceLock<Result<Vec<u8>, String>> = OnceLock::new();
            let read = || {
                let mut text = Vec::new();
                std::io::stdin().lock().read_to_end(&mut text).map(|_| text).map_err(|why| why.to_string())
            };
            return STDIN.get_or_init(read).clone().map(Some);
        }
        match std::fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(why.to_string()),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

impl Files {
    /// What is asked of the reader, with further files from the end of the command line.
    pub(super) fn request(&self, more: &[String], name: Option<String>) -> Result<Request, Failure> {
        let mut files: Vec<String> = self.files.iter().chain(more).cloned().collect();
        if files.is_empty() {
            files = default_files()?;
        }
        let here = std::env::current_dir().map_err(|why| Failure::error(format!("no current folder: {why}")))?;
        let folder = match (&self.project_directory, files.first().map(String::as_str)) {
            (Some(folder), _) => here.join(folder),
            (None, Some("-") | None) => here,
            (None, Some(file)) => here.join(Path::new(file).parent().unwrap_or(Path::new(""))),
        };
        Ok(Request {
            files,
            folder: plain(&folder).to_string_lossy().into_owned(),
            env_files: self.env_file.clone(),
            profiles: self.profile.clone(),
            name,
            no_interpolation: false,
        })
    }
}

/// The path without `.` and `..`. Links in it are kept: the files below are meant as the user sees them.
fn plain(path: &Path) -> PathBuf {
    let mut made = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => (),
            std::path::Component::ParentDir => drop(made.pop()),
            part => made.push(part),
        }
    }
    made
}

/// The files that Compose would take: those of `COMPOSE_FILE`, or one of the usual names with its override.
fn default_files() -> Result<Vec<String>, Failure> {
    if let Ok(files) = std::env::var("COMPOSE_FILE")
        && !files.is_empty()
    {
        return Ok(files.split(':').map(str::to_owned).collect());
    }
    let there = |name: &str| Path::new(name).exists();
    let Some(first) = DEFAULTS.iter().find(|name| there(name)) else {
        let text = format!("no compose file is named, and none of {} is here", DEFAULTS.join(", "));
        return Err(Failure::usage(text).next("name one: `-c FILE`"));
    };
    let over = first.replacen("compose.", "compose.override.", 1);
    let over = [over.clone(), swapped(&over)].into_iter().find(|name| there(name));
    Ok(std::iter::once((*first).to_owned()).chain(over).collect())
}

fn swapped(name: &str) -> String {
    match name.strip_suffix(".yaml") {
        Some(rest) => format!("{rest}.yml"),
        None => name.replace(".yml", ".yaml"),
    }
}

/// Reads an application, and prints the notices about it.
pub(super) fn read(request: &Request) -> Result<Application, Failure> {
    let application = Application::read(&Machine, request).map_err(|fault| failure(&fault))?;
    tell(&application.notices);
    Ok(application)
}

/// Prints the notices that matter.
fn tell(notices: &[Notice]) {
    for notice in notices.iter().filter(|notice| notice.weight != Weight::Moot) {
        eprintln!("{notice}");
    }
}

/// The failure that an error in a compose file is.
pub(super) fn failure(fault: &Fault) -> Failure {
    Failure::error(fault.what()).next(fault.way_out.clone())
}
