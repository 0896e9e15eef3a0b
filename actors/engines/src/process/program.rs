//! What an image means to the process engine: a program of the host.
//!
//! The docker CLI turns a bare `sleep` into `sleep:latest`, and other clients prepend `docker.io/library/`. The name is
//! therefore taken without registry, tag and digest, and looked up along PATH. A name with a leading slash is a path.
//! `essaim` stands for the daemon's own program.

use essaim_worker::engine::EngineError;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Image name that stands for the daemon's own program.
const OWN: &str = "essaim";

/// A program of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// Path of the program's file.
    pub(super) path: PathBuf,
    /// Name of the program, given to it as `argv[0]`.
    pub(super) name: String,
}

/// Resolves `image` to a program.
pub(super) fn of_image(image: &str, path: &OsStr, own: &Path) -> Result<Program, EngineError> {
    let name = name_of(image);
    if name == OWN {
        // The daemon's file may have been replaced or moved; the running program, which the shim is too, is always
        // there.
        let path = if is_program(own) { own } else { Path::new("/proc/self/exe") };
        return Ok(Program { path: path.into(), name: OWN.into() });
    }
    let missing = |hint: &str| EngineError::Rejected(format!("No such image: {image} ({hint})"));
    if name.is_empty() {
        return Err(missing("an image is the name or path of a program of this machine"));
    }
    if name.starts_with('/') {
        return match is_program(Path::new(name)) {
            true => Ok(Program { path: name.into(), name: name.into() }),
            false => Err(missing(&format!("there is no program {name} on this machine"))),
        };
    }
    if name.contains('/') {
        return Err(missing("an image is the name of a program along PATH, or an absolute path"));
    }
    match along(name, path) {
        Some(found) => Ok(Program { path: found, name: name.into() }),
        None => Err(missing(&format!("there is no program {name} along PATH={}", path.to_string_lossy()))),
    }
}

/// The program at `path`, to which `image` was resolved.
pub(super) fn at(path: &str, image: &str) -> Program {
    Program { path: path.into(), name: name_of(image).into() }
}

/// The program that a command (Docker's entrypoint) names.
pub(super) fn of_command(command: &str, path: &OsStr) -> Result<Program, EngineError> {
    let found = if command.contains('/') {
        Some(PathBuf::from(command)).filter(|file| file.is_absolute() && is_program(file))
    } else {
        along(command, path)
    };
    match found {
        Some(found) => Ok(Program { path: found, name: command.into() }),
        None => Err(EngineError::Rejected(format!(
            "exec: {command:?}: executable file not found in PATH={}",
            path.to_string_lossy()
        ))),
    }
}

/// The image without digest, tag and Docker's default registry.
fn name_of(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _digest)| name);
    // A colon before the last slash belongs to a registry's port.
    let image = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    };
    let image = image.strip_prefix("docker.io/").or_else(|| image.strip_prefix("index.docker.io/")).unwrap_or(image);
    image.strip_prefix("library/").unwrap_or(image)
}

fn along(name: &str, path: &OsStr) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    std::env::split_paths(path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_without_registry_tag_and_digest() {
        for (image, name) in [
            ("sleep", "sleep"),
            ("sleep:latest", "sleep"),
            ("docker.io/library/sleep:latest", "sleep"),
            ("library/sleep", "sleep"),
            ("sleep@sha256:0123", "sleep"),
            ("sleep:1.2@sha256:0123", "sleep"),
            ("/bin/sleep", "/bin/sleep"),
            ("/bin/sleep:latest", "/bin/sleep"),
            ("host:5000/sleep", "host:5000/sleep"),
        ] {
            assert_eq!(name_of(image), name, "{image}");
        }
    }

    #[test]
    fn a_program_is_found_along_path_and_by_its_own_path() {
        let path = OsStr::new("/nowhere:/bin:/usr/bin");
        assert_eq!(of_image("sh:latest", path, Path::new("/own")).unwrap().path, Path::new("/bin/sh"));
        assert_eq!(of_image("/bin/sh", path, Path::new("/own")).unwrap().name, "/bin/sh");
        assert_eq!(of_image("essaim:latest", path, Path::new("/bin/sh")).unwrap().path, Path::new("/bin/sh"));
        assert_eq!(of_command("sh", path).unwrap().name, "sh");
    }

    #[test]
    fn a_missing_program_is_refused_with_its_name_and_where_it_was_looked_for() {
        let path = OsStr::new("/bin");
        for (image, words) in [
            ("ghost:latest", "No such image: ghost:latest (there is no program ghost along PATH=/bin)"),
            ("/bin/ghost", "No such image: /bin/ghost (there is no program /bin/ghost on this machine)"),
            ("", "No such image:  (an image is the name or path of a program of this machine)"),
            ("a/b", "No such image: a/b (an image is the name of a program along PATH, or an absolute path)"),
        ] {
            assert_eq!(of_image(image, path, Path::new("/own")), Err(EngineError::Rejected(words.into())));
        }
        assert_eq!(
            of_command("ghost", path),
            Err(EngineError::Rejected("exec: \"ghost\": executable file not found in PATH=/bin".into()))
        );
    }
}
