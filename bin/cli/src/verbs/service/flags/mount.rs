//! `--mount`: a volume, a folder of the host, memory or an image in the file system of the container.

use serde_json::{Value, json};

use super::fields::fields;
use crate::show::units::parse_bytes;

/// Parses a mount such as `type=bind,source=/srv,target=/srv,readonly` into the API's object.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut mount = json!({"Type": "volume"});
    for field in fields(text.trim())? {
        let (key, value) = field.split_once('=').map_or((field.as_str(), None), |(key, value)| (key, Some(value)));
        let key = key.to_lowercase();
        let flag = ["readonly", "ro", "volume-nocopy", "bind-nonrecursive"].contains(&key.as_str());
        if value.is_none() && !flag {
            return Err(format!("invalid field '{field}' must be a key=value pair"));
        }
        set(&mut mount, &key, value, &field)?;
    }
    check(&mount)?;
    Ok(mount)
}

fn set(mount: &mut Value, key: &str, value: Option<&str>, field: &str) -> Result<(), String> {
    let invalid = || format!("invalid value for {key}: {}", value.unwrap_or(""));
    let on = || match value {
        None | Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
        Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
        Some(_) => Err(invalid()),
    };
    let text = value.unwrap_or("");
    let pair = || text.split_once('=').unwrap_or((text, ""));
    match key {
        "type" => mount["Type"] = json!(text.to_lowercase()),
        "source" | "src" => mount["Source"] = json!(source(text)),
        "target" | "dst" | "destination" => mount["Target"] = json!(text),
        "readonly" | "ro" => mount["ReadOnly"] = json!(on()?),
        "consistency" => mount["Consistency"] = json!(text.to_lowercase()),
        "bind-propagation" => mount["BindOptions"]["Propagation"] = json!(text.to_lowercase()),
        "bind-nonrecursive" => mount["BindOptions"]["NonRecursive"] = json!(on()?),
        "bind-recursive" => match text {
            "enabled" => (),
            "disabled" => mount["BindOptions"]["NonRecursive"] = json!(true),
            "writable" => mount["BindOptions"]["ReadOnlyNonRecursive"] = json!(true),
            "readonly" => mount["BindOptions"]["ReadOnlyForceRecursive"] = json!(true),
            _ => {
                return Err(format!(
                    "invalid value for {key}: {text} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        },
        "volume-subpath" => mount["VolumeOptions"]["Subpath"] = json!(text),
        "volume-nocopy" => mount["VolumeOptions"]["NoCopy"] = json!(on()?),
        "volume-label" => mount["VolumeOptions"]["Labels"][pair().0] = json!(pair().1),
        "volume-driver" => mount["VolumeOptions"]["DriverConfig"]["Name"] = json!(text),
        "volume-opt" => mount["VolumeOptions"]["DriverConfig"]["Options"][pair().0] = json!(pair().1),
        "image-subpath" => mount["ImageOptions"]["Subpath"] = json!(text),
        "tmpfs-size" => mount["TmpfsOptions"]["SizeBytes"] = json!(parse_bytes(text).map_err(|_| invalid())?),
        "tmpfs-mode" => {
            mount["TmpfsOptions"]["Mode"] = json!(u32::from_str_radix(text, 8).map_err(|_| invalid())?);
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

/// A relative path that begins with a dot is made absolute, since the folder in which a command runs means nothing to
/// the nodes.
fn source(text: &str) -> String {
    if text.starts_with('.')
        && let Ok(absolute) = std::path::absolute(text)
    {
        // `absolute` keeps `..`, which is resolved here by the names alone, as docker does.
        let mut path = std::path::PathBuf::new();
        for part in absolute.components() {
            match part {
                std::path::Component::ParentDir => drop(path.pop()),
                part => path.push(part),
            }
        }
        return path.to_string_lossy().into_owned();
    }
    text.to_owned()
}

fn check(mount: &Value) -> Result<(), String> {
    let kind = mount["Type"].as_str().unwrap_or("");
    if kind.is_empty() {
        return Err("type is required".to_owned());
    }
    if mount["Target"].as_str().unwrap_or("").is_empty() {
        return Err("target is required".to_owned());
    }
    for (field, of) in
        [("VolumeOptions", "volume"), ("ImageOptions", "image"), ("BindOptions", "bind"), ("TmpfsOptions", "tmpfs")]
    {
        if mount[field].is_object() && kind != of {
            return Err(format!("cannot mix '{of}-*' options with mount type '{kind}'"));
        }
    }
    let bind = &mount["BindOptions"];
    let read_only = mount["ReadOnly"] == true;
    if bind["ReadOnlyNonRecursive"] == true && !read_only {
        return Err("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction".to_owned());
    }
    if bind["ReadOnlyForceRecursive"] == true && !read_only {
        return Err("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction".to_owned());
    }
    if bind["ReadOnlyForceRecursive"] == true && bind["Propagation"] != "rprivate" {
        return Err(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_mount_is_refused() {
        for text in [
            "",
            "type=bind,source=/a",
            "type=tmpfs,target=/a,volume-nocopy",
            "type=bind,target=/a,color=red",
            "type=bind,target=/a,readonly=perhaps",
            "type=bind,target=/a,bind-recursive=readonly,readonly",
            "target=/a,source",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_relative_source_is_made_absolute() {
        let here = std::env::current_dir().expect("a folder");
        let mount = parse("type=bind,src=./a/../b,dst=/x").expect("a mount");
        assert_eq!(mount["Source"], json!(here.join("b")));
    }
}
