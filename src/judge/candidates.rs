//! What is judged, and what the scores make of it.

use crate::data::Message;
use crate::judge::story::StoryConstraints;

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

/// Whether there are two replies that are not the same text; if not, no judge can tell them apart.
pub fn replies_differ<'a>(mut texts: impl Iterator<Item = &'a str>) -> bool {
    let first = texts.next();
    texts.any(|text| Some(text) != first)
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
    fn replies_of_one_text_do_not_differ() {
        for (texts, differ) in [
            (&["x", "x"][..], false),
            (&["x", "x", "y"], true),
            (&["x"], false),
            (&[], false),
        ] {
            assert_eq!(replies_differ(texts.iter().copied()), differ, "{texts:?}");
        }
    }

    #[test]
    fn a_prompt_is_a_line_for_each_turn() {
        let mut item = item("a", &[]);
        item.prompt.insert(0, Message::new("system", "Be kind."));
        assert_eq!(item.prompt_text(), "system: Be kind.\nuser: Question a?");
    }
}
