//! The `eval` stage: every set of the recipe, measured on one checkpoint.

use crate::arch::Pass;
use crate::base::{SeedTree, counted};
use crate::config::spec::{EvalRecipe, LikelihoodEval, StoriesEval};
use crate::data::{
    ChatRow, Message, TextFormat, TokenizedExample, TokenizedPair, load_chat, load_pairs,
    mixture_seed,
};
use crate::eval::task::{KeptAnswers, PreparedTask};
use crate::eval::{
    RowRecord, SampleRecord, SetResult, Story, StoryPrompt, cluster_by, likelihood_metrics,
    preference_metrics, story_metrics, story_prompt,
};
use crate::generate::Generator;
use crate::plan::{EVAL_ROWS_ARTIFACT, SAMPLES_ARTIFACT};
use crate::stage::ask_tasks::answer_task;
use crate::stage::attempt::Attempt;
use crate::stage::benchmark::LoadedBench;
use crate::stage::benchmarks;
use crate::stage::checkpoints::TrainingRecord;
use crate::stage::dpo::count_pairs;
use crate::stage::engine::Asked;
use crate::stage::error::StageError;
use crate::stage::output::StageOutput;
use crate::stage::sample::Draw;
use crate::train::{pair_flops, score_documents, score_pairs};
use serde_json::Value;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

/// A set, read and tokenised before anything is measured, so that bad data fails at once.
enum Loaded<'a> {
    Likelihood(&'a LikelihoodEval, Vec<TokenizedExample>),
    Preference(Vec<TokenizedPair>),
    Stories(&'a StoriesEval, Vec<StoryPrompt>, Vec<Vec<u32>>),
    Judged(LoadedBench<'a>),
    Task(Box<PreparedTask<'a>>),
}

impl Loaded<'_> {
    /// Units of progress.
    fn units(&self) -> usize {
        match self {
            Self::Likelihood(_, examples) => examples.len(),
            Self::Preference(pairs) => pairs.len(),
            Self::Stories(eval, prompts, _) => prompts.len() * eval.samples.get(),
            Self::Judged(loaded) => loaded.units(),
            Self::Task(task) => task.documents.len(),
        }
    }
}

/// A set with its name and, where a key of the data says them, the clusters of its rows by id.
struct NamedSet<'a> {
    name: &'a str,
    loaded: Loaded<'a>,
    clusters: BTreeMap<String, String>,
}

/// Id and further keys of each row.
fn extras(rows: &[ChatRow]) -> impl Iterator<Item = (&str, &Value)> {
    rows.iter().map(|row| (row.id.as_str(), &row.extra))
}

/// The cluster of each row by the key that the evaluation names, if it names one.
fn clusters_of<'r>(
    set: &str,
    key: Option<&String>,
    rows: impl Iterator<Item = (&'r str, &'r Value)>,
) -> Result<BTreeMap<String, String>, StageError> {
    let Some(key) = key else {
        return Ok(BTreeMap::new());
    };
    let of = |(id, extra): (&str, &Value)| {
        let cluster = cluster_by(key, id, extra).map_err(|why| StageError::Cluster {
            set: set.to_owned(),
            id: id.to_owned(),
            why,
        });
        Ok((id.to_owned(), cluster?))
    };
    rows.map(of).collect()
}

/// Measures every set and writes row records and samples.
pub(super) fn run(job: &mut Attempt<'_>, recipe: &EvalRecipe) -> Result<StageOutput, StageError> {
    let mut made = StageOutput::default();
    let source = job.model_dir()?;
    let (format, config) = job.open_format(&source)?;
    let sets = load_sets(
        job,
        &mut made,
        recipe,
        (&format, &source, config.max_positions),
    )?;
    let total: usize = sets.iter().map(|set| set.loaded.units()).sum();
    job.telemetry.begin("rows", total as u64)?;

    let mut model = Asked::new(source.clone(), config, recipe.precision);
    let (mut rows, mut samples): (Vec<RowRecord>, Vec<SampleRecord>) = Default::default();
    let mut done = 0;
    let mut dry: Option<StageError> = None;
    for set in &sets {
        let asked = (set.name, &set.loaded);
        let result = measure(job, &mut made, &mut model, &format, asked, done);
        done += set.loaded.units();
        let mut result = match (result, &mut dry) {
            // The requests of every benchmark are written before the run ends.
            (
                Err(StageError::Dry { requests, .. }),
                Some(StageError::Dry { requests: all, .. }),
            ) => {
                *all += requests;
                continue;
            }
            (Err(error @ StageError::Dry { .. }), dry) => {
                *dry = Some(error);
                continue;
            }
            (result, _) => result?,
        };
        for row in &mut result.rows {
            let named = set.clusters.get(&row.row).cloned();
            row.cluster = named.or(row.cluster.take());
        }
        made.metrics.extend(result.metrics);
        rows.extend(result.rows);
        samples.extend(result.samples);
    }
    if let Some(dry) = dry {
        return Err(dry);
    }
    if let Some(record) = TrainingRecord::read(&source)? {
        record.tell(&mut made);
    }
    if let Some((key, value)) = made.metrics.iter().find(|(_, m)| !m.value.is_finite()) {
        return Err(StageError::NotFinite {
            key: key.clone(),
            value: value.value,
        });
    }
    job.write_lines(&mut made, EVAL_ROWS_ARTIFACT, &rows)?;
    if !samples.is_empty() {
        job.write_lines(&mut made, SAMPLES_ARTIFACT, &samples)?;
    }
    made.count("rows", rows.len());
    Ok(made)
}

