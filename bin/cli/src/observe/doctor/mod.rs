//! `essaim doctor`: what is wrong with a node and its cluster, one line each with what to do.
//!
//! The daemon judges; this command shows its findings. When no daemon answers at the socket, it looks at the machine itself
//! ([`local`]). It ends with code 0 when all is well, 6 when the managers have no quorum, and 1 when anything else is wrong;
//! a warning counts as wrong with `--strict`.

mod local;

use std::path::PathBuf;

use essaim_docker::own::{Diagnosis, Finding, Verdict};

use super::read;
use crate::client::{Address, Client};
use crate::exit::{Exit, Failure};
use crate::show::{Field, List};

/// Code of the check of the managers' quorum.
const QUORUM: &str = "D201";

/// Arguments of `essaim doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Format output using a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
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
    print!("{}", table(&findings).render(arguments.format.as_deref())?);
    verdict(&findings, arguments.strict)
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
    fn each_finding_is_one_line_with_what_to_do() {
        let shown = table(&findings()).render(None).expect("shown");
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
