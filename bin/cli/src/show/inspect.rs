//! The output of `inspect` commands: objects as the daemon returned them, as indented JSON or through a template.

use serde_json::Value;

use super::template::Template;
use crate::exit::Failure;

/// Failures of a command over several names; they are printed after the results.
#[derive(Debug, Default)]
pub(crate) struct Missing(Vec<Failure>);

impl Missing {
    /// Adds a failure.
    pub(crate) fn push(&mut self, failure: Failure) {
        self.0.push(failure);
    }

    /// Prints every failure to stderr; returns an error if there was one.
    pub(crate) fn report(self) -> Result<(), Failure> {
        let mut all = self.0;
        match all.len() {
            0 => Ok(()),
            1 => Err(all.remove(0)),
            _ => {
                for failure in &all {
                    eprintln!("{failure}");
                }
                Err(Failure::reported())
            }
        }
    }
}

/// The text of an `inspect` command for stdout.
pub(crate) fn inspect(objects: &[Value], format: Option<&str>) -> Result<String, Failure> {
    let failed = |error: super::template::TemplateError| Failure::error(error.to_string());
    match format.filter(|format| !format.is_empty()) {
        None => Ok(format!("{}\n", pretty(objects))),
        Some("json") => Ok(format!("{}\n", Value::from(objects.to_vec()))),
        Some(format) => {
            let template = Template::parse(format).map_err(failed)?;
            let mut out = String::new();
            for object in objects {
                out.push_str(&template.render(object).map_err(failed)?);
                out.push('\n');
            }
            Ok(out)
        }
    }
}

/// JSON indented by four spaces a level, as docker writes it.
fn pretty(objects: &[Value]) -> String {
    if objects.is_empty() {
        return "[]".to_owned();
    }
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    match serde::Serialize::serialize(objects, &mut serializer) {
        Ok(()) => String::from_utf8_lossy(&out).into_owned(),
        Err(error) => unreachable!("JSON values are always JSON: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_indented_by_four() {
        let text = inspect(&[json!({"ID": "a", "Spec": {"Labels": {}}})], None).unwrap();
        let expected =
            "[\n    {\n        \"ID\": \"a\",\n        \"Spec\": {\n            \"Labels\": {}\n        }\n    }\n]\n";
        assert_eq!(text, expected);
        assert_eq!(inspect(&[], None).unwrap(), "[]\n");
    }

    #[test]
    fn a_template_reaches_into_the_object() {
        let object = json!({"Spec": {"Role": "manager", "Labels": {"a": "1"}}});
        assert_eq!(
            inspect(&[object], Some("{{.Spec.Role}} {{range $k, $v := .Spec.Labels}}{{$k}}={{$v}}{{end}}")).unwrap(),
            "manager a=1\n"
        );
    }
}
