//! `--secret`, `--config` and `--network`: references by name. The ids that the API wants are looked up later.

use serde_json::{Value, json};

use super::fields::fields;

/// A secret or config (`word` is `Secret` or `Config`), short (`site`) or long (`source=site,target=/x,mode=0400`).
pub(super) fn parse(word: &str, text: &str) -> Result<Value, String> {
    let parts = fields(text)?;
    let mut file = json!({"Name": "", "UID": "0", "GID": "0", "Mode": 0o444});
    let mut name = String::new();
    match parts.as_slice() {
        [one] if !one.contains('=') => {
            name.clone_from(one);
            file["Name"] = json!(one);
        }
        parts => {
            for part in parts {
                let (key, value) = part
                    .split_once('=')
                    .filter(|(key, _)| !key.is_empty())
                    .ok_or_else(|| format!("invalid field '{part}' must be a key=value pair"))?;
                match key.to_lowercase().as_str() {
                    "source" | "src" => value.clone_into(&mut name),
                    "target" => file["Name"] = json!(value),
                    "uid" => file["UID"] = json!(value),
                    "gid" => file["GID"] = json!(value),
                    "mode" => file["Mode"] = json!(mode(value)?),
                    _ => return Err(format!("invalid field in {} request: {key}", word.to_lowercase())),
                }
            }
        }
    }
    if name.is_empty() {
        return Err("source is required".to_owned());
    }
    if file["Name"] == "" {
        file["Name"] = json!(name);
    }
    Ok(json!({"File": file, format!("{word}Name"): name}))
}

/// A file mode as C writes numbers: octal with a leading 0, hexadecimal with 0x, else decimal.
fn mode(text: &str) -> Result<u32, String> {
    let (digits, radix) = match text.get(..2).map(str::to_lowercase).as_deref() {
        Some("0x") => (&text[2..], 16),
        Some("0o") => (&text[2..], 8),
        Some("0b") => (&text[2..], 2),
        _ if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        _ => (text, 10),
    };
    u32::from_str_radix(digits, radix).map_err(|_| format!("invalid mode specified: {text}"))
}

/// A network, short (`back`) or long (`name=back,alias=db,driver-opt=a=b`). docker takes only lower case in the long
/// notation, and so it is put in lower case.
pub(super) fn network(text: &str) -> Result<Value, String> {
    if !text.contains('=') {
        return Ok(json!({"Target": text}));
    }
    let mut network = json!({"Target": ""});
    for part in fields(&text.to_lowercase())? {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("invalid field {part}"))?;
        let value = value.trim();
        match key.trim() {
            "name" => network["Target"] = json!(value),
            "alias" => match network["Aliases"].as_array_mut() {
                Some(aliases) => aliases.push(json!(value)),
                None => network["Aliases"] = json!([value]),
            },
            "driver-opt" => {
                let (key, value) = value
                    .split_once('=')
                    .ok_or_else(|| "invalid key value pair format in driver options".to_owned())?;
                network["DriverOpts"][key.trim()] = json!(value.trim());
            }
            // docker takes these for containers, and leaves them out of a service.
            "ip" | "ip6" | "mac-address" | "link-local-ip" | "gw-priority" => (),
            other => return Err(format!("invalid field key {other}")),
        }
    }
    if network["Target"] == "" { Err("network name/id is not specified".to_owned()) } else { Ok(network) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_name_a_file() {
        let short = json!({"File": {"Name": "site", "UID": "0", "GID": "0", "Mode": 292}, "ConfigName": "site"});
        assert_eq!(parse("Config", "site"), Ok(short.clone()));
        assert_eq!(parse("Config", "source=site"), Ok(short));
        let long = json!({"File": {"Name": "/x", "UID": "1", "GID": "2", "Mode": 256}, "SecretName": "tok"});
        assert_eq!(parse("Secret", "src=tok,target=/x,uid=1,gid=2,mode=0400"), Ok(long));
        for text in ["target=/x", "source=a,color=red", "source=a,mode=9z", "a,b"] {
            assert!(parse("Secret", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_network_has_aliases() {
        let expected = json!({"Target": "back", "Aliases": ["db", "sql"], "DriverOpts": {"a": "b"}});
        assert_eq!(network("name=back,alias=db,alias=sql,driver-opt=a=b"), Ok(expected));
        assert!(network("alias=db").is_err() && network("name=a,color=red").is_err());
    }
}
