//! Go templates, as far as `--format` of the command line and the settings of a service need them.
//!
//! Supported: `{{.Name}}`, nested fields, pipelines (`{{.Labels | json}}`), variables, `if`/`else if`/`else`, `range`
//! over lists and maps, `with`, trimming (`{{- -}}`), and Go's `eq ne lt gt le ge and or not len index print printf
//! println`. The data is JSON. A field that the data does not have is an error. Nested templates are refused.
//!
//! There are two sets of functions beside Go's own ([`Functions`]): docker's command line has `json join upper lower
//! title split truncate pad`, and a service has `join` with its arguments in another order. A caller may add functions
//! ([`Template::render_with`]).
//!
//! Templates come from people and may be hostile, so depth, steps and output are bounded. No error shows a value.
//!
//! `lex` cuts the text into tokens, `parse` builds the tree, `eval` evaluates it, `functions` has the named functions.

mod eval;
mod functions;
mod lex;
mod parse;

pub use eval::OwnFunctions;

use serde_json::Value;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    nodes: Vec<parse::Node>,
    functions: Functions,
}

/// The functions that a template may call beside Go's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Functions {
    /// Those of docker's `--format`: `join LIST SEPARATOR` and others.
    CommandLine,
    /// Those of Swarm's services: `join SEPARATOR TEXT…`. A label that `index` does not find is an empty text.
    Service,
}

/// The template cannot be parsed or evaluated, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: {0}")]
pub struct TemplateError(String);

