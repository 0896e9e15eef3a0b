//! Trust: which nodes may join, and refusal of nodes that were removed.

use std::path::Path;
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use essaim_cluster_tests::harness::{Cluster, Said, essaim_command, eventually, have};

#[test]
fn a_bad_token_is_refused_and_says_which_half_is_wrong() {
    let cluster = Cluster::of_strangers(&["n1", "n2", "n3"]);
    cluster.init(0);
    let good = cluster.token(0, "Worker");
    let refuse = |token: &str, words: &str| {
        let answer = cluster.daemons[1].ask("POST", "/swarm/join", Some(&cluster.join_request(1, 0, token)));
        assert!(answer.status >= 400, "{token} was taken");
        assert!(answer.message().contains(words), "{token}: {}", answer.message());
        assert_eq!(
            cluster.daemons[1].get("/info")["Swarm"]["LocalNodeState"],
            "inactive",
            "a refusal leaves nothing behind"
        );
    };
    refuse("nonsense", "invalid join token");
    let (head, secret) = good.rsplit_once('-').expect("a token has parts");
    let (version, digest) = head.rsplit_once('-').expect("a token has parts");
    // Only the last digit is changed, so that the number stays in the range of that half of a token.
    let changed = |half: &str| {
        let (rest, last) = half.split_at(half.len() - 1);
        format!("{rest}{}", if last == "0" { "1" } else { "0" })
    };
    refuse(&format!("{version}-{}-{secret}", changed(digest)), "CA");
    refuse(&format!("{version}-{digest}-{}", changed(secret)), "A valid join token is necessary to join this cluster");
    cluster.join(1, 0, "Worker");
    let (code, _, error) = cluster.daemons[0].essaim(&["swarm", "join-token", "--rotate", "worker"]);
    assert_eq!(code, 0, "{error}");
    assert_ne!(cluster.token(0, "Worker"), good);
    let old = cluster.daemons[2].ask("POST", "/swarm/join", Some(&cluster.join_request(2, 0, &good)));
    assert!(old.message().contains("A valid join token is necessary to join this cluster"), "{}", old.message());
    cluster.join(2, 0, "Worker");
    cluster.wait_ready(1);
}

#[test]
fn whoever_is_in_a_cluster_joins_no_other() {
    let cluster = Cluster::on_loopback(2, 1);
    let token = cluster.token(0, "Worker");
    let answer = cluster.daemons[1].ask("POST", "/swarm/join", Some(&cluster.join_request(1, 0, &token)));
    assert_eq!(answer.status, 503);
    assert!(answer.message().contains("already part of a swarm"), "{}", answer.message());
}

#[test]
fn a_removed_node_is_refused_everywhere() {
    let mut cluster = Cluster::on_loopback(4, 3);
    let service = cluster.create("web", 8);
    cluster.wait_running(&service, 8, &[]);
    let (code, _, error) = cluster.daemons[0].essaim(&["node", "rm", "n4"]);
    assert_eq!(code, 1);
    assert!(error.contains("is not down and can't be removed"), "{error}");
    let (code, out, error) = cluster.daemons[0].essaim(&["node", "rm", "--force", "n4"]);
    assert_eq!((code, out.as_str()), (0, "n4\n"), "{error}");
    cluster.wait_running(&service, 8, &[3]);
    // A removed node stays out of the cluster, also after a restart of its daemon.
    cluster.daemons[3].kill();
    cluster.daemons[3].restart();
    for manager in 0..3 {
        let nodes = cluster.daemons[manager].get("/nodes");
        let names: Vec<_> =
            nodes.as_array().into_iter().flatten().map(|node| node["Description"]["Hostname"].clone()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
    }
    eventually("it says that it was removed", || {
        let swarm = cluster.daemons[3].get("/info")["Swarm"].clone();
        let says = swarm["Error"].as_str().is_some_and(|why| why.contains("was removed from the cluster"));
        if swarm["LocalNodeState"] == "error" && says { Ok(()) } else { Err(swarm.to_string()) }
    });
    // A removed node can leave, and join again as another node. Its tasks have ended.
    cluster.daemons[3].post("/swarm/leave?force=1", None);
    eventually("it runs nothing of the cluster's", || {
        let left = cluster.daemons[3].tasks().len();
        if left == 0 { Ok(()) } else { Err(format!("{left} tasks run")) }
    });
    cluster.join(3, 0, "Worker");
    cluster.wait_ready(3);
}

/// Writes an authority, and a certificate and key that it has signed for this address, in the files that docker reads.
fn certify(folder: &Path, address: &str) {
    let mut params = CertificateParams::new(vec![]).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![address.to_owned()]).expect("an address");
    let certificate = params.signed_by(&key, &issuer).expect("signed");
    for (file, text) in [("ca.pem", issuer.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())] {
        std::fs::write(folder.join(file), text).expect("written");
    }
}

#[test]
fn clients_over_tcp_are_served_with_a_certificate_and_refused_without_one() {
    let mut cluster = Cluster::of_strangers(&["n1"]);
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let (ours, strange) = (folder.path().join("ours"), folder.path().join("strange"));
    let daemon = &mut cluster.daemons[0];
    let ip = daemon.host.address.ip();
    for folder in [&ours, &strange] {
        std::fs::create_dir(folder).expect("made");
        certify(folder, &ip.to_string());
    }
    let port = std::net::TcpListener::bind((ip, 0)).and_then(|it| it.local_addr()).expect("a free port").port();
    let (file, address) = (|name: &str| ours.join(name).display().to_string(), format!("{ip}:{port}"));
    let files = [("--tlscacert", "ca.pem"), ("--tlscert", "cert.pem"), ("--tlskey", "key.pem")];
    daemon.flags = ["--tcp-addr".to_owned(), address.clone()].into();
    daemon.flags.extend(files.iter().flat_map(|(flag, name)| [(*flag).to_owned(), file(name)]));
    daemon.kill();
    daemon.restart();
    cluster.init(0);
    let ask = |mut command: Command, certificates: Option<&Path>| {
        command.args(["node", "ls", "--format", "{{.Hostname}}"]).env("DOCKER_HOST", format!("tcp://{address}"));
        command.env_remove("ESSAIM_HOST").env_remove("DOCKER_CONTEXT").env_remove("DOCKER_TLS_VERIFY");
        if let Some(folder) = certificates {
            command.env("DOCKER_TLS_VERIFY", "1").env("DOCKER_CERT_PATH", folder);
        }
        let output = command.stdin(Stdio::null()).output().expect("it can be started");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), error: text(&output.stderr) }
    };
    let programs: &[fn() -> Command] = if have("docker") {
        &[essaim_command, || Command::new("docker")]
    } else {
        eprintln!("skipped: the part with the stock docker CLI needs docker");
        &[essaim_command]
    };
    for program in programs {
        let served = ask(program(), Some(&ours));
        assert_eq!((served.code, served.out.as_str()), (0, "n1\n"), "{}", served.error);
        for certificates in [None, Some(strange.as_path())] {
            let refused = ask(program(), certificates);
            assert_ne!(refused.code, 0, "{certificates:?}: {}", refused.out);
        }
    }
    let refused =
        essaim_command().args(["daemon", "--tcp-addr", "127.0.0.1:2375"]).output().expect("it can be started");
    assert_ne!(refused.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--tlscacert"), "it says what is missing");
}
