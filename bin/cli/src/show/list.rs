//! A list as docker prints it: a table by default, ids with `-q`, and any template with `--format`.
//!
//! A row is a JSON object whose fields are the words that templates may use. The table itself is a template too, and
//! its header comes from running that template over the headers of the fields, so every output has one source.

use serde_json::{Map, Value};

use super::table::align;
use crate::exit::Failure;
use essaim_template::{Template, TemplateError};

/// A field that a template may use, and the header of its column.
pub(crate) type Field = (&'static str, &'static str);

/// The rows of a list, and the template of its default table.
pub(crate) struct List {
    fields: &'static [Field],
    default: &'static str,
    rows: Vec<Map<String, Value>>,
}

impl List {
    /// A list without rows. `default` is the table's template, with cells separated by tabs.
    pub(crate) fn new(fields: &'static [Field], default: &'static str) -> Self {
        Self { fields, default, rows: Vec::new() }
    }

    /// Adds a row: one value for each field, in the order of the fields.
    pub(crate) fn push<const N: usize>(&mut self, values: [Value; N]) {
        debug_assert_eq!(N, self.fields.len(), "a row has one value for each field");
        self.rows.push(self.fields.iter().map(|(name, _)| (*name).to_owned()).zip(values).collect());
    }

    /// The list as text for stdout, in the given `--format` or as the default table.
    pub(crate) fn render(&self, format: Option<&str>) -> Result<String, Failure> {
        let format = format.map(str::trim).filter(|format| !format.is_empty()).unwrap_or("table");
        match format.strip_prefix("table") {
            Some("") => self.table(self.default),
            Some(custom) if custom.starts_with([' ', '\t']) || custom.starts_with("\\t") => {
                self.table(&unescaped(custom.trim_start()))
            }
            _ if format == "json" => Ok(self.each(&Template::parse("{{json .}}").map_err(failure)?)?),
            _ => self.each(&Template::parse(&unescaped(format)).map_err(failure)?),
        }
    }

    fn table(&self, columns: &str) -> Result<String, Failure> {
        let template = Template::parse(columns).map_err(failure)?;
        let head = self.fields.iter().map(|(name, head)| ((*name).to_owned(), Value::from(*head))).collect();
        let head = template.render(&Value::Object(head)).map_err(|error| self.explained(error))?;
        Ok(align(&format!("{head}\n{}", self.each(&template)?)))
    }

    fn each(&self, template: &Template) -> Result<String, Failure> {
        let mut out = String::new();
        for row in &self.rows {
            out.push_str(&template.render(&Value::Object(row.clone())).map_err(|error| self.explained(error))?);
            out.push('\n');
        }
        Ok(out)
    }

    fn explained(&self, error: TemplateError) -> Failure {
        let known: Vec<_> = self.fields.iter().map(|(name, _)| format!(".{name}")).collect();
        failure(error).next(format!("the fields here are {}", known.join(", ")))
    }
}

fn failure(error: TemplateError) -> Failure {
    Failure::error(error.to_string())
}

/// Replaces `\t` and `\n` written out as two characters, as a shell passes them on, by tab and newline.
fn unescaped(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> List {
        const FIELDS: &[Field] = &[("Self", ""), ("ID", "ID"), ("Hostname", "HOSTNAME"), ("Status", "STATUS")];
        let mut list = List::new(FIELDS, "{{.ID}} {{if .Self}}*{{else}} {{end}}\t{{.Hostname}}\t{{.Status}}");
        list.push([true.into(), "jy1kz05t1k9mlex5t6ni0quci".into(), "node1".into(), "Ready".into()]);
        list.push([false.into(), "loav43dlaswxchtptrh8si9om".into(), "a>b".into(), "Down".into()]);
        list
    }

    #[test]
    fn the_table_is_dockers() {
        let expected = "ID                            HOSTNAME   STATUS\n\
                        jy1kz05t1k9mlex5t6ni0quci *   node1      Ready\n\
                        loav43dlaswxchtptrh8si9om     a>b        Down\n";
        assert_eq!(nodes().render(None).unwrap(), expected);
        assert_eq!(nodes().render(Some("table")).unwrap(), expected);
    }

    #[test]
    fn a_table_of_ones_own_has_its_own_head() {
        assert_eq!(
            nodes().render(Some("table {{.Hostname}}\\t{{.Status}}")).unwrap(),
            "HOSTNAME   STATUS\nnode1      Ready\na>b        Down\n"
        );
    }

    #[test]
    fn json_is_one_object_a_line_with_sorted_keys() {
        let text = nodes().render(Some("json")).unwrap();
        let first = text.lines().next().unwrap();
        assert_eq!(first, r#"{"Hostname":"node1","ID":"jy1kz05t1k9mlex5t6ni0quci","Self":true,"Status":"Ready"}"#);
        assert!(text.contains(r#""a\u003eb""#), "{text}");
    }

    #[test]
    fn a_template_prints_one_line_a_row_without_a_head() {
        assert_eq!(nodes().render(Some("{{.Hostname}} {{upper .Status}}")).unwrap(), "node1 READY\na>b DOWN\n");
    }

    #[test]
    fn an_unknown_field_names_those_that_exist() {
        let failure = nodes().render(Some("{{.Colour}}")).unwrap_err().to_string();
        assert!(failure.contains("Colour") && failure.contains(".Hostname"), "{failure}");
    }
}
