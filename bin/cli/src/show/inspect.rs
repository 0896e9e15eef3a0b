//! The `inspect` commands, of every noun: they fetch objects by name and print them as indented JSON, through a template,
//! or in words.

use clap::Args;
use serde_json::Value;

use crate::exit::Failure;
use essaim_template::Template;

/// How an `inspect` command prints what it found.
#[derive(Debug, Args)]
pub(crate) struct Inspected {
    /// Format output using a Go template or `json`
    #[arg(short, long)]
    format: Option<String>,
    /// Print the information in a human friendly format
    #[arg(long)]
    pretty: bool,
}

/// Runs an `inspect` command: fetches the object of each name, prints those that were found (with `--pretty` in the words
/// that `describe` gives), and reports the names for which `fetch` failed.
pub(crate) async fn inspect_each(
    names: &[String],
    shown: &Inspected,
    fetch: impl AsyncFn(&str) -> Result<Value, Failure>,
    describe: impl Fn(&Value) -> String,
) -> Result<(), Failure> {
    if shown.pretty && shown.format.is_some() {
        return Err(Failure::usage("--format is incompatible with human friendly format"));
    }
    let (mut found, mut missing) = (Vec::new(), Missing::default());
    for name in names {
        match fetch(name).await {
            Ok(object) => found.push(object),
            Err(failure) => missing.push(failure),
        }
    }
    if shown.pretty {
        found.iter().for_each(|object| print!("{}", describe(object)));
    } else {
        print!("{}", inspect(&found, shown.format.as_deref())?);
    }
    missing.report()
}

/// Runs an `inspect` command of a noun that has no description in words.
pub(crate) async fn inspect_plain(
    names: &[String],
    format: Option<&str>,
    fetch: impl AsyncFn(&str) -> Result<Value, Failure>,
) -> Result<(), Failure> {
    let shown = Inspected { format: format.map(str::to_owned), pretty: false };
    inspect_each(names, &shown, fetch, |_| String::new()).await
}

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
    let failed = |error: essaim_template::TemplateError| Failure::error(error.to_string());
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

    #[tokio::test]
    async fn every_name_is_fetched_and_a_name_that_is_missing_fails_the_command() {
        let asked = std::cell::RefCell::new(Vec::new());
        let fetch = async |name: &str| {
            asked.borrow_mut().push(name.to_owned());
            if name == "gone" { Err(Failure::error("no such thing: gone")) } else { Ok(json!({"ID": name})) }
        };
        let shown = |format: Option<&str>, pretty| Inspected { format: format.map(Into::into), pretty };
        let names = ["gone".to_owned(), "a".to_owned()];
        let failed = inspect_each(&names, &shown(None, true), fetch, |_| String::new()).await.unwrap_err();
        assert_eq!((asked.take(), failed.to_string()), (names.to_vec(), "no such thing: gone".to_owned()));
        assert!(inspect_each(&names[1..], &shown(Some("json"), false), fetch, |_| String::new()).await.is_ok());
        asked.take();
        let failed = inspect_each(&names, &shown(Some("json"), true), fetch, |_| String::new()).await.unwrap_err();
        assert!(failed.to_string().contains("incompatible"), "{failed}");
        assert!(asked.take().is_empty(), "nothing is asked for a command that is wrong");
    }

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
