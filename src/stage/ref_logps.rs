//! The `ref-logps` stage: log-probabilities of every pair under the frozen reference.

use crate::data::{TokenizedPair, all_pairs};
use crate::plan::{REF_LOGPS_ARTIFACT, RefLogpsRecipe};
use crate::stage::attempt::Attempt;
use crate::stage::dpo::count_pairs;
use crate::stage::error::StageError;
use crate::stage::output::{StageOutput, count_rows};
use crate::train::{pair_flops, score_pairs, write_reference_logps};
use std::collections::BTreeSet;

/// Scores every distinct pair once, in the order of first occurrence.
pub(super) fn run(
    job: &mut Attempt<'_>,
    recipe: &RefLogpsRecipe,
) -> Result<StageOutput, StageError> {
    let mut made = StageOutput::default();
    let source = job.model_dir()?;
    let (format, config) = job.open_format(&source)?;
    let mut pairs: Vec<TokenizedPair> = Vec::new();
    let mut seen = BTreeSet::new();
    for set in &recipe.sets {
        let seed = set.rows.data_seed.unwrap_or(0);
        let (rows, report) = all_pairs(&job.context.root, &set.rows, seed, &format)?;
        count_rows(&mut made, &report);
        job.check_length(&mut made, &config, set.limits.max_seq_len)?;
        let (set_pairs, report) = format.encode_pairs(&rows, &set.limits)?;
        count_pairs(&mut made, &report);
        pairs.extend(
            set_pairs
                .into_iter()
                .filter(|pair| seen.insert(pair.key.clone())),
        );
    }
    if let Some(limits) = &recipe.online {
        let rows = job.made_pairs(&mut made, None, 0)?;
        let (online, report) = format.encode_pairs(&rows, limits)?;
        count_pairs(&mut made, &report);
        let fresh = online
            .into_iter()
            .filter(|pair| seen.insert(pair.key.clone()));
        pairs.extend(fresh);
    }
    made.count("pairs", pairs.len());
    job.telemetry.begin("pairs", pairs.len() as u64)?;

    let mut model = job.open_model(&source, &config, recipe.precision)?;
    let limit = job.micro_batch_tokens();
    let scores = score_pairs(&mut *model, &pairs, limit, &mut |done| job.report(done))?;
    for (pair, score) in pairs.iter().zip(&scores) {
        for (reply, score) in [("chosen", score.chosen), ("rejected", score.rejected)] {
            if !score.logp.is_finite() {
                return Err(StageError::NotFinite {
                    key: format!("log-probability of the {reply} reply of pair {}", pair.key),
                    value: score.logp,
                });
            }
        }
    }
    let path = job.dir.out().join(REF_LOGPS_ARTIFACT);
    write_reference_logps(&path, pairs.iter().map(|p| p.key.as_str()).zip(&scores))?;
    made.artifacts.push(REF_LOGPS_ARTIFACT.to_owned());

    let positions: usize = pairs.iter().map(TokenizedPair::positions).sum();
    made.usage.tokens = positions as u64;
    made.usage.positions = positions as u64;
    made.usage.flops = pair_flops(&config, &pairs, limit);
    Ok(made)
}
