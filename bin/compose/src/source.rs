//! Where files and variables come from, and how paths are joined. The reader itself opens nothing.

/// Files and variables of the machine that reads a compose file.
pub trait Source {
    /// Contents of a file; `Ok(None)` when there is none, an error in words when it cannot be read.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String>;

    /// Value of a variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
}

/// A path that a file in `folder` names: absolute ones stay as they are, `~` is the home folder.
pub(crate) fn join(source: &dyn Source, folder: &str, path: &str) -> String {
    if path == "~" || path.starts_with("~/") {
        let home = source.variable("HOME").unwrap_or_default();
        return normal(&format!("{home}{}", &path[1..]));
    }
    if path.starts_with('/') || folder.is_empty() { normal(path) } else { normal(&format!("{folder}/{path}")) }
}

/// The folder that a file is in.
pub(crate) fn folder(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((folder, _)) => folder,
        None => "",
    }
}

/// The path without `.`, `..` and doubled slashes.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => (),
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if path.starts_with('/') => (),
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (path.starts_with('/'), joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Source for Nothing {
        fn read(&self, _: &str) -> Result<Option<Vec<u8>>, String> {
            Ok(None)
        }

        fn variable(&self, name: &str) -> Option<String> {
            (name == "HOME").then(|| "/users/ann".to_owned())
        }
    }

    #[test]
    fn a_path_is_joined_to_the_folder_of_the_file_that_names_it() {
        for (folder, path, joined) in [
            ("/app", "./data", "/app/data"),
            ("/app", "../x/./y", "/x/y"),
            ("/app", "/etc", "/etc"),
            ("/app", "~/x", "/users/ann/x"),
            ("", "x.env", "x.env"),
            ("", ".", "."),
            ("/app", ".", "/app"),
            ("/", "../..", "/"),
            ("a", "../../b", "../b"),
        ] {
            assert_eq!(join(&Nothing, folder, path), joined, "{folder} {path}");
        }
        assert_eq!((folder("/a/b.yml"), folder("b.yml"), folder("/b.yml")), ("/a", "", "/"));
    }
}
