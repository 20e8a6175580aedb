//! A command of the user's that is told something.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A command that takes longer is ended.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs a shell command with `input` on its standard input and waits for its end, a minute at most.
///
/// # Errors
/// It cannot be started, ends with another code than 0, or was ended.
pub fn tell_command(command: &str, input: &str) -> io::Result<()> {
    tell_within(PATIENCE, command, input)
}

fn tell_within(patience: Duration, command: &str, input: &str) -> io::Result<()> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_owned();
        // One that does not read it goes or is ended, which is its own affair; a pipe does not hold all of it.
        std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    }
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return if status.success() {
                Ok(())
            } else {
                Err(io::Error::other(status.to_string()))
            };
        }
        if begin.elapsed() > patience {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_what_it_is_told_and_its_failure_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let heard = folder.path().join("heard");
        tell_command(&format!("cat > '{}'", heard.display()), "{\"a\": 1}").unwrap();
        assert_eq!(std::fs::read_to_string(&heard).unwrap(), "{\"a\": 1}");
        // More than a pipe holds, to one that does not read.
        let error = tell_command("exit 3", &"x".repeat(1 << 20)).unwrap_err();
        assert!(error.to_string().contains('3'), "{error}");
        let soon = Duration::from_millis(200);
        let error = tell_within(soon, "exec sleep 600", &"x".repeat(1 << 20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
