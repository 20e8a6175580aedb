//! A model behind a chat endpoint as judge.

use crate::base::{Digest, digest_bytes};
use crate::config::spec::{JudgeMode, JudgeRuntime, OpenaiJudge};
use crate::judge::answers::{Answer, Answers};
use crate::judge::candidates::Candidates;
use crate::judge::endpoint::{Endpoint, NoResponse};
use crate::judge::error::JudgeError;
use crate::judge::traits::Judge;
use crate::judge::verdict::{fill, request, template, verdict};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// How often progress is told while no answer comes.
const TELL: Duration = Duration::from_millis(200);

/// Asks an endpoint about every reply (`score`) or every two replies (`pairwise`).
#[derive(Debug)]
pub struct OpenaiJudgment {
    recipe: OpenaiJudge,
    asks: u32,
    threads: usize,
    endpoint: Endpoint,
    answers: Answers,
}

/// A question, asked once whoever needs it.
struct Question {
    /// The item that needs it first.
    item: String,
    request: Digest,
    body: Value,
    /// The verdicts that it gives: item and place.
    places: Vec<(usize, Place)>,
}

/// What a verdict is about.
#[derive(Clone, Copy)]
enum Place {
    /// The rating of a reply.
    Reply(usize),
    /// Reply A against reply B.
    Pair(usize, usize),
}

impl OpenaiJudgment {
    /// A judge that keeps raw answers in the file `answers` and does not ask what is answered there.
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// The file of answers cannot be used.
    pub fn open(
        recipe: &OpenaiJudge,
        runtime: &JudgeRuntime,
        answers: &Path,
        key: Option<&str>,
    ) -> Result<Self, JudgeError> {
        Ok(Self {
            recipe: recipe.clone(),
            asks: runtime.asks(),
            threads: runtime.concurrency(),
            endpoint: Endpoint::new(&recipe.base_url, runtime, key),
            answers: Answers::open(answers)?,
        })
    }

    /// The same with another way to wait between requests.
    #[cfg(test)]
    pub(super) fn waiting(mut self, wait: crate::judge::endpoint::Wait) -> Self {
        self.endpoint = self.endpoint.waiting(wait);
        self
    }

