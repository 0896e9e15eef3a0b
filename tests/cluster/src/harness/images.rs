//! Images that stand in for those of a registry: Debian's static busybox under a few names, imported into an engine.
//!
//! | image | what its containers do |
//! |---|---|
//! | `alpine:latest` | what their arguments say; a shell otherwise |
//! | `whoami:v1`, `whoami:v2` | answer on port 80 with their version and host name |
//! | `buggy:v2` | exit with code 1 after three seconds |

use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::http;

/// Names under which the image has busybox.
const APPLETS: &[&str] = &[
    "cat", "echo", "env", "false", "head", "hostname", "httpd", "id", "kill", "ls", "mkdir", "nc", "ping", "printf",
    "pwd", "rm", "seq", "sh", "sleep", "stty", "sysctl", "test", "touch", "tr", "true", "tty", "ulimit", "wget",
];

/// Program of the web server. The shell is process 1 and ends on SIGTERM, which httpd as process 1 would ignore.
const SERVE: &str = "#!/bin/sh
trap 'exit 0' TERM
httpd -f -p 80 -h /www &
wait
";

/// Answer of the web server.
const PAGE: &str = "#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\nwhoami %s on %s\\n' \"$VERSION\" \"$(hostname)\"
";

/// The stand-ins: name, tag, and what is changed in the image.
const IMAGES: &[(&str, &str, &[&str])] = &[
    // Its ping and sleep ignore SIGTERM as process 1, as those of any image do: a stop waits for its grace period.
    ("alpine", "latest", &["CMD [\"sh\"]"]),
    ("whoami", "v1", &["CMD [\"serve\"]", "ENV VERSION=v1", "EXPOSE 80"]),
    ("whoami", "v2", &["CMD [\"serve\"]", "ENV VERSION=v2", "EXPOSE 80"]),
    ("buggy", "v2", &["CMD [\"sh\",\"-c\",\"sleep 3; exit 1\"]"]),
];

/// Imports all stand-ins into the engine that listens on this socket. `folder` keeps the file they are made from.
pub fn import(socket: &Path, folder: &Path) -> io::Result<()> {
    let tar = made(folder)?;
    for (repository, tag, changes) in IMAGES {
        let changes: String = changes.iter().map(|change| format!("&changes={}", escaped(change))).collect();
        let path = format!("/images/create?fromSrc=-&repo={repository}&tag={tag}{changes}");
        let answer = http::send_unix(socket, &path, &tar)?;
        if answer.status != 200 || answer.text.contains("errorDetail") {
            return Err(io::Error::other(format!("{repository}:{tag}: {}", answer.message())));
        }
    }
    Ok(())
}

/// The file system of the images as a tar, made once for each folder.
fn made(folder: &Path) -> io::Result<Vec<u8>> {
    let tar = folder.join("image.tar");
    if !tar.exists() {
        let root = folder.join("image");
        for name in ["bin", "etc", "tmp", "www/cgi-bin"] {
            std::fs::create_dir_all(root.join(name))?;
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let busybox = std::env::split_paths(&path).map(|folder| folder.join("busybox")).find(|file| file.is_file());
        std::fs::copy(busybox.ok_or(io::ErrorKind::NotFound)?, root.join("bin/busybox"))?;
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet))?;
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/tmp:/bin/sh\n")?;
        std::fs::write(root.join("etc/group"), "root:x:0:\nalice:x:1000:\nwheel:x:10:alice\n")?;
        for (name, text) in [("bin/serve", SERVE), ("www/cgi-bin/index.cgi", PAGE)] {
            std::fs::write(root.join(name), text)?;
            std::fs::set_permissions(root.join(name), PermissionsExt::from_mode(0o755))?;
        }
        let status = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status()?;
        if !status.success() {
            return Err(io::Error::other("tar cannot make the image"));
        }
    }
    std::fs::read(tar)
}

/// A text as part of a query.
pub(super) fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escape).collect()
}
