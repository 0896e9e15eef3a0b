//! The grammar of references to images of a registry, as Docker reads them: `[host[:port]/]path[:tag][@digest]`.
//!
//! A name without a host is one of Docker Hub: `nginx` means `docker.io/library/nginx`. A first part is a host when it has
//! a dot, a colon or an upper-case letter in it, or is `localhost`.

/// Characters of the path of a repository at most, with `library/` where Docker puts it in front.
const PATH_LEN_MAX: usize = 255;

/// Characters of a tag at most.
const TAG_LEN_MAX: usize = 128;

/// Digits of an image's id, which looks like a name and is none.
const ID_LEN: usize = 64;

/// The kinds of digests, and their lengths in digits.
const DIGESTS: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];

/// Whether `text` names an image of a registry.
pub(super) fn is_reference(text: &str) -> bool {
    if text.len() == ID_LEN && is_hex(text) {
        return false;
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let (host, rest) = match rest.split_once('/') {
        Some((first, others)) if names_host(first) => (Some(first), others),
        _ => (None, rest),
    };
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    host.is_none_or(is_host)
        && is_path(path, host.is_none_or(|host| host == "docker.io" || host == "index.docker.io"))
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest)
}

fn names_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.contains(|it: char| it.is_ascii_uppercase())
}

/// Whether this is a host with or without a port: a name, an address, or an address of version 6 in brackets.
fn is_host(text: &str) -> bool {
    let of_version_6 = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (is_name, port) = match of_version_6 {
        Some((address, port)) => {
            (!address.is_empty() && address.chars().all(|it| it.is_ascii_hexdigit() || it == ':'), port)
        }
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (name.split('.').all(is_label), port)
        }
    };
    let is_port = |port: &str| !port.is_empty() && port.chars().all(|it| it.is_ascii_digit());
    is_name && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

fn is_label(text: &str) -> bool {
    let inside = text.chars().all(|it| it.is_ascii_alphanumeric() || it == '-');
    inside && !text.is_empty() && !text.starts_with('-') && !text.ends_with('-')
}

fn is_path(text: &str, of_hub: bool) -> bool {
    let prefix = if of_hub && !text.contains('/') { "library/".len() } else { 0 };
    text.len() + prefix <= PATH_LEN_MAX && text.split('/').all(is_component)
}

/// Whether this is a part of a path: words of lower-case letters and digits, with a dot, one or two underscores, or any
/// number of dashes between each two.
fn is_component(text: &str) -> bool {
    let is_letter = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit();
    let is_separator = |between: &str| matches!(between, "." | "_" | "__") || between.chars().all(|it| it == '-');
    let is_inside = text.starts_with(is_letter) && text.ends_with(is_letter);
    is_inside && text.split(is_letter).filter(|between| !between.is_empty()).all(is_separator)
}

fn is_tag(text: &str) -> bool {
    let is_word = |it: char| it.is_ascii_alphanumeric() || it == '_';
    text.len() <= TAG_LEN_MAX
        && text.starts_with(is_word)
        && text.chars().all(|it| is_word(it) || it == '.' || it == '-')
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(kind, digits)| DIGESTS.contains(&(kind, digits.len())) && is_hex(digits))
}

fn is_hex(text: &str) -> bool {
    text.chars().all(|it| it.is_ascii_digit() || ('a'..='f').contains(&it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_docker_accepts_are_references() {
        let digest = "a".repeat(64);
        for text in [
            "nginx",
            "nginx:1.27",
            "nginx:V1_2.3-rc",
            "a/b/c",
            "library/a__b.c---d_e",
            "localhost/a",
            "localhost:5000/a:v1",
            "ghcr.io/a/b:v1",
            "10.0.0.1:5000/a",
            "[2001:db8::1]:5000/a",
            "[::1]/a",
            "Registry/a",
            "REGISTRY.example.com:80/a/b",
            "a:5000",
            &format!("nginx@sha256:{digest}"),
            &format!("h:1/a/b:v1@sha512:{}", "0".repeat(128)),
            // A tag of 64 letters: Docker takes it for an image's digest where it looks for one.
            &format!("sha256:{digest}"),
            &format!("h.io/{}", "a".repeat(255)),
            &"a".repeat(247),
            &format!("a:{}", "t".repeat(128)),
        ] {
            assert!(is_reference(text), "{text}");
        }
    }

    #[test]
    fn names_that_docker_refuses_are_no_references() {
        let digest = "a".repeat(64);
        for text in [
            "",
            "UPPER:v1",
            "a/Upper",
            "h.io/UPPER:v1",
            "ok:v1@sha256:xx",
            "/usr/bin/env",
            "a//b",
            "a/",
            "a:",
            "a@",
            "a b",
            "a:v 1",
            "a:-v",
            "a:.v",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a._b",
            "é",
            "h:/a",
            "h:x/a",
            "-h.io/a",
            "h..io/a",
            "[::1/a",
            "[]/a",
            "[::1]5000/a",
            "a:b:c",
            "http://h.io/a",
            &digest,
            &format!("a@md5:{}", "a".repeat(32)),
            &format!("a@sha256:{}", "a".repeat(63)),
            &format!("a@sha256:{}", "A".repeat(64)),
            &format!("a@sha256:{digest}@sha256:{digest}"),
            &format!("h.io/{}", "a".repeat(256)),
            &"a".repeat(248),
            &format!("a:{}", "t".repeat(129)),
        ] {
            assert!(!is_reference(text), "{text}");
        }
    }
}
