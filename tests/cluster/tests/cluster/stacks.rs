//! Stacks of compose files, by `essaim stack` and by the stock docker CLI.

use essaim_cluster_tests::harness::{Cluster, eventually};

/// A file whose services are on no network, and start one after the other.
const COMPOSE: &str = r#"
services:
  web:
    image: sh
    command: [-c, "test -e FLAG && echo in order, for $$WHOM; cat $$ESSAIM_FILES/greeting; sleep 1000000"]
    environment: {WHOM: "${WHOM:-all}"}
    configs: [{source: greeting, target: /greeting}]
    stop_grace_period: 1s
    network_mode: bridge
    depends_on:
      migrate: {condition: service_completed_successfully}
      db: {condition: service_healthy}
  migrate:
    image: sh
    command: [-c, "sleep 1; touch FLAG"]
    network_mode: bridge
    restart: "no"
  db:
    image: sleep
    command: "1000000"
    stop_grace_period: 1s
    network_mode: bridge
    container_name: database
configs:
  greeting: {content: "good ${WHEN:?say when}\n"}
"#;

#[test]
fn a_stack_starts_in_order_changes_as_the_dry_run_says_and_goes_whole() {
    let cluster = Cluster::of_strangers(&["n1"]);
    cluster.init(0);
    cluster.wait_ready(1);
    let here = &cluster.daemons[0];
    let file = cluster.folder().join("compose.yml");
    let file = file.to_str().expect("a path");
    let flag = cluster.folder().join("migrated");
    let text = COMPOSE.replace("FLAG", flag.to_str().expect("a path"));
    std::fs::write(file, &text).expect("a file");
    std::fs::write(cluster.folder().join(".env"), "WHEN=morning\n").expect("a file");
    let stack = |arguments: &[&str]| {
        let (code, out, told) = here.essaim(&[&["stack"], arguments].concat());
        assert_eq!(code, 0, "stack {arguments:?}: {told}");
        (out, told)
    };

    // An error names its line, and nothing was made.
    let (code, _, told) = here.essaim(&["stack", "deploy", "--env-file", "/dev/null", file, "shop"]);
    assert_eq!(code, 1);
    assert!(told.contains("compose.yml:25: configs.greeting.content: the variable WHEN is required"), "{told}");

    let plan = "+ config shop_greeting\n+ service shop_db\n+ service shop_migrate\n+ service shop_web\n4 to create; nothing was done\n";
    assert_eq!(stack(&["deploy", "--dry-run", file, "shop"]).0, plan);
    let (_, told) = stack(&["deploy", file, "shop"]);
    assert!(told.contains("services.db.container_name is ignored"), "{told}");
    assert!(
        told.contains("Waiting for service shop_migrate (service_completed_successfully), which web depends on"),
        "{told}"
    );
    eventually("the log of web", || {
        let log = here.done("docker service logs --raw shop_web 2>&1");
        if log.contains("in order, for all") && log.contains("good morning") { Ok(()) } else { Err(log) }
    });

    // The stock CLI sees the same stack.
    assert!(here.done("docker stack ls").contains("shop      3"));
    assert!(
        here.done("docker stack ps shop --format '{{.Name}} {{.CurrentState}}'").contains("shop_migrate.1 Complete")
    );
    assert_eq!(here.done("docker stack services shop -q").lines().count(), 3);

    // The dry run says what changes, and the deployment does it.
    assert!(stack(&["deploy", "--dry-run", file, "shop"]).0.ends_with("4 unchanged; nothing was done\n"));
    let changed = text
        .replace("{WHOM: \"${WHOM:-all}\"}", "{WHOM: you}")
        .replace("    container_name: database\n", "    deploy: {replicas: 2}\n");
    std::fs::write(file, changed).expect("a file");
    let (plan, _) = stack(&["deploy", "--dry-run", file, "shop"]);
    for line in [
        "+ Mode.Replicated.Replicas: 2",
        "- TaskTemplate.ContainerSpec.Env: WHOM=all",
        "+ TaskTemplate.ContainerSpec.Env: WHOM=you",
    ] {
        assert!(plan.contains(line), "{plan}");
    }
    stack(&["deploy", "-d=false", file, "shop"]);
    assert!(here.done("docker service logs --raw shop_web 2>&1").contains("in order, for you"));

    // What the file no longer has goes with --prune, and the stack as a whole with rm.
    let fewer = "services: {db: {image: sleep, command: '1000000', network_mode: bridge, stop_grace_period: 1s}}\n";
    std::fs::write(file, fewer).expect("a file");
    assert!(stack(&["deploy", "--dry-run", file, "shop"]).0.contains("! service shop_web"));
    stack(&["deploy", "--prune", file, "shop"]);
    assert_eq!(stack(&["services", "shop", "--format", "{{.Name}}"]).0, "shop_db\n");
    stack(&["rm", "-d=false", "shop"]);
    assert_eq!(stack(&["ls"]).0, "NAME      SERVICES\n");
    assert_eq!(here.done("docker config ls -q"), "");
    let (code, _, told) = here.essaim(&["stack", "ps", "shop"]);
    assert!(code == 1 && told.starts_with("nothing found in stack: shop"), "{told}");
}
