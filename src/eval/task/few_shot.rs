//! Which solved rows stand before a question (`api/samplers.py` and `fewshot_context` of `lm_eval` 0.4.13).

use crate::base::PythonRandom;
use crate::config::spec::{FewShotDraw, FewShotRecipe};
use crate::data::TaskRow;

/// The solved rows of one part of a task, and the state of their draws.
#[derive(Debug)]
pub(super) struct FewShots<'a> {
    recipe: &'a FewShotRecipe,
    pool: Vec<&'a TaskRow>,
    random: PythonRandom,
}

impl<'a> FewShots<'a> {
    /// Before the first draw.
    pub(super) fn new(recipe: &'a FewShotRecipe, pool: Vec<&'a TaskRow>) -> Self {
        Self {
            recipe,
            pool,
            random: PythonRandom::new(recipe.seed),
        }
    }

    /// The solved rows before the next question, which is `row`.
    ///
    /// # Errors
    /// There are fewer rows than wanted.
    pub(super) fn next(&mut self, row: &TaskRow) -> Result<Vec<&'a TaskRow>, String> {
        let wanted = self.recipe.count;
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let other = |known: &&&TaskRow| known.columns != row.columns;
        let chosen: Vec<&TaskRow> = match (self.recipe.draw, self.recipe.overlapping) {
            (FewShotDraw::First, false) => self.pool.iter().copied().take(wanted).collect(),
            (FewShotDraw::First, true) => self
                .pool
                .iter()
                .filter(other)
                .copied()
                .take(wanted)
                .collect(),
            (FewShotDraw::Sample, false) => self.drawn(wanted)?,
            (FewShotDraw::Sample, true) => {
                let drawn = self.drawn(wanted + 1)?;
                let left: Vec<_> = drawn.iter().filter(other).copied().take(wanted).collect();
                if left.len() == wanted {
                    left
                } else {
                    // The pool holds the row several times.
                    let others: Vec<_> = self.pool.iter().filter(other).copied().collect();
                    let places = self.random.sample(others.len(), wanted);
                    places.into_iter().map(|at| others[at]).collect()
                }
            }
        };
        if chosen.len() < wanted {
            return Err(too_few(self.pool.len(), wanted));
        }
        Ok(chosen)
    }

    fn drawn(&mut self, count: usize) -> Result<Vec<&'a TaskRow>, String> {
        if count > self.pool.len() {
            return Err(too_few(self.pool.len(), count));
        }
        let places = self.random.sample(self.pool.len(), count);
        Ok(places.into_iter().map(|at| self.pool[at]).collect())
    }
}

fn too_few(found: usize, wanted: usize) -> String {
    format!("{wanted} solved rows are to be drawn, and there are {found}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Origin;
    use serde_json::json;

    fn rows(texts: &[&str]) -> Vec<TaskRow> {
        let row = |text: &&str| TaskRow {
            columns: json!({ "text": text }).as_object().unwrap().clone(),
            origin: Origin {
                path: "rows".to_owned(),
                row: 1,
            },
        };
        texts.iter().map(row).collect()
    }

    fn recipe(draw: &str, count: usize, overlapping: bool) -> FewShotRecipe {
        let recipe =
            json!({ "data": [], "count": count, "draw": draw, "overlapping": overlapping });
        serde_json::from_value(recipe).unwrap()
    }

    fn texts(shots: &mut FewShots<'_>, row: &TaskRow) -> Vec<String> {
        let chosen = shots.next(row).unwrap().into_iter();
        chosen
            .map(|row| row.columns["text"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn an_overlapping_pool_never_gives_the_row_itself() {
        let pool = rows(&["a", "b", "c", "a", "d"]);
        for draw in ["first", "sample"] {
            let recipe = recipe(draw, 3, true);
            let mut shots = FewShots::new(&recipe, pool.iter().collect());
            for row in pool.iter().cycle().take(20) {
                let chosen = texts(&mut shots, row);
                assert_eq!(chosen.len(), 3, "{draw}");
                assert!(!chosen.contains(&row.columns["text"].as_str().unwrap().to_owned()));
            }
        }
    }

    #[test]
    fn more_than_there_are_is_refused() {
        let pool = rows(&["a", "b"]);
        for draw in ["first", "sample"] {
            let recipe = recipe(draw, 3, false);
            let mut shots = FewShots::new(&recipe, pool.iter().collect());
            let error = shots.next(&pool[0]).unwrap_err();
            assert!(error.contains("there are 2"), "{error}");
        }
    }
}
