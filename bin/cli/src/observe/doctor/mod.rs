//! `essaim doctor`: what is wrong with a node and its cluster, one line each with what to do.
//!
//! The daemon judges; this command shows its findings. When no daemon answers at the socket, it looks at the machine itself
//! ([`local`]). It ends with code 0 when all is well, 6 when the managers have no quorum, and 1 when anything else is wrong;
//! a warning counts as wrong with `--strict`. The table is as wide as the terminal ([`lines`]).

mod lines;
mod local;

use std::path::PathBuf;

use essaim_docker::own::{Diagnosis, Finding, Verdict};

use super::read;
use crate::client::{Address, Client};
use crate::exit::{Exit, Failure};
use crate::show::{Field, List};
use crate::verbs::pair;

/// Code of the check of the managers' quorum.
const QUORUM: &str = "D201";

/// Arguments of `essaim doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Format output using a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Show these findings alone, and judge by them (verdict, code, check or node; `*` at the end of a value for any rest)
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = pair)]
    filter: Vec<(String, String)>,
    /// End with code 1 when there are warnings, too
    #[arg(long)]
    strict: bool,
    /// Data folder to look at when no daemon answers
    #[arg(long, value_name = "DIR", default_value = "/var/lib/essaim")]
    data_dir: PathBuf,
}

const FIELDS: &[Field] = &[
    ("Verdict", "VERDICT"),
    ("Code", "CODE"),
    ("Check", "CHECK"),
    ("Node", "NODE"),
    ("Found", "FOUND"),
    ("Next", "WHAT TO DO"),
];

const TABLE: &str = "{{.Verdict}}\t{{.Code}}\t{{.Check}}\t{{.Node}}\t{{.Found}}\t{{.Next}}";

/// Runs `essaim doctor`.
pub(crate) async fn run(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    check(&arguments.filter)?;
    let unanswered = match client.address() {
        Address::Unix(socket) => {
            std::os::unix::net::UnixStream::connect(socket).err().map(|error| (socket.clone(), error))
        }
        Address::Tcp(_) => None,
    };
    let findings = match unanswered {
        Some((socket, error)) => local::judge(&local::look(&socket, &error, &arguments.data_dir).await),
        None => {
            let told: Diagnosis = read(client.get_json("/essaim/v1/doctor").await?)?;
            if !told.whole && !told.node.is_empty() {
                eprintln!("{} is a worker and tells of itself only; a manager tells of the whole cluster", told.name);
            }
            told.findings
        }
    };
    let findings: Vec<_> = findings.into_iter().filter(|it| is_asked_for(it, &arguments.filter)).collect();
    match arguments.format.as_deref() {
        None => print!("{}", lines::table(&findings, lines::columns())),
        format => print!("{}", table(&findings).render(format)?),
    }
    verdict(&findings, arguments.strict)
}

/// Keys that findings can be filtered by.
const KEYS: [&str; 4] = ["verdict", "code", "check", "node"];

/// Refuses a filter by a key that findings do not have.
fn check(filters: &[(String, String)]) -> Result<(), Failure> {
    match filters.iter().find(|(key, _)| !KEYS.contains(&key.as_str())) {
        Some((key, _)) => {
            Err(Failure::usage(format!("unknown filter {key:?}")).next(format!("there are {}", KEYS.join(", "))))
        }
        None => Ok(()),
    }
}

/// Whether a finding satisfies the filters: one of each key.
fn is_asked_for(finding: &Finding, filters: &[(String, String)]) -> bool {
    KEYS.iter().all(|key| {
        let actual = match *key {
            "verdict" => finding.verdict.as_str(),
            "code" => &finding.code,
            "check" => &finding.check,
            _ => &finding.node,
        };
        let mut wanted = filters.iter().filter(|(of, _)| of == key).map(|(_, value)| value.as_str()).peekable();
        let is = |value: &str| match value.strip_suffix('*') {
            Some(start) => actual.starts_with(start),
            None => actual.eq_ignore_ascii_case(value),
        };
        wanted.peek().is_none() || wanted.any(is)
    })
}

