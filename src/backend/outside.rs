//! Commands of other programs, whose answers are waited for.

use crate::base::quoted;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A command that has not answered after so long is ended: schedulers try again by themselves for about as long.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Runs a command and answers what it printed.
///
/// # Errors
/// It cannot be started, failed or did not answer in time; what it said.
pub(crate) fn ask(prefix: &[String], words: &[String]) -> Result<String, String> {
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
            Ok(None) if begun.elapsed() < PATIENCE => std::thread::sleep(LOOK),
            Ok(None) => {
                drop(child.kill());
                drop(child.wait());
                return Err(format!(
                    "`{program}` did not answer for {} s",
                    PATIENCE.as_secs()
                ));
            }
            Err(error) => return Err(format!("cannot wait for `{program}`: {error}")),
        }
    };
    let text = |thread: Option<JoinHandle<String>>| {
        thread
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default()
    };
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

fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(from.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_word_is_quoted_for_a_shell() {
        for word in ["a b", "it's", "", "%A|%F", "$HOME", "plain-1"] {
            let line = format!("printf %s {}", quoted(word));
            assert_eq!(ask(&[], &words(&["sh", "-c", &line])), Ok(word.to_owned()));
        }
        assert_eq!(quoted("--mem=4G"), "--mem=4G");
    }
}
