//! A `lions run` at work that a test watches and disturbs.

use crate::project::Project;
use rusqlite::{Connection, params};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than anything takes here on a machine that has much else to do.
const LONG: Duration = Duration::from_mins(3);

/// Writes `sweeps/NAME.toml`: SFT of so many steps, each a few milliseconds, and a small evaluation;
/// `rest` are further lines of the file.
pub(crate) fn write_sweep(project: &Project, name: &str, steps: u32, rest: &str) {
    let table = crate::tiny::table(&["tales/loss"]);
    project.write(
        format!("sweeps/{name}.toml"),
        format!(
            r#"extends = ["tiny.toml"]
[sweep]
name = "{name}"
question = "Does it come to its end?"
seeds = [1]
[base.sft.recipe]
max-seq-len = 64
batch = {{ tokens = 64 }}
duration = {{ steps = {steps} }}
{rest}
{table}"#
        ),
    );
}

/// The words that run such a sweep alone and tell of it in JSON; further ones may follow.
pub(crate) fn run_words(file: &str) -> [&str; 5] {
    ["run", file, "--jobs", "1", "--json"]
}

/// See the module. It ends with the value.
pub(crate) struct Driver {
    child: Child,
    events: Receiver<Value>,
    seen: Vec<Value>,
    stderr: Option<JoinHandle<String>>,
    /// Attempts that stand still: they would outlive a test that fails.
    stopped: Vec<String>,
}

/// How a driver ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) err: String,
    /// Everything that it told.
    pub(crate) events: Vec<Value>,
}

impl Ended {
    /// What the sweep had come to.
    pub(crate) fn summary(&self) -> &Value {
        let last = self.events.last().unwrap();
        assert_eq!(last["kind"], "sweep-finished", "{self:?}");
        &last["summary"]
    }
}

impl Driver {
    /// Starts a command that ends in `lions run … --json`.
    pub(crate) fn start(command: &mut Command) -> Self {
        let (out, err) = (Stdio::piped(), Stdio::piped());
        let mut child = command.stdout(out).stderr(err).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (tell, events) = channel();
        std::thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            for event in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
                drop(tell.send(event)); // a test that has enough has gone
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            drop(stderr.read_to_string(&mut text));
            text
        });
        Self {
            child,
            events,
            seen: Vec::new(),
            stderr: Some(stderr),
            stopped: Vec::new(),
        }
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// Waits for the next event of a kind.
    pub(crate) fn wait(&mut self, kind: &str) -> Value {
        loop {
            let event: Value = match self.events.recv_timeout(LONG) {
                Ok(event) => event,
                Err(error) => panic!("no `{kind}` ({error}) after {:#?}", self.seen),
            };
            self.seen.push(event.clone());
            if event["kind"] == kind {
                return event;
            }
        }
    }

    /// Lets an attempt stand still.
    pub(crate) fn stop(&mut self, attempt: &str) {
        signal("STOP", attempt);
        self.stopped.push(attempt.to_owned());
    }

    /// Lets an attempt that stands still go on.
    pub(crate) fn go_on(&mut self, attempt: &str) {
        signal("CONT", attempt);
        self.stopped.retain(|stopped| stopped != attempt);
    }

    /// Waits until it has ended by itself.
    pub(crate) fn end(mut self) -> Ended {
        loop {
            match self.events.recv_timeout(LONG) {
                Ok(event) => self.seen.push(event),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("no end after {:#?}", self.seen),
            }
        }
        Ended {
            code: self.child.wait().unwrap().code(),
            err: self.stderr.take().unwrap().join().unwrap(),
            events: std::mem::take(&mut self.seen),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            self.stopped.iter().for_each(|pid| signal("KILL", pid));
        }
    }
}

/// Sends a signal to a process, which may have ended.
pub(crate) fn signal(name: &str, pid: &str) {
    // The shell's own: a slim system has no program of that name.
    let mut shell = Command::new("sh");
    let sent = shell.args(["-c", "kill -\"$0\" \"$1\"", name, pid]);
    let sent = sent.stderr(Stdio::null()).status();
    assert!(sent.is_ok(), "no shell");
}

/// The process of the attempt that a `run-started` event tells of.
pub(crate) fn process_of(project: &Project, started: &Value) -> String {
    let sql = "SELECT handle FROM attempt JOIN run ON run.id = attempt.run
        WHERE run.run_id = ?1 AND attempt.number = ?2";
    let (run, attempt) = (started["run"].as_str(), started["attempt"].as_u64());
    let handle: String = database(project)
        .query_row(sql, params![run, attempt.map(u64::cast_signed)], |row| {
            row.get(0)
        })
        .unwrap();
    let number = handle.split(':').nth(1); // local:NUMBER:START
    number.unwrap().to_owned()
}

/// The project's database, as a person would open it.
pub(crate) fn database(project: &Project) -> Connection {
    Connection::open(project.path("results/lions.db")).unwrap()
}

/// State and class of every attempt at the runs of a stage, in order.
pub(crate) fn attempts(project: &Project, stage: &str) -> Vec<(String, Option<String>)> {
    let sql = "SELECT attempt.state, attempt.class FROM attempt JOIN run ON run.id = attempt.run
        WHERE run.kind = ?1 ORDER BY run.id, attempt.number";
    let store = database(project);
    let mut found = store.prepare(sql).unwrap();
    let rows = found.query_map([stage], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

/// Looks again and again until it is so.
pub(crate) fn wait_until(what: &str, is: impl Fn() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < LONG, "{what} never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}
