//! The simulated machine, against its own description.

use super::*;
use crate::engine::{LogOptions, Observation, Payloads, Progress};
use crate::mesh::sockets::Sockets;
use essaim_model::{ContainerSpec, PortConfig, PortProtocol, PublishMode};
use essaim_wire::NodeId;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, ReadBuf};

fn run(bits: u128, image: &str) -> Run {
    let image = Image::parse(image).expect("an image");
    Run::new(TaskId::from_bits(bits), format!("web.{bits}"), ContainerSpec::new(image))
}

async fn exit_of(machine: &SimMachine, task: TaskId) -> Exit {
    let seen: Vec<_> = machine.engine().observe(task).collect().await;
    match seen.last() {
        Some(Ok(Observation::Ended(ended))) => ended.exit,
        other => panic!("{other:?}"),
    }
}

fn machine() -> SimMachine {
    SimMachine::new(|| Timestamp::from_micros(7))
}

async fn started(engine: &Arc<dyn Engine>, bits: u128, image: &str) -> TaskId {
    engine.prepare(&run(bits, image), &Payloads::new(), &Progress::unheard()).await.unwrap();
    engine.start(TaskId::from_bits(bits)).await.unwrap();
    TaskId::from_bits(bits)
}

#[tokio::test(start_paused = true)]
async fn a_task_outlives_the_engine_that_started_it() {
    let machine = machine();
    let task = started(&machine.engine(), 1, "web").await;
    let found = machine.engine().adopt(NodeId::from_bits(1)).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(matches!(found[0].phase, Phase::Running(_)));
    machine.exit(task, 3);
    assert_eq!(exit_of(&machine, task).await, Exit::Code(3));
    assert_eq!(machine.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn images_do_what_they_were_told() {
    let machine = machine();
    machine.behave("job", Behaviour::Exits { after: Duration::from_secs(60), code: 0 });
    machine.behave("stubborn", Behaviour::IgnoresStop);
    machine.behave("ghost", Behaviour::Missing);
    machine.behave("broken", Behaviour::FailsToStart);
    let engine = machine.engine();
    let job = started(&engine, 1, "job").await;
    assert_eq!(exit_of(&machine, job).await, Exit::Code(0));
    let stubborn = started(&engine, 2, "stubborn").await;
    let ended = engine.stop(stubborn, Signal::TERM, Duration::from_secs(10)).await.unwrap();
    assert_eq!(ended.exit, Exit::Signal(9));
    let unheard = Progress::unheard();
    let ghost = engine.prepare(&run(3, "ghost"), &Payloads::new(), &unheard).await;
    assert_eq!(ghost, Err(EngineError::Rejected("No such image: ghost".into())));
    engine.prepare(&run(4, "broken"), &Payloads::new(), &unheard).await.unwrap();
    assert!(matches!(engine.start(TaskId::from_bits(4)).await, Err(EngineError::Failed(_))));
}

#[tokio::test(start_paused = true)]
async fn a_followed_log_ends_with_its_task() {
    let machine = machine();
    let engine = machine.engine();
    let task = started(&engine, 1, "web").await;
    machine.write(task, LogStream::Stderr, "careful");
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let (lines, ()) = tokio::join!(engine.logs(task, options).collect::<Vec<_>>(), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        machine.write(task, LogStream::Stdout, "bye");
        machine.exit(task, 0);
    });
    let texts: Vec<_> = lines.into_iter().map(|line| String::from_utf8(line.unwrap().bytes).unwrap()).collect();
    assert_eq!(texts, ["started\n", "careful\n", "bye\n"]);
}

#[tokio::test(start_paused = true)]
async fn a_health_check_passes_and_fails_when_it_was_told_to() {
    let machine = machine();
    let (healthy_after, unhealthy_after) = (Duration::from_secs(1), Some(Duration::from_secs(5)));
    machine.behave("checked", Behaviour::Checked { healthy_after, unhealthy_after });
    let engine = machine.engine();
    let task = started(&engine, 1, "checked").await;
    let seen: Vec<_> = engine.observe(task).take(3).map(Result::unwrap).collect().await;
    assert_eq!(seen, [Observation::Running, Observation::Healthy, Observation::Unhealthy]);
}

#[tokio::test(start_paused = true)]
async fn a_pull_says_how_far_it_is_and_ends_when_it_is_dropped() {
    let machine = machine();
    machine.behave("large", Behaviour::Pulls(Duration::from_secs(600)));
    let (engine, run) = (machine.engine(), run(1, "large"));
    let (progress, latest) = Progress::new();
    let none = Payloads::new();
    let pulling = tokio::time::timeout(Duration::from_secs(90), engine.prepare(&run, &none, &progress));
    assert!(pulling.await.is_err(), "it takes longer");
    assert_eq!((machine.preparing(), machine.tasks().len()), (0, 0));
    assert_eq!(*latest.borrow(), "pulling large: 90 of 600 s");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_answers_late_and_one_that_is_down_says_no_and_may_have_started_the_task() {
    let machine = machine();
    let engine = machine.engine();
    machine.set_mood(Mood::Hangs);
    let late = tokio::time::timeout(Duration::from_secs(60), engine.adopt(NodeId::from_bits(1)));
    assert!(late.await.is_err(), "it hangs");
    machine.set_mood(Mood::Down);
    assert!(matches!(engine.adopt(NodeId::from_bits(1)).await, Err(EngineError::Absent(_))));
    machine.set_mood(Mood::Well);
    let task = TaskId::from_bits(1);
    machine.set_delays(Duration::ZERO, Duration::from_secs(2));
    engine.prepare(&run(1, "web"), &Payloads::new(), &Progress::unheard()).await.unwrap();
    for (goes_down_after, runs) in [(500, false), (1_500, true)] {
        let (started, ()) = tokio::join!(engine.start(task), async {
            tokio::time::sleep(Duration::from_millis(goes_down_after)).await;
            machine.set_mood(Mood::Down);
        });
        assert!(started.as_ref().is_err_and(EngineError::is_silence), "{started:?}");
        assert_eq!(machine.running().len(), usize::from(runs));
        machine.set_mood(Mood::Well);
    }
    assert!(engine.start(task).await.is_ok());
    assert_eq!(machine.starts(), 1);
    assert_eq!(machine.forget(7), Some(task));
    assert_eq!(engine.phase(task).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_as_a_whole_is_found_out_by_its_pings() {
    let machine = machine();
    let engine = machine.engine();
    let task = started(&engine, 1, "web").await;
    let mut seen = engine.observe(task);
    assert_eq!(seen.next().await, Some(Ok(Observation::Running)));
    tokio::time::sleep_until(machine.shared.born + Duration::from_secs(7)).await;
    machine.set_mood(Mood::HangsAsAWhole);
    let (answer, ()) = tokio::join!(engine.phase(task), engine.silence());
    assert!(matches!(answer, Err(EngineError::Hangs(_))), "{answer:?}");
    // The pings are at 5, 10, 15 … s, and each may take 5 s.
    assert_eq!(machine.shared.born.elapsed().as_secs(), 15);
    let told = seen.next().await;
    assert!(matches!(told, Some(Err(EngineError::Hangs(_)))), "{told:?}");
    machine.set_mood(Mood::Well);
    assert!(engine.phase(task).await.is_ok());
    machine.set_mood(Mood::Hangs);
    let late = tokio::time::timeout(Duration::from_secs(60), engine.silence());
    assert!(late.await.is_err(), "its pings are answered");
}

#[tokio::test(start_paused = true)]
async fn somebody_may_restart_the_container_of_a_task() {
    let machine = machine();
    let engine = machine.engine();
    assert_eq!(machine.restart_container(3), None, "there is none");
    let task = started(&engine, 1, "web").await;
    for _ in ["it runs", "it runs again"] {
        assert_eq!(machine.restart_container(3), Some(task));
        assert_eq!(engine.revived().await, task);
        assert_eq!((machine.running(), machine.revived()), (vec![task], BTreeSet::from([task])));
    }
    machine.exit(task, 0);
    assert_eq!((machine.running(), machine.revived()), (vec![], BTreeSet::new()));
    assert_eq!(machine.restart_container(3), Some(task), "it has ended");
    // An engine that is made later does not know who started the container.
    let later = machine.engine();
    assert!(tokio::time::timeout(Duration::from_secs(60), later.revived()).await.is_err());
    machine.set_mood(Mood::Hangs);
    assert_eq!(machine.restart_container(3), None, "the engine does not answer");
}

#[tokio::test(start_paused = true)]
async fn images_crash_once_stall_are_slow_to_start_and_change_their_health() {
    let machine = machine();
    let engine = machine.engine();
    let second = Duration::from_secs(1);
    machine.behave("once", Behaviour::ExitsOnce { after: second, code: 3 });
    machine.behave("large", Behaviour::OutOfMemory(second));
    machine.behave("stalls", Behaviour::PullStalls { takes: 4 * second, stalls: 60 * second });
    machine.behave("late", Behaviour::StartTakes(20 * second));
    machine.behave(
        "weak",
        Behaviour::Health(vec![
            (second, Health::Healthy),
            (2 * second, Health::Unhealthy),
            (3 * second, Health::Healthy),
        ]),
    );
    machine.behave("refused", Behaviour::RegistryFails { after: second, words: "pull access denied".into() });
    let once = started(&engine, 1, "once").await;
    assert_eq!(exit_of(&machine, once).await, Exit::Code(3));
    let again = started(&engine, 2, "once").await;
    let large = started(&engine, 3, "large").await;
    assert_eq!(exit_of(&machine, large).await.code(), Some(137));
    let begun = Instant::now();
    started(&engine, 4, "stalls").await;
    assert_eq!(begun.elapsed().as_secs(), 64);
    started(&engine, 5, "late").await;
    assert_eq!(begun.elapsed().as_secs(), 84);
    assert!(machine.running().contains(&again), "later tasks of the image go on");
    let weak = started(&engine, 6, "weak").await;
    let seen: Vec<_> = engine.observe(weak).take(4).map(Result::unwrap).collect().await;
    assert_eq!(seen, [Observation::Running, Observation::Healthy, Observation::Unhealthy, Observation::Healthy]);
    let refused = engine.prepare(&run(7, "refused"), &Payloads::new(), &Progress::unheard()).await;
    assert_eq!(refused, Err(EngineError::Rejected("No such image: refused (pull access denied)".into())));
}

#[tokio::test(start_paused = true)]
async fn a_program_repeats_what_it_is_sent_after_the_id_of_its_task() {
    let machine = machine();
    let engine = machine.engine();
    let task = started(&engine, 1, "web").await;
    let mut stream = engine.interactive().expect("it connects").dial(task, 80).await.unwrap();
    stream.write_all(b"header").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, [&1_u128.to_be_bytes()[..], b"header"].concat());
}

#[tokio::test(start_paused = true)]
async fn a_datagram_is_answered_to_its_client_by_the_id_of_the_task_while_it_runs() {
    let (machine, sockets) = (machine(), SimSockets::default());
    let engine = machine.engine();
    let task = started(&engine, 1, "web").await;
    let packets = engine.interactive().expect("it connects").dial_udp(task, 53).await.unwrap();
    let socket = sockets.bind("198.18.0.9:53".parse().unwrap()).unwrap();
    assert!(sockets.bind("198.18.0.9:53".parse().unwrap()).is_err(), "it is taken");
    let address = "198.18.0.1:7".parse().unwrap();
    let mut client = sockets.client(address).expect("the address is free");
    assert!(sockets.client(address).is_none(), "it is taken");
    client.send(53, b"who?");
    client.send(54, b"nobody listens there");
    let mut bytes = [0; 64];
    let from = std::future::poll_fn(|cx| {
        let mut buffer = ReadBuf::new(&mut bytes);
        socket.poll_recv_from(cx, &mut buffer)
    });
    assert_eq!(from.await.unwrap(), address);
    packets.try_send(b"who?").unwrap();
    let answer = packets.recv().await.unwrap();
    socket.try_send_to(&answer, address).unwrap();
    assert_eq!(*client.recv().await, 1_u128.to_be_bytes());
    machine.exit(task, 0);
    assert!(packets.try_send(b"who?").is_err(), "nobody listens any more");
}

#[tokio::test(start_paused = true)]
async fn the_docker_engine_gives_a_port_of_its_machine_to_one_task_and_chooses_those_without_a_number() {
    let machine = machine();
    machine.set_kind(EngineKind::Docker);
    let engine = machine.engine();
    let start = async |bits, published| {
        let mut run = run(bits, "web");
        let (protocol, mode) = (PortProtocol::Udp, PublishMode::Host);
        run.ports.push(PortConfig { name: String::new(), protocol, target: 53, published, mode });
        engine.prepare(&run, &Payloads::new(), &Progress::unheard()).await.unwrap();
        engine.start(run.task).await
    };
    start(1, 0).await.unwrap();
    start(2, 0).await.unwrap();
    start(3, 9_000).await.unwrap();
    let again = start(4, 9_000).await;
    assert_eq!(again, Err(EngineError::Failed("port 9000 is already allocated".into())));
    let ports: Vec<_> = machine.published().into_iter().map(|(key, task)| (key.number, task.bits())).collect();
    assert_eq!(ports, [(32_768, 1), (32_769, 2), (9_000, 3)]);
    let shown = engine.host_ports(TaskId::from_bits(2)).await.unwrap();
    assert_eq!(shown[0].published, 32_769);
}
