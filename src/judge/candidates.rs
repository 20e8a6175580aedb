//! What is judged, and what the scores make of it.

use crate::data::Message;
use crate::judge::rules::StoryConstraints;

/// One prompt and the replies to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidates {
    /// Id of the prompt's row.
    pub id: String,
    /// The turns before the reply.
    pub prompt: Vec<Message>,
    /// What a story prompt asks for; needed by the rules.
    pub constraints: Option<StoryConstraints>,
    /// The replies.
    pub replies: Vec<Reply>,
}

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The text.
    pub text: String,
    /// Whether it ended by itself, within the token budget.
    pub finished: bool,
}

impl Candidates {
    /// The prompt as text: a line `role: content` for each turn, as in the LIONs study.
    pub fn prompt_text(&self) -> String {
        let lines = self
            .prompt
            .iter()
            .map(|m| format!("{}: {}", m.role, m.content));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Index of the first highest and of the first lowest score; `None` where all are equal (a tie) or
/// there are fewer than two. A score that is not a number is never picked.
pub fn best_and_worst(scores: &[f64]) -> Option<(usize, usize)> {
    let mut numbers = scores.iter().enumerate().filter(|(_, s)| !s.is_nan());
    let (first, _) = numbers.next()?;
    let (mut best, mut worst) = (first, first);
    for (index, &score) in numbers {
        if score > scores[best] {
            best = index;
        }
        if score < scores[worst] {
            worst = index;
        }
    }
    (best != worst).then_some((best, worst))
}

/// Leaves out items whose replies are all the same text (fewer than two are): no judge could tell
/// them apart. The rest in their order, and how many were left out.
pub fn drop_equal(items: Vec<Candidates>) -> (Vec<Candidates>, usize) {
    let before = items.len();
    let differ = |item: &Candidates| item.replies.windows(2).any(|w| w[0].text != w[1].text);
    let kept: Vec<Candidates> = items.into_iter().filter(differ).collect();
    let dropped = before - kept.len();
    (kept, dropped)
}

#[cfg(test)]
pub(crate) fn item(id: &str, replies: &[&str]) -> Candidates {
    let reply = |text: &&str| Reply {
        text: (*text).to_owned(),
        finished: true,
    };
    Candidates {
        id: id.to_owned(),
        prompt: vec![Message::new("user", format!("Question {id}?"))],
        constraints: None,
        replies: replies.iter().map(reply).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pair_is_the_first_highest_and_the_first_lowest_score() {
        assert_eq!(best_and_worst(&[0.5, 1.0, 0.0, 1.0, 0.0]), Some((1, 2)));
        assert_eq!(best_and_worst(&[2.0, 1.0]), Some((0, 1)));
        assert_eq!(best_and_worst(&[-1.0, -1.0, 3.0]), Some((2, 0)));
    }

    #[test]
    fn equal_scores_and_single_replies_make_no_pair() {
        assert_eq!(best_and_worst(&[0.3, 0.3, 0.3]), None);
        assert_eq!(best_and_worst(&[0.3]), None);
        assert_eq!(best_and_worst(&[]), None);
        assert_eq!(best_and_worst(&[f64::NAN, 1.0]), None);
        assert_eq!(best_and_worst(&[f64::NAN, 1.0, 2.0]), Some((2, 1)));
    }

    #[test]
    fn items_whose_replies_are_one_text_are_dropped_and_counted() {
        let items = vec![
            item("a", &["x", "x"]),
            item("b", &["x", "x", "y"]),
            item("c", &["x"]),
            item("d", &[]),
        ];
        let (kept, dropped) = drop_equal(items);
        assert_eq!(
            kept.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(),
            ["b"]
        );
        assert_eq!(dropped, 3);
    }

    #[test]
    fn a_prompt_is_a_line_for_each_turn() {
        let mut item = item("a", &[]);
        item.prompt.insert(0, Message::new("system", "Be kind."));
        assert_eq!(item.prompt_text(), "system: Be kind.\nuser: Question a?");
    }
}
