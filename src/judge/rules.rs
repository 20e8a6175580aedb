//! The rule judge of stories.

use crate::config::spec::StoryRule;
use crate::judge::candidates::Candidates;
use crate::judge::error::JudgeError;
use crate::judge::story::judge_story;
use crate::judge::traits::Judge;
use crate::metrics::families::StoryVerdict;

/// Scores stories by the share of the rules that hold ([`crate::metrics::families::StoryVerdict::score`]).
#[derive(Clone, Debug, Default)]
pub struct RuleJudge {
    /// Only these; all if absent.
    only: Option<Vec<StoryRule>>,
}

impl RuleJudge {
    /// Of these rules alone.
    pub fn of(rules: &[StoryRule]) -> Self {
        Self {
            only: Some(rules.to_vec()),
        }
    }

    fn score(&self, verdict: &StoryVerdict) -> f64 {
        let Some(rules) = &self.only else {
            return verdict.score();
        };
        let holds = |rule: &StoryRule| match rule {
            StoryRule::Ends => Some(verdict.ends),
            StoryRule::Name => verdict.name,
            StoryRule::Dialogue => Some(verdict.dialogue),
            StoryRule::NoRepeat => Some(verdict.no_repeat),
            StoryRule::Length => Some(verdict.length),
        };
        let held: Vec<bool> = rules.iter().filter_map(holds).collect();
        let count = held.iter().filter(|rule| **rule).count();
        count as f64 / held.len().max(1) as f64
    }
}

impl Judge for RuleJudge {
    fn judge(
        &mut self,
        items: &[Candidates],
        progress: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<Vec<f64>>, JudgeError> {
        let mut all = Vec::with_capacity(items.len());
        for (done, item) in items.iter().enumerate() {
            if !progress(done) {
                return Err(JudgeError::Stopped);
            }
            let asked = item.constraints.as_ref().ok_or_else(|| {
                JudgeError::item(
                    &item.id,
                    "the rules need the `constraints` of a story prompt",
                )
            })?;
            let replies = item.replies.iter();
            let scores = replies.map(|r| self.score(&judge_story(&r.text, r.finished, asked)));
            all.push(scores.collect());
        }
        progress(items.len());
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::candidates::item;
    use crate::judge::story::StoryConstraints;

    fn fin(dialogue: bool) -> StoryConstraints {
        StoryConstraints {
            name: Some("Fin".to_owned()),
            dialogue,
        }
    }

    // Fin is named twice in 62 words without a repeat, ended: 5 of 5. Unended: 4. One word, ended:
    // it ends, it has no quotes and no repeats: 3.
    #[test]
    fn replies_score_the_share_of_rules_that_hold() {
        let good = format!("Fin {} Fin", different_words(60));
        let mut item = item("a", &[&good, &good, "Fin"]);
        item.replies[1].finished = false;
        item.constraints = Some(fin(false));
        let scores = RuleJudge::default().judge(&[item], &mut |_| true).unwrap();
        assert_eq!(scores.len(), 1);
        for (got, want) in scores[0].iter().zip([1.0, 0.8, 0.6]) {
            assert!((got - want).abs() < 1e-12, "{scores:?}");
        }
    }

    // As above, by its end and its name alone: 2 of 2, 1 of 2, 1 of 2 (one word names him once). Where the
    // prompt names nobody the name is no rule, and where none is left no reply is better than another.
    #[test]
    fn some_rules_leave_the_others_out() {
        let good = format!("Fin {} Fin", different_words(60));
        let mut item = item("a", &[&good, &good, "Fin"]);
        item.replies[1].finished = false;
        item.constraints = Some(fin(false));
        let scores = |item: &Candidates, rules: &[StoryRule]| {
            let items = std::slice::from_ref(item);
            RuleJudge::of(rules).judge(items, &mut |_| true).unwrap()
        };
        let ends_and_name = [StoryRule::Ends, StoryRule::Name];
        assert_eq!(scores(&item, &ends_and_name), [[1.0, 0.5, 0.5]]);
        item.constraints.as_mut().unwrap().name = None;
        assert_eq!(scores(&item, &ends_and_name), [[1.0, 0.0, 1.0]]);
        assert_eq!(scores(&item, &ends_and_name[1..]), [[0.0, 0.0, 0.0]]);
    }

    #[test]
    fn an_item_without_constraints_is_refused_by_name() {
        let error = RuleJudge::default().judge(&[item("row-7", &["x"])], &mut |_| true);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("row-7") && error.contains("constraints"),
            "{error}"
        );
    }

    fn different_words(count: usize) -> String {
        let words: Vec<String> = (0..count).map(|i| format!("w{i}")).collect();
        words.join(" ")
    }
}