impl TemplateError {
    /// The error of a function of the caller's own.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl Template {
    /// Parses a template of the command line.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Self::parse_for(text, Functions::CommandLine)
    }

    /// Parses a template that may call these functions.
    pub fn parse_for(text: &str, functions: Functions) -> Result<Self, TemplateError> {
        Ok(Self { nodes: parse::parse(lex::lex(text)?)?, functions })
    }

    /// Evaluates the template over this JSON value.
    pub fn render(&self, dot: &Value) -> Result<String, TemplateError> {
        self.render_with(dot, &|_, _| None)
    }

    /// Evaluates the template over this JSON value, with functions of the caller's own, which win over those of the
    /// same name.
    pub fn render_with(&self, dot: &Value, own: OwnFunctions<'_>) -> Result<String, TemplateError> {
        eval::render(&self.nodes, self.functions, own, dot)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(template: &str, expected: &str) {
        let data = json!({
            "Name": "web", "Replicas": 3, "Self": true, "Empty": "", "None": null, "Ratio": 0.5,
            "Spec": {"Role": "manager", "Labels": {"b": "2", "a": "1"}},
            "Ports": [{"T": 80}, {"T": 443}], "Args": ["sleep", "9"], "No": [],
        });
        let shown = Template::parse(template).and_then(|template| template.render(&data));
        assert_eq!(shown, Ok(expected.to_owned()), "{template}");
    }

    fn check_refused(template: &str, words: &str) {
        let refused =
            Template::parse(template).and_then(|template| template.render(&json!({"Name": "web"}))).unwrap_err();
        assert!(refused.to_string().contains(words), "{refused}");
    }

    #[test]
    fn fields_and_text() {
        check("{{.Name}}: {{ .Spec.Role }} {{.Replicas}} {{.Self}} {{.Ratio}}", "web: manager 3 true 0.5");
        check("no template at all", "no template at all");
        check("{{/* a remark */}}{{.Empty}}", "");
    }

    #[test]
    fn lists_and_maps_print_as_in_go() {
        check("{{.Args}} {{.Spec.Labels}} {{.None}}", "[sleep 9] map[a:1 b:2] <no value>");
    }

    #[test]
    fn conditions() {
        check("{{if .Self}}*{{else}} {{end}}", "*");
        check("{{if .Empty}}a{{else if .No}}b{{else}}c{{end}}", "c");
        check("{{if and .Self (eq .Name \"web\")}}yes{{end}}{{if not .Self}}no{{end}}", "yes");
        check("{{if or .Empty (gt .Replicas 2)}}many{{end}}", "many");
    }

    #[test]
    fn loops() {
        check("{{range .Ports}}{{.T}},{{end}}", "80,443,");
        check("{{range $i, $p := .Ports}}{{$i}}={{$p.T}} {{end}}", "0=80 1=443 ");
        check("{{range $k, $v := .Spec.Labels}}{{$k}}{{$v}}{{end}}", "a1b2");
        check("{{range .No}}x{{else}}none{{end}}", "none");
        check("{{range .Args}}{{.}}{{$.Name}}{{end}}", "sleepweb9web");
        check("{{with .Spec}}{{.Role}}{{end}}{{with .Empty}}x{{else}}-{{end}}", "manager-");
    }

    #[test]
    fn functions() {
        check("{{json .Spec.Labels}} {{.Args | json}}", r#"{"a":"1","b":"2"} ["sleep","9"]"#);
        check("{{join .Args \" \"}} {{upper .Name}} {{lower \"ABC\"}} {{title .Name}}", "sleep 9 WEB abc Web");
        check("{{.Name | upper | printf \"<%s>\"}}", "<WEB>");
        check("{{len .Ports}} {{index .Args 1}} {{index .Spec.Labels \"a\"}}", "2 9 1");
        check("{{truncate .Name 2}}{{pad .Name 1 2}}|{{println 1}}", "we web  |1\n");
        check("{{range split \"a,b\" \",\"}}[{{.}}]{{end}}", "[a][b]");
        check("{{$x := .Name}}{{$x}}{{$x = \"y\"}}{{$x}}", "weby");
        check("{{if ne .Name \"a\" }}{{print .Name 1 2}}{{end}}", "web1 2");
    }

    #[test]
    fn a_service_has_functions_of_its_own() {
        let data = json!({"Service": {"Name": "web", "Labels": {"tier": "front"}}, "Task": {"Slot": "3"}});
        let render = |text: &str| Template::parse_for(text, Functions::Service).and_then(|it| it.render(&data));
        assert_eq!(render("{{join \"-\" .Service.Name .Task.Slot}}"), Ok("web-3".into()));
        let labels = r#"{{index .Service.Labels "tier"}}|{{index .Service.Labels "none"}}|"#;
        assert_eq!(render(labels), Ok("front||".into()));
        assert!(render("{{.Service.Labels.none}}").is_err(), "a missing field is an error");
        assert!(render("{{json .Service}}").is_err(), "that is a function of the command line");
    }

    #[test]
    fn a_caller_may_add_functions() {
        let own = |name: &str, arguments: &[Value]| match (name, arguments) {
            ("twice", [Value::String(text)]) => Some(Ok(Value::from(text.repeat(2)))),
            ("twice", _) => Some(Err(TemplateError::new("twice takes a text"))),
            _ => None,
        };
        let render = |text: &str| Template::parse(text).and_then(|it| it.render_with(&json!({"A": "x"}), &own));
        assert_eq!(render("{{twice .A | upper}}"), Ok("XX".into()));
        assert_eq!(render("{{twice 1}}"), Err(TemplateError::new("twice takes a text")));
        assert!(render("{{thrice .A}}").is_err());
    }

    #[test]
    fn a_template_that_is_too_deep_or_produces_too_much_is_refused() {
        check_refused(&"{{if 1}}".repeat(100_000), "inside each other");
        check_refused(&format!("{{{{{}1}}}}", "(".repeat(900)), "inside each other");
        check_refused(&format!("{{{{print {}}}}}", "1 ".repeat(2_000)), "more than 1000 words");
        let many = json!({"Many": vec![0; 2_000]});
        let render = |text: &str| Template::parse(text).and_then(|it| it.render(&many));
        let loops = "{{range .Many}}{{range $.Many}}x{{end}}{{end}}";
        assert_eq!(render(loops), Err(TemplateError::new("the template produces too much")));
        let doubled = "{{$x := \"x\"}}{{range .Many}}{{$x = print $x $x}}{{end}}";
        assert_eq!(render(doubled), Err(TemplateError::new("the template produces too much")));
        assert_eq!(render("{{printf \"%9999999999s\" \"x\" | len}}"), Ok("1000000".into()));
        assert!(render("{{range .Many}}x{{end}}").is_ok());
        assert!(render(&"{{if 1}}x{{end}}".repeat(1_000)).is_ok(), "branches beside each other are not deep");
    }

    #[test]
    fn no_error_shows_a_value() {
        for text in ["{{.Name.First}}", "{{range .Name}}{{end}}", "{{index .Name 1}}", "{{len true}}"] {
            let refused = Template::parse(text).and_then(|it| it.render(&json!({"Name": "s3cr3t"}))).unwrap_err();
            assert!(!refused.to_string().contains("s3cr3t"), "{refused}");
        }
    }

    #[test]
    fn trimming() {
        check("a  {{- .Name -}}  b", "awebb");
    }

    #[test]
    fn what_is_wrong_is_said() {
        check_refused("{{.Colour}}", "Colour");
        check_refused("{{.Name", "not closed");
        check_refused("{{if .Name}}x", "end");
        check_refused("{{end}}", "end");
        check_refused("{{frobnicate .Name}}", "frobnicate");
        check_refused("{{template \"x\"}}", "template");
        check_refused("{{.Name.First}}", "First");
    }
}
