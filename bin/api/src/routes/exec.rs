//! Essaim's own route to execute a program inside a task, on whichever node the task runs.
//!
//! A refusal and a program that could not be started are answered at once; otherwise the connection is upgraded, and
//! carries the frames of `essaim_docker::exec`. When the client goes away the lane to the node ends, and the node hangs
//! the program up.

use crate::face::Face;
use crate::reply::{Answer, Refused};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::{Buf, BytesMut};
use essaim_docker::exec::{ExecAsked, Frame, PROTOCOL, target};
use essaim_manager::control::{Executing, Execution};
use essaim_model::Refusal;
use essaim_protocol::{ExecEnd, ExecRequest, FromExec, LogStream, TerminalSize, ToExec};
use essaim_transport::{FrameReceiver, FrameSender};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes that the request's body may have.
const BODY_LEN_MAX: usize = 128 << 10;

/// Exit code of the client's command when the node lost the program, as that of docker's for errors of the daemon.
const FAILED: i32 = 1;

pub(super) async fn execute(State(face): State<Face>, mut request: Request) -> Answer {
    let upgrade = hyper::upgrade::on(&mut request);
    let wants = request.headers().get(header::UPGRADE).and_then(|name| name.to_str().ok());
    if !wants.is_some_and(|name| name.eq_ignore_ascii_case(PROTOCOL)) {
        return Err(Refusal::invalid(format!("the request must ask for an upgrade to {PROTOCOL}")).into());
    }
    let body = axum::body::to_bytes(request.into_body(), BODY_LEN_MAX).await;
    let body = body.map_err(|why| Refused::from(Refusal::invalid(format!("the request's body: {why}"))))?;
    let asked: ExecAsked =
        serde_json::from_slice(&body).map_err(|why| Refused::from(Refusal::invalid(format!("invalid JSON: {why}"))))?;
    let state = face.read().await?;
    let task = std::sync::Arc::clone(target(&state, &asked.target)?);
    let request = read(asked, task.id)?;
    let executing = face.control()?.exec(&task, &request).await?;
    tokio::spawn(async move {
        // The client went away during the upgrade: dropping the execution hangs the program up.
        let Ok(upgraded) = upgrade.await else { return };
        let (from, mut to) = tokio::io::split(TokioIo::new(upgraded));
        match executing {
            Executing::Started(Execution { send, recv }) => {
                tokio::select! {
                    () = tell(recv, &mut to) => (),
                    () = hear(from, send) => (),
                }
            }
            Executing::Not(end) => drop(to.write_all(&frame_of(end).encode()).await),
        }
        // The client may have gone.
        let _ = to.shutdown().await;
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    Ok(response)
}

fn read(asked: ExecAsked, task: essaim_model::TaskId) -> Result<ExecRequest, Refused> {
    let ExecAsked { target: _, command, env, working_dir, user, tty, input, rows, columns } = asked;
    if command.is_empty() {
        return Err(Refusal::invalid("No exec command specified").into());
    }
    let pair = |text: String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Refused::from(Refusal::invalid(format!("invalid environment variable: {text:?}")))),
    };
    let env = env.into_iter().map(pair).collect::<Result<Vec<_>, _>>()?;
    let some = |text: String| (!text.is_empty()).then_some(text);
    let size = (rows > 0 && columns > 0).then_some(TerminalSize { rows, columns });
    Ok(ExecRequest { task, command, env, dir: some(working_dir), user: some(user), tty, input, size })
}

/// Passes what the program writes on to the client, until the program has ended or the node is lost.
async fn tell(mut recv: FrameReceiver, to: &mut (impl AsyncWrite + Unpin)) {
    loop {
        let frame = match recv.expect_value::<FromExec>().await {
            Ok(FromExec::Started) => continue,
            Ok(FromExec::Output(LogStream::Stdout, bytes)) => Frame::Stdout(bytes),
            Ok(FromExec::Output(LogStream::Stderr, bytes)) => Frame::Stderr(bytes),
            Ok(FromExec::End(end)) => frame_of(end),
            Err(why) => Frame::End(FAILED, format!("the connection to the node of the task broke off: {why}")),
        };
        let last = matches!(frame, Frame::End(..));
        if to.write_all(&frame.encode()).await.is_err() || to.flush().await.is_err() || last {
            return;
        }
    }
}

/// Passes what the client sends on to the node, until the client goes away.
async fn hear(mut from: impl AsyncRead + Unpin, mut send: FrameSender) {
    let mut bytes = BytesMut::new();
    loop {
        loop {
            // A client that does not speak the protocol is as good as gone.
            let Ok(found) = Frame::decode(&bytes) else { return };
            let Some((frame, len)) = found else { break };
            bytes.advance(len);
            let said = match frame {
                Frame::Input(input) => ToExec::Input(input),
                Frame::InputEnd => ToExec::InputEnd,
                Frame::Resize(rows, columns) => ToExec::Resize(TerminalSize { rows, columns }),
                Frame::Signal(number) => ToExec::Signal(number),
                Frame::Stdout(_) | Frame::Stderr(_) | Frame::End(..) => return,
            };
            if send.send_value(&said).await.is_err() {
                // The node is lost, which the other direction tells the client.
                return std::future::pending().await;
            }
        }
        match from.read_buf(&mut bytes).await {
            Ok(read) if read > 0 => (),
            _ => return,
        }
    }
}

fn frame_of(end: ExecEnd) -> Frame {
    match end {
        ExecEnd::Exited(code) => Frame::End(code, String::new()),
        ExecEnd::NotStarted(code, why) => Frame::End(code, why),
        ExecEnd::Failed(why) => Frame::End(FAILED, why),
    }
}
