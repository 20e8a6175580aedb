//! Commands of other programs, whose answers are waited for.

use crate::base::quoted;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A command that has not answered after so long is ended: schedulers try again by themselves for about as long.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// What it printed is read for so long after its end: something that it left behind may hold its output open.
const REST: Duration = Duration::from_secs(2);
/// More than this is no answer: a thousand lines of a queue are a tenth of it.
const MOST_BYTES: usize = 16 << 20;

/// Runs a command and answers what it printed.
///
/// # Errors
/// It cannot be started, failed or did not answer in time; what it said.
pub(crate) fn ask(prefix: &[String], words: &[String]) -> Result<String, String> {
    ask_for(PATIENCE, prefix, words)
}

/// Whether an answer of [`ask`] is that none came in time.
pub(crate) fn is_silence(why: &str) -> bool {
    why.contains(SILENCE)
}

const SILENCE: &str = "did not answer for";

fn ask_for(patience: Duration, prefix: &[String], words: &[String]) -> Result<String, String> {
    let remote = prefix
        .first()
        .is_some_and(|word| word == "ssh" || word.ends_with("/ssh"));
    // The shell at the other end splits what it is given.
    let words = words
        .iter()
        .map(|word| if remote { quoted(word) } else { word.clone() });
    let all: Vec<String> = prefix.iter().cloned().chain(words).collect();
    let Some((program, rest)) = all.split_first() else {
        return Err("no command is given".to_owned());
    };
    let mut command = Command::new(program);
    command.args(rest).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = command.spawn();
    let mut child = started.map_err(|error| format!("cannot start `{program}`: {error}"))?;
    let out = child.stdout.take().map(read_all);
    let err = child.stderr.take().map(read_all);
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < patience => std::thread::sleep(LOOK),
            Ok(None) => {
                drop(child.kill());
                drop(child.wait());
                return Err(format!("`{program}` {SILENCE} {} s", patience.as_secs()));
            }
            Err(error) => return Err(format!("cannot wait for `{program}`: {error}")),
        }
    };
    let text = |heard: Option<Heard>| heard.map(Heard::text).unwrap_or_default();
    let (out, err) = (text(out), text(err));
    if status.success() {
        return Ok(out);
    }
    let said = err.trim();
    let said = if said.is_empty() { out.trim() } else { said };
    let said = said.replace('\n', "; ");
    Err(if said.is_empty() {
        format!("`{program}` failed: {status}")
    } else {
        said
    })
}

/// What a command prints, as a thread reads it.
struct Heard {
    bytes: Arc<Mutex<Vec<u8>>>,
    over: Receiver<()>,
}

impl Heard {
    /// All of it, or what there is of it after [`REST`].
    fn text(self) -> String {
        // A sender that is gone says the same as one that says so.
        let _ = self.over.recv_timeout(REST);
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn read_all(mut from: impl Read + Send + 'static) -> Heard {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let (tell, over) = channel();
    let kept = Arc::clone(&bytes);
    std::thread::spawn(move || {
        let mut some = vec![0_u8; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut some) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            // What is not kept is read all the same: the command must not wait for it.
            let room = MOST_BYTES.saturating_sub(kept.len()).min(count);
            kept.extend_from_slice(some.get(..room).unwrap_or_default());
        }
        // Nobody may be there to hear it any more.
        let _ = tell.send(());
    });
    Heard { bytes, over }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_command_answers_with_what_it_printed_or_what_it_complained_of() {
        assert_eq!(ask(&[], &words(&["echo", "a b"])), Ok("a b\n".to_owned()));
        let failed = ask(
            &[],
            &words(&["sh", "-c", "echo no >&2; echo way >&2; exit 3"]),
        );
        assert_eq!(failed, Err("no; way".to_owned()));
        let none = ask(&[], &words(&["/no/such/program"])).unwrap_err();
        assert!(
            none.starts_with("cannot start `/no/such/program`"),
            "{none}"
        );
        assert!(ask(&[], &[]).is_err());
    }

    #[test]
    fn a_command_that_hangs_or_never_stops_printing_is_ended() {
        let soon = Duration::from_millis(200);
        for script in ["exec sleep 600", "exec yes"] {
            let why = ask_for(soon, &[], &words(&["sh", "-c", script])).unwrap_err();
            assert!(is_silence(&why), "{script}: {why}");
        }
        let many = "head -c 50000000 /dev/zero";
        let kept = ask(&[], &words(&["sh", "-c", many])).unwrap();
        assert_eq!(kept.len(), MOST_BYTES);
    }

    // As `submit = ["sh", "-c", "{script} & echo $!"]` does.
    #[test]
    fn a_command_that_leaves_something_behind_is_not_waited_for() {
        let said = ask(&[], &words(&["sh", "-c", "sleep 600 & echo $!"])).unwrap();
        let left = Pid::from_raw(said.trim().parse().unwrap());
        // It is still there.
        kill(left, Signal::SIGKILL).unwrap();
    }

    #[test]
    fn a_word_is_quoted_for_a_shell() {
        for word in ["a b", "it's", "", "%A|%F", "$HOME", "plain-1"] {
            let line = format!("printf %s {}", quoted(word));
            assert_eq!(ask(&[], &words(&["sh", "-c", &line])), Ok(word.to_owned()));
        }
        assert_eq!(quoted("--mem=4G"), "--mem=4G");
    }
}
