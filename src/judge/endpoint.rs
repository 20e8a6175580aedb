//! One chat endpoint over HTTP: a request until it is answered.

use crate::config::spec::JudgeRuntime;
use crate::judge::answers::is_success;
use crate::judge::verdict::excerpt;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Wait before the first repeat; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// No wait of our own is longer.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// An endpoint that asks for a longer wait is given up.
const LONGEST_ASKED_WAIT: Duration = Duration::from_mins(10);
/// How often a wait looks whether someone asked to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Waits so long, or until the flag is set.
pub(super) type Wait = Box<dyn Fn(Duration, &AtomicBool) + Send + Sync>;

/// Where requests go.
pub(super) struct Endpoint {
    agent: ureq::Agent,
    url: String,
    key: Option<String>,
    retries: u32,
    timeout_secs: u64,
    wait: Wait,
}

/// Why there is no response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoResponse {
    /// What was said at last.
    Failed(String),
    /// Someone asked to stop.
    Stopped,
}

/// One try.
enum Tried {
    Answered(String),
    /// May go better later, at the soonest after the given time.
    Later(String, Option<Duration>),
    Refused(String),
}

impl fmt::Debug for Endpoint {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Endpoint");
        shown
            .field("url", &self.url)
            .field("retries", &self.retries);
        shown.finish_non_exhaustive()
    }
}

impl Endpoint {
    /// An endpoint below `base_url`; nothing is sent yet.
    pub(super) fn new(base_url: &str, runtime: &JudgeRuntime, key: Option<&str>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A redirect would turn the question into a GET; it is shown instead.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(runtime.timeout_secs())))
            .max_idle_connections_per_host(runtime.concurrency())
            .build();
        Self {
            agent: config.into(),
            url: format!("{}/chat/completions", base_url.trim_end_matches('/')),
            key: key.map(str::to_owned),
            retries: runtime.retries(),
            timeout_secs: runtime.timeout_secs(),
            wait: Box::new(sleep),
        }
    }

    /// The same with another way to wait.
    #[cfg(test)]
    pub(super) fn waiting(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// The address that requests go to.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Sends `body` until it is answered, at most `retries` times more. `saw` is told every status and
    /// response.
    pub(super) fn ask<E>(
        &self,
        body: &str,
        stop: &AtomicBool,
        mut saw: impl FnMut(u16, &str) -> Result<(), E>,
    ) -> Result<Result<String, NoResponse>, E> {
        let mut repeats = 0;
        loop {
            if stop.load(Ordering::SeqCst) {
                return Ok(Err(NoResponse::Stopped));
            }
            let (problem, asked) = match self.send(body, &mut saw)? {
                Tried::Answered(response) => return Ok(Ok(response)),
                Tried::Refused(problem) => return Ok(Err(NoResponse::Failed(problem))),
                Tried::Later(problem, asked) => (problem, asked),
            };
            if repeats == self.retries {
                let tries = repeats + 1;
                let problem = format!("{problem} ({tries} tries)");
                return Ok(Err(NoResponse::Failed(problem)));
            }
            let own = FIRST_WAIT.saturating_mul(1 << repeats.min(6));
            let wait = own.min(LONGEST_WAIT).max(asked.unwrap_or_default());
            if wait > LONGEST_ASKED_WAIT {
                let problem = format!("{problem}; it asks to wait {} s", wait.as_secs());
                return Ok(Err(NoResponse::Failed(problem)));
            }
            tracing::debug!(%problem, wait_secs = wait.as_secs(), "asking the endpoint again");
            (self.wait)(wait, stop);
            repeats += 1;
        }
    }

    /// Some servers repeat a key that they refuse; what they said is stored and shown.
    fn without_key(&self, text: String) -> String {
        match self.key.as_deref().filter(|key| !key.is_empty()) {
            Some(key) if text.contains(key) => text.replace(key, STRUCK_OUT),
            _ => text,
        }
    }

    fn not_answered(&self, error: &ureq::Error) -> Tried {
        let problem = error.to_string();
        match error {
            ureq::Error::Timeout(_) => {
                let problem = no_answer_within(self.timeout_secs);
                Tried::Later(format!("{problem}, its `timeout-secs`"), None)
            }
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::BodyExceedsLimit(_) => {
                Tried::Refused(problem)
            }
            _ => Tried::Later(problem, None),
        }
    }

    fn send<E>(
        &self,
        body: &str,
        saw: &mut impl FnMut(u16, &str) -> Result<(), E>,
    ) -> Result<Tried, E> {
        let mut request = self
            .agent
            .post(&self.url)
            .header("Content-Type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(error) => return Ok(self.not_answered(&error)),
        };
        let status = response.status().as_u16();
        let asked = response.headers().get("Retry-After");
        let asked = asked.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let text = match response.body_mut().read_to_string() {
            Ok(text) => self.without_key(text),
            Err(error) => return Ok(self.not_answered(&error)),
        };
        saw(status, &text)?;
        if is_success(status) {
            return Ok(Tried::Answered(text));
        }
        let problem = format!("HTTP {status}: `{}`", excerpt(&text));
        Ok(match status {
            408 | 429 | 500..600 => Tried::Later(problem, asked.map(Duration::from_secs)),
            _ => Tried::Refused(problem),
        })
    }
}

/// What stands for the key in a response that repeats it.
const STRUCK_OUT: &str = "[key]";

/// What is said where no answer came in time.
pub(super) fn no_answer_within(secs: u64) -> String {
    format!("no answer within {secs} s")
}

fn sleep(time: Duration, stop: &AtomicBool) {
    let end = Instant::now() + time;
    while !stop.load(Ordering::SeqCst) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(LOOK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_someone_asks_to_stop() {
        let begin = Instant::now();
        sleep(Duration::from_mins(1), &AtomicBool::new(true));
        sleep(Duration::from_millis(60), &AtomicBool::new(false));
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(60) && took < Duration::from_secs(30));
    }

    #[test]
    fn the_key_is_not_shown() {
        let runtime = JudgeRuntime::default();
        let endpoint = Endpoint::new("http://h/v1/", &runtime, Some("hush"));
        assert_eq!(endpoint.url(), "http://h/v1/chat/completions");
        assert!(!format!("{endpoint:?}").contains("hush"));
    }
}
