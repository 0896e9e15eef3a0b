//! The image of a service: its whole name, the digest that a registry has for it, and the credentials for that
//! registry.
//!
//! A tag may point to another image tomorrow, so a service is pinned to the digest that the tag has now. The daemon asks
//! the registry (`GET /distribution/{name}/json`). When it cannot, the service gets the tag, and a warning.

mod credentials;

use serde_json::{Value, json};

use super::flags::Given;
use crate::client::Client;
use crate::exit::Failure;
use crate::verbs::read::{list, object, text};

const IMAGE: &str = "/TaskTemplate/ContainerSpec/Image";

/// Gives the image of the spec its tag, if it has none.
pub(super) fn tag(spec: &mut Value) {
    let tagged = Name::parse(text(spec, IMAGE)).map(|name| name.tagged());
    if let (Some(tagged), Some(image)) = (tagged, spec.pointer_mut(IMAGE)) {
        *image = json!(tagged);
    }
}

/// Pins the image to the digest that its registry has for it, and the service to the platforms that the image is made
/// for. Returns a warning if the registry gave no answer.
pub(super) async fn pin(client: &Client, spec: &mut Value, auth: Option<&str>) -> Result<Option<String>, Failure> {
    let image = text(spec, IMAGE).to_owned();
    let path = format!("/distribution/{image}/json");
    let found = match client.get_as(&path, auth).await {
        Ok(reply) => reply.json().await?,
        Err(failure) if failure.to_string().contains("no registry is asked") => return Ok(None),
        Err(_) => {
            return Ok(Some(format!(
                "image {image} could not be accessed on a registry to record\nits digest. Each node will access \
                 {image} independently,\npossibly leading to different nodes running different\nversions of the image.\n"
            )));
        }
    };
    let digest = text(&found, "/Descriptor/digest");
    if let (Some(name), Some(image)) = (Name::parse(&image), spec.pointer_mut(IMAGE)) {
        *image = json!(name.pinned(digest));
    }
    // An ARM image runs on several variants of the architecture, which nodes call by other names.
    let architecture = |platform: &Value| match text(platform, "/architecture") {
        arm if arm.eq_ignore_ascii_case("arm") => String::new(),
        other => other.to_owned(),
    };
    let platforms: Vec<_> = list(&found, "/Platforms")
        .iter()
        .map(|platform| {
            let mut shown = json!({"OS": text(platform, "/os")});
            if !architecture(platform).is_empty() {
                shown["Architecture"] = json!(architecture(platform));
            }
            shown
        })
        .collect();
    if !platforms.is_empty() {
        object(spec, &["TaskTemplate", "Placement"]).insert("Platforms".to_owned(), json!(platforms));
    }
    Ok(None)
}

/// The `X-Registry-Auth` header for the image, if `--with-registry-auth` asks for it.
pub(super) fn auth(flags: &Given, spec: &Value) -> Result<Option<String>, Failure> {
    if flags.is_set("with-registry-auth") { credentials(spec).map(Some) } else { Ok(None) }
}

/// The `X-Registry-Auth` header for the image of a spec.
pub(super) fn credentials(spec: &Value) -> Result<String, Failure> {
    let registry = Name::parse(text(spec, IMAGE)).map_or_else(|| "docker.io".to_owned(), |name| name.registry);
    credentials::header(&registry)
}

/// The parts of an image's name.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    registry: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Name {
    /// Cuts a name into its parts; `None` for a text that is no name, such as the path of a program.
    fn parse(text: &str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        let (rest, tag) = match rest.rsplit_once(':') {
            Some((rest, tag)) if !tag.contains('/') => (rest, Some(tag.to_owned())),
            _ => (rest, None),
        };
        let (registry, path) = match rest.split_once('/') {
            Some((first, _)) if first.starts_with(['.', ':']) => return None,
            Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (first, path.to_owned()),
            _ => ("docker.io", rest.to_owned()),
        };
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let path = match registry {
            "docker.io" if !path.contains('/') => format!("library/{path}"),
            _ => path,
        };
        let part = |part: &str| {
            let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
            let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            part.chars().all(letters) && edge(part.chars().next()) && edge(part.chars().last())
        };
        let id = rest.len() == 64 && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let tag_fits = |tag: &String| {
            let letters = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            !tag.is_empty() && tag.len() <= 128 && tag.chars().all(letters) && !tag.starts_with(['.', '-'])
        };
        let good = !id && path.split('/').all(part) && tag.as_ref().is_none_or(tag_fits);
        good.then(|| Self { registry: registry.to_owned(), path, tag, digest })
    }

    /// The name as people write it, with a tag or a digest.
    fn tagged(&self) -> String {
        let name = self.familiar();
        match (&self.tag, &self.digest) {
            (None, None) => format!("{name}:latest"),
            (Some(tag), None) => format!("{name}:{tag}"),
            (None, Some(digest)) => format!("{name}@{digest}"),
            (Some(tag), Some(digest)) => format!("{name}:{tag}@{digest}"),
        }
    }

    /// The name with this digest, unless it has one.
    fn pinned(&self, digest: &str) -> String {
        let name = self.tagged();
        if self.digest.is_some() || digest.is_empty() { name } else { format!("{name}@{digest}") }
    }

    fn familiar(&self) -> String {
        match self.registry.as_str() {
            "docker.io" => self.path.strip_prefix("library/").unwrap_or(&self.path).to_owned(),
            registry => format!("{registry}/{}", self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gets_its_tag() {
        for (text, tagged) in [
            ("alpine", "alpine:latest"),
            ("docker.io/library/alpine:3", "alpine:3"),
            ("index.docker.io/traefik/whoami", "traefik/whoami:latest"),
            ("registry.example:5000/a/b", "registry.example:5000/a/b:latest"),
            ("localhost/a", "localhost/a:latest"),
            ("a@sha256:0dad", "a@sha256:0dad"),
            ("a:v1@sha256:0dad", "a:v1@sha256:0dad"),
        ] {
            assert_eq!(Name::parse(text).map(|name| name.tagged()).as_deref(), Some(tagged), "{text}");
        }
        let hex = "a".repeat(64);
        for text in ["/usr/bin/sleep", "./sleep", "Alpine", "a:b c", "", "-", &hex] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_digest_is_added_once() {
        let pinned = |text: &str| Name::parse(text).expect("a name").pinned("sha256:1");
        assert_eq!(pinned("alpine"), "alpine:latest@sha256:1");
        assert_eq!(pinned("alpine:3@sha256:0"), "alpine:3@sha256:0");
    }
}
