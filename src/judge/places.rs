//! What a judge that reads questions is asked about an item, and the scores that its verdicts come to.

use crate::base::fill;
use crate::config::spec::JudgeMode;
use crate::judge::candidates::Candidates;

/// What a verdict is about.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// The rating of a reply.
    Reply(usize),
    /// Reply A against reply B.
    Pair(usize, usize),
}

impl Place {
    /// The question, by a template with places for the prompt and the replies.
    pub(super) fn question(self, template: &str, prompt: &str, item: &Candidates) -> String {
        let text = |reply: usize| item.replies[reply].text.as_str();
        match self {
            Self::Reply(i) => fill(template, &[("prompt", prompt), ("reply", text(i))]),
            Self::Pair(a, b) => {
                let values = [("prompt", prompt), ("a", text(a)), ("b", text(b))];
                fill(template, &values)
            }
        }
    }

    /// Adds a verdict to the item's scores: a rating, or how much of the comparison A wins, 0 to 1.
    pub(super) fn add(self, scores: &mut [f64], verdict: f64) {
        match self {
            Self::Reply(reply) => scores[reply] = verdict,
            Self::Pair(a, b) => {
                scores[a] += verdict;
                scores[b] += 1.0 - verdict;
            }
        }
    }
}

/// What is asked about an item. Replies of the same text are equal without asking.
pub(super) fn places(mode: JudgeMode, item: &Candidates) -> Vec<Place> {
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

/// Wins of each reply to their share of its 2 (n - 1) comparisons; those with equal texts, which were
/// not asked, are ties.
pub(super) fn share_of_wins(item: &Candidates, wins: &mut [f64]) {
    let comparisons = 2 * wins.len().saturating_sub(1);
    for (wins, reply) in wins.iter_mut().zip(&item.replies) {
        let same = item.replies.iter().filter(|r| r.text == reply.text).count();
        let ties = same.saturating_sub(1) as f64; // two comparisons, half a win each
        *wins = (*wins + ties) / comparisons.max(1) as f64;
    }
}
