//! A judge that follows a script, for tests of what uses one.

use crate::judge::error::JudgeError;
use crate::judge::{Candidates, Judge};
use std::collections::BTreeMap;

/// Gives each item the scores that the script has under its id.
#[derive(Clone, Debug, Default)]
pub struct ScriptedJudge {
    /// Scores by item.
    pub scores: BTreeMap<String, Vec<f64>>,
    /// Ids of the items that were judged, in order.
    pub asked: Vec<String>,
}

impl ScriptedJudge {
    /// A judge with these scores by item.
    pub fn new<const N: usize>(scores: [(&str, &[f64]); N]) -> Self {
        let scores = scores.into_iter();
        Self {
            scores: scores.map(|(id, s)| (id.to_owned(), s.to_vec())).collect(),
            asked: Vec::new(),
        }
    }
}

impl Judge for ScriptedJudge {
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
            self.asked.push(item.id.clone());
            let scores = self.scores.get(&item.id);
            let scores = scores.filter(|scores| scores.len() == item.replies.len());
            all.push(scores.cloned().ok_or_else(|| {
                let replies = item.replies.len();
                JudgeError::item(
                    &item.id,
                    format!("the script has no {replies} scores for it"),
                )
            })?);
        }
        progress(items.len());
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::candidates::item;

    #[test]
    fn the_script_is_followed_and_stopped_on_request() {
        let mut judge = ScriptedJudge::new([("a", &[1.0, 2.0]), ("b", &[0.0])]);
        let items = [item("b", &["x"]), item("a", &["x", "y"])];
        let scores = judge.judge(&items, &mut |_| true).unwrap();
        assert_eq!(scores, [vec![0.0], vec![1.0, 2.0]]);
        assert_eq!(judge.asked, ["b", "a"]);
        let stopped = judge.judge(&items, &mut |done| done < 1).unwrap_err();
        assert!(matches!(stopped, JudgeError::Stopped));
        let unknown = judge
            .judge(&[item("c", &["x"])], &mut |_| true)
            .unwrap_err();
        assert!(unknown.to_string().contains("`c`"), "{unknown}");
    }
}
