//! A chat endpoint asked many questions at once, each until its answer can be read.

use crate::base::{Digest, digest_bytes};
use crate::config::spec::JudgeRuntime;
use crate::judge::answers::{Answer, Answers};
use crate::judge::endpoint::{Endpoint, NoResponse};
use crate::judge::error::JudgeError;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// How often progress is told while no answer comes.
const TELL: Duration = Duration::from_millis(200);

/// Asks an endpoint, keeps every raw answer in a file, and does not ask what is answered there.
#[derive(Debug)]
pub struct Asker {
    asks: u32,
    threads: usize,
    seed: Option<u64>,
    endpoint: Endpoint,
    answers: Answers,
}

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    /// The item that needs it first.
    pub(super) item: String,
    /// Digest of address and body.
    pub(super) request: Digest,
    /// The body of the request that asks it for the first time.
    pub(super) body: Value,
}

impl Asker {
    /// Asks the endpoint below `base_url`. With a `seed`, each further time that a question is asked sends one more.
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// The file of answers cannot be used.
    pub fn open(
        base_url: &str,
        seed: Option<u64>,
        runtime: &JudgeRuntime,
        answers: &Path,
        key: Option<&str>,
    ) -> Result<Self, JudgeError> {
        Ok(Self {
            asks: runtime.asks(),
            threads: runtime.concurrency(),
            seed,
            endpoint: Endpoint::new(base_url, runtime, key),
            answers: Answers::open(answers)?,
        })
    }

    /// The same with another way to wait between requests.
    #[cfg(test)]
    pub(super) fn waiting(mut self, wait: crate::judge::endpoint::Wait) -> Self {
        self.endpoint = self.endpoint.waiting(wait);
        self
    }

    /// The question that `body` asks about `item`.
    pub fn question(&self, item: &str, body: Value) -> Question {
        let whole = format!("{}\n{body}", self.endpoint.url());
        Question {
            item: item.to_owned(),
            request: digest_bytes(whole.as_bytes()),
            body,
        }
    }

    /// What `read` makes of the answer to a question: of one that is known, or asked for. `read` says what is wrong with
    /// an answer that it cannot use; then the question is asked again, as often as the runtime allows.
    fn answer<V>(
        &self,
        question: &Question,
        read: &(dyn Fn(&str) -> Result<V, String> + Sync),
        stop: &AtomicBool,
    ) -> Result<V, JudgeError> {
        let mut problem = String::new();
        let known = self.answers.known(&question.request);
        for response in known {
            match read(response) {
                Ok(found) => return Ok(found),
                Err(why) => problem = why,
            }
        }
        // Every process has the whole budget, so that a judge that was mended can be asked again; and
        // counts on, so that a seed is not sent twice.
        let asked = u32::try_from(known.len()).unwrap_or(u32::MAX);
        let budget = asked.saturating_add(self.asks);
        for attempt in asked..budget {
            let mut body = question.body.clone();
            if let Some(seed) = self.seed {
                body["seed"] = json!(seed.wrapping_add(u64::from(attempt)));
            }
            let record = |status: u16, response: &str| {
                self.answers.add(&Answer {
                    request: question.request.clone(),
                    item: question.item.clone(),
                    attempt: attempt + 1,
                    status,
                    response: response.to_owned(),
                })
            };
            let response = self.endpoint.ask(&body.to_string(), stop, record)?;
            let response = response.map_err(|none| match none {
                NoResponse::Stopped => JudgeError::Stopped,
                NoResponse::Failed(problem) => JudgeError::Endpoint {
                    url: self.endpoint.url().to_owned(),
                    id: question.item.clone(),
                    problem,
                },
            })?;
            match read(&response) {
                Ok(found) => return Ok(found),
                Err(why) => problem = why,
            }
        }
        Err(JudgeError::NoVerdict {
            id: question.item.clone(),
            asks: budget as usize,
            problem,
            answers: self.answers.path().to_owned(),
        })
    }

    /// What `read` makes of the answer to each question. `told` is told the place of each question that got its answer,
    /// and, while none does, nothing; `false` asks to stop. The first error stops all threads; requests under way are
    /// waited for, as their answers are kept.
    ///
    /// # Errors
    /// The endpoint gives no answer, or none that can be read; `told` asked to stop; the file of answers cannot be
    /// written.
    pub fn ask<V: Send>(
        &self,
        questions: &[Question],
        read: &(dyn Fn(&str) -> Result<V, String> + Sync),
        told: &mut dyn FnMut(Option<usize>) -> bool,
    ) -> Result<Vec<V>, JudgeError> {
        let stop = AtomicBool::new(false);
        let next = AtomicUsize::new(0);
        let work = |send: Sender<(usize, Result<V, JudgeError>)>| {
            while !stop.load(Ordering::SeqCst) {
                let index = next.fetch_add(1, Ordering::SeqCst);
                let Some(question) = questions.get(index) else {
                    return;
                };
                let answer = self.answer(question, read, &stop);
                let failed = answer.is_err();
                if send.send((index, answer)).is_err() {
                    return;
                }
                // Here, not where it is received, so that this thread pays for no further question;
                // after it was sent, so that it comes before what the others say of being stopped.
                if failed {
                    stop.store(true, Ordering::SeqCst);
                }
            }
        };
        let mut found: Vec<Option<V>> = questions.iter().map(|_| None).collect();
        let mut outcome = Ok(());
        thread::scope(|scope| {
            let (send, receive) = channel();
            for _ in 0..self.threads.min(questions.len()) {
                let (work, send) = (&work, send.clone());
                scope.spawn(move || work(send));
            }
            drop(send);
            loop {
                let go_on = match receive.recv_timeout(TELL) {
                    Ok((index, Ok(verdict))) => {
                        found[index] = Some(verdict);
                        told(Some(index))
                    }
                    Ok((_, Err(error))) => {
                        outcome = std::mem::replace(&mut outcome, Ok(())).and(Err(error));
                        false
                    }
                    Err(RecvTimeoutError::Timeout) => told(None),
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                if !go_on {
                    stop.store(true, Ordering::SeqCst);
                    outcome = std::mem::replace(&mut outcome, Ok(())).and(Err(JudgeError::Stopped));
                }
            }
        });
        outcome?;
        // Without an error every question has its answer.
        found
            .into_iter()
            .collect::<Option<_>>()
            .ok_or(JudgeError::Stopped)
    }
}
