//! Reading and editing the daemon's untyped JSON.

use serde_json::{Map, Value};

/// The text at this pointer (`/Spec/Name`); empty when there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The number at this pointer; `None` when there is none.
pub(super) fn number(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

/// The list at this pointer; empty when there is none.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The texts of the list at this pointer.
pub(super) fn texts<'a>(value: &'a Value, pointer: &str) -> Vec<&'a str> {
    list(value, pointer).iter().filter_map(Value::as_str).collect()
}

/// `key=value` of the map at this pointer, sorted.
pub(super) fn pairs(value: &Value, pointer: &str) -> Vec<(String, String)> {
    let map = value.pointer(pointer).and_then(Value::as_object);
    let mut pairs: Vec<_> =
        map.into_iter().flatten().map(|(key, value)| (key.clone(), value.as_str().unwrap_or("").to_owned())).collect();
    pairs.sort();
    pairs
}

/// The object at this path of names. Missing objects are created; a value of another type is replaced.
pub(super) fn object<'a>(value: &'a mut Value, names: &[&str]) -> &'a mut Map<String, Value> {
    let mut value = value;
    for name in names {
        value = as_object(value).entry(*name).or_insert(Value::Null);
    }
    as_object(value)
}

fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it was made an object in the line above"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_reads_as_empty() {
        let value = json!({"Spec": {"Name": "web", "Labels": null}});
        assert_eq!((text(&value, "/Spec/Name"), text(&value, "/Spec/Role")), ("web", ""));
        assert!(list(&value, "/Spec/Labels").is_empty() && pairs(&value, "/Spec/Labels").is_empty());
    }

    #[test]
    fn what_is_missing_is_made() {
        let mut value = json!({"Spec": null});
        object(&mut value, &["Spec", "Limits"]).insert("Pids".to_owned(), 3.into());
        assert_eq!(value, json!({"Spec": {"Limits": {"Pids": 3}}}));
    }
}