    /// Every question, once each, in the order of the items.
    fn questions(&self, items: &[Candidates]) -> Vec<Question> {
        let mut questions: Vec<Question> = Vec::new();
        let mut by_request: BTreeMap<Digest, usize> = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            let prompt = item.prompt_text();
            for place in places(self.recipe.mode, item) {
                let text = self.question(&prompt, item, place);
                let body = request(&self.recipe, &text);
                let whole = format!("{}\n{body}", self.endpoint.url());
                let request = digest_bytes(whole.as_bytes());
                let at = *by_request.entry(request.clone()).or_insert_with(|| {
                    questions.push(Question {
                        item: item.id.clone(),
                        request,
                        body,
                        places: Vec::new(),
                    });
                    questions.len() - 1
                });
                questions[at].places.push((index, place));
            }
        }
        questions
    }

    fn question(&self, prompt: &str, item: &Candidates, place: Place) -> String {
        let text = |reply: usize| item.replies[reply].text.as_str();
        let template = template(&self.recipe);
        match place {
            Place::Reply(i) => fill(template, &[("prompt", prompt), ("reply", text(i))]),
            Place::Pair(a, b) => {
                let values = [("prompt", prompt), ("a", text(a)), ("b", text(b))];
                fill(template, &values)
            }
        }
    }

    /// The verdict on a question: of the answers that are known, or asked for.
    fn answer(&self, question: &Question, stop: &AtomicBool) -> Result<f64, JudgeError> {
        let mut problem = String::new();
        let known = self.answers.known(&question.request);
        for response in known {
            match verdict(&self.recipe, response) {
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
            if let Some(seed) = self.recipe.seed {
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
            match verdict(&self.recipe, &response) {
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

    /// A verdict for each question. The first error stops all threads; requests under way are
    /// waited for, as their answers are kept.
    fn verdicts(
        &self,
        questions: &[Question],
        progress: &mut Progress<'_>,
    ) -> Result<Vec<f64>, JudgeError> {
        let stop = AtomicBool::new(false);
        let next = AtomicUsize::new(0);
        let work = |send: Sender<(usize, Result<f64, JudgeError>)>| {
            while !stop.load(Ordering::SeqCst) {
                let index = next.fetch_add(1, Ordering::SeqCst);
                let Some(question) = questions.get(index) else {
                    return;
                };
                let answer = self.answer(question, &stop);
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
        let mut found = vec![0.0; questions.len()];
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
                        found[index] = verdict;
                        progress.answered(&questions[index])
                    }
                    Ok((_, Err(error))) => {
                        outcome = std::mem::replace(&mut outcome, Ok(())).and(Err(error));
                        false
                    }
                    Err(RecvTimeoutError::Timeout) => progress.tell(),
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                if !go_on {
                    stop.store(true, Ordering::SeqCst);
                    outcome = std::mem::replace(&mut outcome, Ok(())).and(Err(JudgeError::Stopped));
                }
            }
        });
        outcome.map(|()| found)
    }
}

/// Counts the items that are done.
struct Progress<'a> {
    /// Questions of each item that are open.
    open: Vec<usize>,
    done: usize,
    told: &'a mut dyn FnMut(usize) -> bool,
}

impl<'a> Progress<'a> {
    fn new(items: usize, questions: &[Question], told: &'a mut dyn FnMut(usize) -> bool) -> Self {
        let mut open = vec![0; items];
        for (item, _) in questions.iter().flat_map(|q| &q.places) {
            open[*item] += 1;
        }
        let done = open.iter().filter(|open| **open == 0).count();
        Self { open, done, told }
    }

    /// Whether to go on.
    fn tell(&mut self) -> bool {
        (self.told)(self.done)
    }

    fn answered(&mut self, question: &Question) -> bool {
        for (item, _) in &question.places {
            self.open[*item] -= 1;
            self.done += usize::from(self.open[*item] == 0);
        }
        self.tell()
    }
}

impl Judge for OpenaiJudgment {
    fn judge(
        &mut self,
        items: &[Candidates],
        progress: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<Vec<f64>>, JudgeError> {
        let questions = self.questions(items);
        let mut progress = Progress::new(items.len(), &questions, progress);
        if !progress.tell() {
            return Err(JudgeError::Stopped);
        }
        let verdicts = self.verdicts(&questions, &mut progress)?;
        let mut scores: Vec<Vec<f64>> = items.iter().map(|i| vec![0.0; i.replies.len()]).collect();
        let answered = questions.iter().zip(verdicts);
        for ((item, place), verdict) in
            answered.flat_map(|(q, v)| q.places.iter().map(move |place| (*place, v)))
        {
            match place {
                Place::Reply(reply) => scores[item][reply] = verdict,
                Place::Pair(a, b) => {
                    scores[item][a] += verdict;
                    scores[item][b] += 1.0 - verdict;
                }
            }
        }
        if self.recipe.mode == JudgeMode::Pairwise {
            for (item, scores) in items.iter().zip(&mut scores) {
                share_of_wins(item, scores);
            }
        }
        Ok(scores)
    }
}

/// Wins of each reply to their share of its 2 (n - 1) comparisons; those with equal texts, which were
/// not asked, are ties.
fn share_of_wins(item: &Candidates, wins: &mut [f64]) {
    let comparisons = 2 * wins.len().saturating_sub(1);
    for (wins, reply) in wins.iter_mut().zip(&item.replies) {
        let same = item.replies.iter().filter(|r| r.text == reply.text).count();
        let ties = same.saturating_sub(1) as f64; // two comparisons, half a win each
        *wins = (*wins + ties) / comparisons.max(1) as f64;
    }
}

/// What is asked about an item. Replies of the same text are equal without asking.
fn places(mode: JudgeMode, item: &Candidates) -> Vec<Place> {
    let replies = 0..item.replies.len();
    match mode {
        JudgeMode::Score => replies.map(Place::Reply).collect(),
        JudgeMode::Pairwise => {
            let pairs = replies
                .clone()
                .flat_map(|a| replies.clone().map(move |b| (a, b)));
            let differ = |(a, b): &(usize, usize)| item.replies[*a].text != item.replies[*b].text;
            pairs
                .filter(differ)
                .map(|(a, b)| Place::Pair(a, b))
                .collect()
        }
    }
}