/// How the command ends.
fn verdict(findings: &[Finding], strict: bool) -> Result<(), Failure> {
    let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
    let no_quorum = findings.iter().any(|it| it.code == QUORUM && it.verdict == Verdict::Fail);
    match worst {
        _ if no_quorum => Err(Failure::new(Exit::NoQuorum, "")),
        Verdict::Fail => Err(Failure::reported()),
        Verdict::Warn if strict => Err(Failure::reported()),
        Verdict::Warn | Verdict::Skip | Verdict::Ok => Ok(()),
    }
}

fn table(findings: &[Finding]) -> List {
    let mut table = List::new(FIELDS, TABLE);
    for Finding { code, check, verdict, node, found, next } in findings {
        let line = |text: &str| text.replace('\n', " ");
        table.push([
            verdict.as_str().into(),
            code.as_str().into(),
            check.as_str().into(),
            node.as_str().into(),
            line(found).into(),
            line(next).into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn findings() -> Vec<Finding> {
        let told = json!({"node": "a", "name": "n1", "whole": true, "findings": [
            {"code": "D109", "check": "published ports", "verdict": "fail", "node": "n2",
             "found": "port 80/tcp is not published: held by nginx (pid 7)", "next": "stop that program"},
            {"code": "D201", "check": "quorum", "verdict": "ok", "node": "", "found": "3 of 3 managers\nare there"},
        ]});
        read::<Diagnosis>(told).expect("an answer").findings
    }

    #[test]
    fn filters_of_one_key_add_up_and_those_of_several_keys_narrow() {
        let of = |pairs: &[(&str, &str)]| {
            let filters: Vec<_> = pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
            check(&filters).map_err(|failure| failure.to_string())?;
            let all = findings();
            let shown = all.iter().filter(|it| is_asked_for(it, &filters)).map(|it| it.code.clone());
            Ok::<_, String>(shown.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(of(&[]), Ok("D109 D201".into()));
        assert_eq!(of(&[("code", "d201")]), Ok("D201".into()));
        assert_eq!(of(&[("verdict", "fail"), ("verdict", "ok")]), Ok("D109 D201".into()));
        assert_eq!(of(&[("verdict", "fail"), ("node", "n3")]), Ok(String::new()));
        assert_eq!(of(&[("check", "published*")]), Ok("D109".into()));
        assert_eq!(
            of(&[("colour", "red")]),
            Err("unknown filter \"colour\"\nnext: there are verdict, code, check, node".into())
        );
    }

    #[test]
    fn each_finding_is_one_line_with_what_to_do_where_a_format_is_asked_for() {
        let shown = table(&findings()).render(Some("table")).expect("shown");
        let expected = "\
VERDICT   CODE      CHECK             NODE      FOUND                                                 WHAT TO DO
fail      D109      published ports   n2        port 80/tcp is not published: held by nginx (pid 7)   stop that program
ok        D201      quorum                      3 of 3 managers are there                             
";
        assert_eq!(shown, expected);
        let json = table(&findings()).render(Some("json")).expect("shown");
        assert!(json.lines().next().is_some_and(|line| line.contains("\"Verdict\":\"fail\"")), "{json}");
    }

    #[test]
    fn the_exit_code_tells_a_lost_quorum_from_other_faults_and_warnings_count_on_request() {
        let of = |verdicts: &[(&str, Verdict)], strict| {
            let finding = |(code, verdict): &(&str, Verdict)| {
                let words = String::new;
                let (check, node, found, next) = (words(), words(), words(), words());
                Finding { code: (*code).into(), check, verdict: *verdict, node, found, next }
            };
            let findings: Vec<_> = verdicts.iter().map(finding).collect();
            verdict(&findings, strict).map_err(|failure| failure.exit())
        };
        assert_eq!(of(&[("D101", Verdict::Ok), ("D100", Verdict::Skip)], true), Ok(()));
        assert_eq!(of(&[("D101", Verdict::Warn)], false), Ok(()));
        assert_eq!(of(&[("D101", Verdict::Warn)], true), Err(Exit::Error));
        assert_eq!(of(&[("D101", Verdict::Fail), (QUORUM, Verdict::Ok)], false), Err(Exit::Error));
        assert_eq!(of(&[("D101", Verdict::Fail), (QUORUM, Verdict::Fail)], false), Err(Exit::NoQuorum));
    }
}