/// Reads every set; kinds in a fixed order, sets by name.
fn load_sets<'a>(
    job: &mut Attempt<'_>,
    made: &mut StageOutput,
    recipe: &'a EvalRecipe,
    (format, source, max_positions): (&TextFormat, &Path, usize),
) -> Result<Vec<NamedSet<'a>>, StageError> {
    let root = job.context.root.clone();
    let mut sets: Vec<NamedSet<'a>> = Vec::new();
    for (name, eval) in &recipe.likelihood {
        let (rows, _) = load_chat(&root, &eval.data, &mixture_seed(0))?;
        let examples = format.encode_chats(&rows)?;
        count_cut(made, name, &examples, eval.max_seq_len);
        sets.push(NamedSet {
            name,
            loaded: Loaded::Likelihood(eval, examples),
            clusters: clusters_of(name, eval.cluster.as_ref(), extras(&rows))?,
        });
    }
    for (name, eval) in &recipe.preference {
        let (rows, _) = load_pairs(&root, &eval.data, &mixture_seed(0))?;
        let (pairs, report) = format.encode_pairs(&rows, &eval.limits)?;
        count_pairs(made, &report);
        let extras = rows.iter().map(|row| (row.id.as_str(), &row.extra));
        sets.push(NamedSet {
            name,
            loaded: Loaded::Preference(pairs),
            clusters: clusters_of(name, eval.cluster.as_ref(), extras)?,
        });
    }
    for (name, eval) in &recipe.stories {
        let (mut rows, _) = load_chat(&root, &eval.data, &mixture_seed(0))?;
        rows.truncate(eval.max_prompts.map_or(rows.len(), NonZeroUsize::get));
        let prompts = rows
            .iter()
            .map(story_prompt)
            .collect::<Result<Vec<_>, _>>()?;
        let tokens = prompts.iter().map(|p| format.encode_prompt(&p.messages));
        let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
        sets.push(NamedSet {
            name,
            loaded: Loaded::Stories(eval, prompts, tokens),
            clusters: clusters_of(name, eval.cluster.as_ref(), extras(&rows))?,
        });
    }
    let write = |turns: &[Message]| format.render(turns, true).map_err(|e| e.to_string());
    for (name, task) in &recipe.tasks {
        let model = (source, max_positions);
        let task = PreparedTask::open(&root, (name, task), model, &write)?;
        sets.push(NamedSet {
            name,
            loaded: Loaded::Task(Box::new(task)),
            clusters: BTreeMap::new(),
        });
    }
    for (name, eval) in &recipe.judged {
        sets.push(NamedSet {
            name,
            loaded: Loaded::Judged(LoadedBench::read(job, eval)?),
            clusters: BTreeMap::new(),
        });
    }
    if let Some(empty) = sets.iter().find(|set| set.loaded.units() == 0) {
        return Err(StageError::EmptySet {
            set: empty.name.to_owned(),
            why: "there is nothing to measure".to_owned(),
        });
    }
    Ok(sets)
}

/// Counts documents that the length limit cuts.
fn count_cut(made: &mut StageOutput, set: &str, examples: &[TokenizedExample], max_seq_len: usize) {
    let over = examples
        .iter()
        .map(|e| e.tokens.len().saturating_sub(max_seq_len));
    let cut: Vec<usize> = over.filter(|&n| n > 0).collect();
    made.count("documents_cut", cut.len());
    made.count("tokens_cut", cut.iter().sum());
    if !cut.is_empty() {
        made.notes.push(format!(
            "`{set}`: {} of {} cut to {}",
            cut.len(),
            counted(examples.len(), "document"),
            counted(max_seq_len, "token")
        ));
    }
}

