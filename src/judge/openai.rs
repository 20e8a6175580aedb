//! A model behind a chat endpoint as judge.

use crate::base::Digest;
use crate::config::spec::{JudgeMode, JudgeRuntime, OpenaiJudge};
use crate::judge::asker::{Asker, Question};
use crate::judge::candidates::Candidates;
use crate::judge::error::JudgeError;
use crate::judge::places::{Place, places, share_of_wins};
use crate::judge::traits::Judge;
use crate::judge::verdict::{request, template, verdict};
use std::collections::BTreeMap;
use std::path::Path;

/// Asks an endpoint about every reply (`score`) or every two replies (`pairwise`).
#[derive(Debug)]
pub struct OpenaiJudgment {
    recipe: OpenaiJudge,
    asker: Asker,
}

/// The verdicts that a question gives, which is asked once whoever needs it: item and place.
type Places = Vec<(usize, Place)>;

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
            asker: Asker::open(&recipe.base_url, recipe.seed, runtime, answers, key)?,
        })
    }

    /// The same with another way to wait between requests.
    #[cfg(test)]
    pub(super) fn waiting(mut self, wait: crate::judge::endpoint::Wait) -> Self {
        self.asker = self.asker.waiting(wait);
        self
    }

    /// Every question, once each, in the order of the items, and what needs it.
    fn questions(&self, items: &[Candidates]) -> (Vec<Question>, Vec<Places>) {
        let mut questions: Vec<Question> = Vec::new();
        let mut needed: Vec<Places> = Vec::new();
        let mut by_request: BTreeMap<Digest, usize> = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            let prompt = item.prompt_text();
            for place in places(self.recipe.mode, item) {
                let text = place.question(template(&self.recipe), &prompt, item);
                let question = self.asker.question(&item.id, request(&self.recipe, &text));
                let at = *by_request
                    .entry(question.request.clone())
                    .or_insert_with(|| {
                        questions.push(question);
                        needed.push(Vec::new());
                        questions.len() - 1
                    });
                needed[at].push((index, place));
            }
        }
        (questions, needed)
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
    fn new(items: usize, needed: &[Places], told: &'a mut dyn FnMut(usize) -> bool) -> Self {
        let mut open = vec![0; items];
        for (item, _) in needed.iter().flatten() {
            open[*item] += 1;
        }
        let done = open.iter().filter(|open| **open == 0).count();
        Self { open, done, told }
    }

    /// Whether to go on.
    fn tell(&mut self) -> bool {
        (self.told)(self.done)
    }

    fn answered(&mut self, places: &Places) -> bool {
        for (item, _) in places {
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
        let (questions, needed) = self.questions(items);
        let mut progress = Progress::new(items.len(), &needed, progress);
        if !progress.tell() {
            return Err(JudgeError::Stopped);
        }
        let read = |response: &str| verdict(&self.recipe, response);
        let verdicts = self
            .asker
            .ask(&questions, &read, &mut |answered| match answered {
                Some(question) => progress.answered(&needed[question]),
                None => progress.tell(),
            })?;
        let mut scores: Vec<Vec<f64>> = items.iter().map(|i| vec![0.0; i.replies.len()]).collect();
        let answered = needed.iter().zip(verdicts);
        for ((item, place), verdict) in
            answered.flat_map(|(places, v)| places.iter().map(move |place| (*place, v)))
        {
            place.add(&mut scores[item], verdict);
        }
        if self.recipe.mode == JudgeMode::Pairwise {
            for (item, scores) in items.iter().zip(&mut scores) {
                share_of_wins(item, scores);
            }
        }
        Ok(scores)
    }
}
