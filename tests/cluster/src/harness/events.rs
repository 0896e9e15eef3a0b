//! Docker's events, collected through the `essaim` command line while a test does something else.

use parking_lot::Mutex;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;

use serde_json::Value;

use super::{Daemon, essaim_command};

/// A listener for the events of one daemon.
pub struct Events {
    child: Child,
    heard: Arc<Mutex<Vec<Value>>>,
}

impl Events {
    /// Starts to collect the daemon's events.
    pub fn listen(daemon: &Daemon) -> Self {
        let mut child = essaim_command()
            .arg("--host")
            .arg(format!("unix://{}", daemon.socket.display()))
            .args(["events", "--format", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stdout.take().expect("its output was asked for")).lines();
        let keep = Arc::clone(&heard);
        std::thread::spawn(move || {
            for event in lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok()) {
                keep.lock().push(event);
            }
        });
        Self { child, heard }
    }

    /// All events so far, in order.
    pub fn heard(&self) -> Vec<Value> {
        self.heard.lock().clone()
    }

    /// The names of the nodes that were reported as down.
    pub fn reported_down(&self) -> Vec<String> {
        let heard = self.heard();
        let down =
            heard.iter().filter(|event| event["Type"] == "node" && event["Actor"]["Attributes"]["state.new"] == "down");
        down.map(|event| event["Actor"]["Attributes"]["name"].as_str().unwrap_or("").to_owned()).collect()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