/// Measures one set; `before` units of other sets are done.
fn measure(
    job: &mut Attempt<'_>,
    made: &mut StageOutput,
    model: &mut Asked,
    format: &TextFormat,
    (name, set): (&str, &Loaded<'_>),
    before: usize,
) -> Result<SetResult, StageError> {
    let limit = job.micro_batch_tokens();
    match set {
        Loaded::Likelihood(eval, examples) => {
            let scorer = model.model(job)?;
            let mut progress = |done| job.report(before + done);
            let max = eval.max_seq_len;
            let scores = score_documents(scorer, examples, max, limit, &mut progress)?;
            let lengths = examples.iter().map(|e| e.tokens.len().min(max));
            let mut pass = Pass::default();
            for (len, score) in lengths.clone().zip(&scores) {
                pass.add(1.0, len as f64, 0.0, score.tokens as f64);
            }
            made.spend(&model.config, lengths.sum(), &pass);
            if scores.iter().all(|s| s.tokens == 0) {
                return Err(StageError::EmptySet {
                    set: name.to_owned(),
                    why: format!("no reply token stands within `max-seq-len` {max}"),
                });
            }
            Ok(likelihood_metrics(name, examples, &scores))
        }
        Loaded::Preference(pairs) => {
            let positions: usize = pairs.iter().map(TokenizedPair::positions).sum();
            made.usage.tokens += positions as u64;
            made.usage.positions += positions as u64;
            made.usage.flops += pair_flops(&model.config, pairs, limit);
            let reference = job.references()?;
            let scorer = model.model(job)?;
            let mut progress = |done| job.report(before + done);
            let scores = score_pairs(scorer, pairs, limit, &mut progress)?;
            Ok(preference_metrics(name, pairs, &scores, &reference)?)
        }
        Loaded::Stories(eval, prompts, tokens) => {
            let generator = model.model(job)?;
            let stories = sample_replies(job, generator, format, eval, tokens, before)?;
            let lengths = stories.iter().map(|s| tokens[s.prompt].len() + s.tokens);
            let mut pass = Pass::default();
            for (prompt, tokens) in tokens.iter().enumerate() {
                let own = stories.iter().filter(|s| s.prompt == prompt);
                // The end token is drawn, too.
                let drawn = own.map(|s| (s.tokens + usize::from(s.finished)) as f64);
                pass.add_samples(tokens.len() as f64, drawn);
            }
            made.spend(&model.config, lengths.sum(), &pass);
            Ok(story_metrics(name, prompts, &stories))
        }
        Loaded::Judged(loaded) => benchmarks::run(job, made, model, format, (name, loaded), before),
        Loaded::Task(task) => measure_task(job, made, model, task, before),
    }
}

/// Asks the questions of a task that no earlier attempt has asked, and scores the answers.
fn measure_task(
    job: &mut Attempt<'_>,
    made: &mut StageOutput,
    model: &mut Asked,
    task: &PreparedTask<'_>,
    before: usize,
) -> Result<SetResult, StageError> {
    let limit = job.micro_batch_tokens();
    let file = format!("answers-{}.jsonl", task.name);
    let mut kept = KeptAnswers::read(&job.all_work(&file), &job.work().join(&file));
    let asked = model.model(job)?;
    let mut progress = |done| job.report(before + done);
    let answers = answer_task(asked, task, limit, &mut kept, &mut progress)?;
    let (positions, pass) = task.cost(&answers);
    made.spend(&model.config, positions, &pass);
    let scored = task.score(&answers)?;
    Ok(task.result(&answers, &scored))
}

/// Samples every prompt and decodes the texts.
fn sample_replies(
    job: &mut Attempt<'_>,
    generator: &mut dyn Generator,
    format: &TextFormat,
    eval: &StoriesEval,
    prompts: &[Vec<u32>],
    before: usize,
) -> Result<Vec<Story>, StageError> {
    let draw = Draw {
        prompts,
        samples: eval.samples.get(),
        sampling: &eval.sampling,
        seed: &SeedTree::root(eval.seed).child("eval/stories"),
        before,
    };
    let completions = job.draw(generator, format, &draw)?;
    let mut stories = Vec::new();
    for completion in completions {
        stories.push(Story {
            prompt: completion.prompt,
            sample: completion.sample,
            text: format.decode(&completion.tokens)?.trim().to_owned(),
            tokens: completion.tokens.len(),
            finished: completion.finished,
        });
    }
    Ok(stories)
}
