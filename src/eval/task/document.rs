//! Rows of a task to the questions that a model is asked.

use super::error::TaskError;
use super::few_shot::FewShots;
use crate::config::spec::{ShotTurns, TaskRecipe, TaskRequest};
use crate::data::{Message, RowScope, RowTexts, TaskRow, is_space, load_rows};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// What is right about a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The number of the right choice.
    Choice(usize),
    /// Whether each choice is right.
    Choices(Vec<bool>),
    /// The right text.
    Text(String),
    /// Nothing but what the scorers read themselves.
    None,
}

/// A context, and what the model is asked about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What the model is given.
    pub context: String,
    /// Whose likelihood behind it is asked for; empty if an answer is to be generated.
    pub continuation: String,
}

/// A row of a task with its questions.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its part, of a task that has parts.
    pub part: Option<String>,
    /// Its place in the task, or in its part, from 0.
    pub place: usize,
    /// The row.
    pub row: TaskRow,
    /// One for each choice, or one for an answer.
    pub questions: Vec<Question>,
    /// The first question without what stands before it.
    pub prompt: String,
    /// The choices without what stands before them; for an answer none.
    pub choices: Vec<String>,
    /// The choices stand in the contexts, and one text follows them all, which [`Self::choices`] holds then.
    pub follows: bool,
    /// What is right.
    pub target: Target,
}

impl Document {
    /// Its id among the rows of the task.
    pub fn id(&self) -> String {
        match &self.part {
            Some(part) => format!("{part}/{}", self.place),
            None => self.place.to_string(),
        }
    }
}

/// Writes a conversation up to where the model's turn begins, as the model's own template does.
pub type ChatWriter<'a> = dyn Fn(&[Message]) -> Result<String, String> + 'a;

/// How many rows each part of a task has, or the task.
pub(super) type RowCounts = BTreeMap<Option<String>, usize>;

/// Reads the rows of a task and writes its questions; also, how many rows each part has before some are left out. `chat` is asked for tasks that go through a chat template.
///
/// # Errors
/// A file cannot be read, or a row does not fit the task.
pub fn load_documents(
    root: &Path,
    name: &str,
    recipe: &TaskRecipe,
    chat: &ChatWriter<'_>,
) -> Result<(Vec<Document>, RowCounts), TaskError> {
    let rows = load_rows(root, &recipe.data)?;
    let solved = match &recipe.few_shot {
        Some(few_shot) if few_shot.count > 0 => load_rows(root, &few_shot.data)?,
        _ => Vec::new(),
    };
    let writer = Writer::new(name, recipe, chat)?;
    let mut shots: BTreeMap<Option<String>, FewShots<'_>> = BTreeMap::new();
    if let Some(few_shot) = &recipe.few_shot {
        let mut pools: BTreeMap<Option<String>, Vec<&TaskRow>> = BTreeMap::new();
        for row in &solved {
            pools.entry(writer.part(row)?).or_default().push(row);
        }
        let pools = pools.into_iter();
        shots.extend(pools.map(|(part, pool)| (part, FewShots::new(few_shot, pool))));
    }
    let mut counts: RowCounts = BTreeMap::new();
    let mut documents = Vec::with_capacity(rows.len());
    for row in &rows {
        let part = writer.part(row)?;
        let count = counts.entry(part.clone()).or_default();
        let place = *count;
        *count += 1;
        if recipe.max_rows.is_some_and(|most| place >= most.get()) {
            continue;
        }
        let solved = match (shots.get_mut(&part), &recipe.few_shot) {
            (Some(shots), _) => shots
                .next(row)
                .map_err(|reason| writer.wrong(row, "few-shot", reason))?,
            (None, Some(few_shot)) if few_shot.count > 0 => {
                let reason = "there are no solved rows of its part".to_owned();
                return Err(writer.wrong(row, "few-shot", reason));
            }
            _ => Vec::new(),
        };
        documents.push(writer.document(row, part, place, &solved)?);
    }
    Ok((documents, counts))
}

/// The parts that a task has, each in order of their groups.
pub fn part_names(recipe: &TaskRecipe) -> Vec<&str> {
    let groups = recipe.parts.iter().flat_map(|parts| parts.groups.values());
    groups.flatten().map(String::as_str).collect()
}

/// Names of the compiled texts.
const PROMPT: &str = "prompt";
const DESCRIPTION: &str = "description";
const CHOICES: &str = "request.choices.of";
const EACH: &str = "request.choices.each";
const CONTINUATION: &str = "request.choices.continuation";
const TARGET: &str = "target";
const PART: &str = "parts.by";

/// A task with its texts compiled.
struct Writer<'a> {
    name: &'a str,
    recipe: &'a TaskRecipe,
    texts: RowTexts,
    chat: &'a ChatWriter<'a>,
}

/// A row as its texts give it.
struct Solved {
    /// The questions, one for each choice if they differ, else one.
    prompts: Vec<String>,
    choices: Vec<String>,
    /// What follows each choice, if the questions differ.
    continuation: Option<String>,
    target: Target,
}

impl Solved {
    /// The question with its answer, and what stands between. A text that is empty is no answer, in the harness too: the next
    /// question stands right behind.
    fn answered(&self, delimiter: &str) -> (&str, Option<String>) {
        let behind = |text: &String| (!text.is_empty()).then(|| format!("{delimiter}{text}"));
        let right = match &self.target {
            Target::Choice(right) => *right,
            Target::Choices(right) => right.iter().position(|&right| right).unwrap_or(0),
            Target::Text(text) => return (&self.prompts[0], behind(text)),
            Target::None => return (&self.prompts[0], Some(String::new())),
        };
        let prompt = self.prompts.get(right).unwrap_or(&self.prompts[0]);
        let answer = match &self.continuation {
            Some(text) => behind(text),
            None => Some(format!("{delimiter}{}", self.choices[right])),
        };
        (prompt, answer)
    }
}

impl<'a> Writer<'a> {
    fn new(
        name: &'a str,
        recipe: &'a TaskRecipe,
        chat: &'a ChatWriter<'a>,
    ) -> Result<Self, TaskError> {
        let mut writer = Self {
            name,
            recipe,
            texts: RowTexts::new(),
            chat,
        };
        writer.add_text(PROMPT, Some(&recipe.prompt))?;
        writer.add_text(DESCRIPTION, recipe.description.as_deref())?;
        if let TaskRequest::Choices(choices) = &recipe.request {
            writer.add_value(CHOICES, Some(&choices.of))?;
            writer.add_text(EACH, choices.each.as_deref())?;
            writer.add_text(CONTINUATION, choices.continuation.as_deref())?;
        }
        writer.add_value(TARGET, recipe.target.as_deref())?;
        writer.add_value(PART, recipe.parts.as_ref().map(|parts| parts.by.as_str()))?;
        Ok(writer)
    }

    fn add_text(&mut self, what: &str, source: Option<&str>) -> Result<(), TaskError> {
        let added = source.map_or(Ok(()), |source| self.texts.add_text(what, source));
        added.map_err(|reason| self.broken(what, reason))
    }

    fn add_value(&mut self, what: &str, source: Option<&str>) -> Result<(), TaskError> {
        let added = source.map_or(Ok(()), |source| self.texts.add_value(what, source));
        added.map_err(|reason| self.broken(what, reason))
    }

    fn broken(&self, what: &str, reason: String) -> TaskError {
        TaskError::Task {
            task: self.name.to_owned(),
            what: what.to_owned(),
            reason,
        }
    }

    fn wrong(&self, row: &TaskRow, what: &str, reason: String) -> TaskError {
        TaskError::Row {
            task: self.name.to_owned(),
            origin: row.origin.clone(),
            what: what.to_owned(),
            reason,
        }
    }

    fn text(&self, row: &TaskRow, what: &str, scope: &RowScope) -> Result<String, TaskError> {
        let text = self.texts.text(what, scope);
        text.map_err(|reason| self.wrong(row, what, reason))
    }

    /// The part that a row belongs to.
    fn part(&self, row: &TaskRow) -> Result<Option<String>, TaskError> {
        if self.recipe.parts.is_none() {
            return Ok(None);
        }
        let value = self.texts.value(PART, &RowScope::new(&row.columns, []));
        let value = value.map_err(|reason| self.wrong(row, PART, reason))?;
        let name = text_of(&value);
        if !part_names(self.recipe).contains(&name.as_str()) {
            let reason = format!("`{name}` is in none of `parts.groups`");
            return Err(self.wrong(row, PART, reason));
        }
        Ok(Some(name))
    }

    fn document(
        &self,
        row: &TaskRow,
        part: Option<String>,
        place: usize,
        solved: &[&TaskRow],
    ) -> Result<Document, TaskError> {
        let asked = self.solve(row)?;
        let shots: Vec<Solved> = solved
            .iter()
            .map(|row| self.solve(row))
            .collect::<Result<_, _>>()?;
        let description = match &self.recipe.description {
            Some(_) => self.text(row, DESCRIPTION, &RowScope::new(&row.columns, []))?,
            None => String::new(),
        };
        let mut contexts = Vec::with_capacity(asked.prompts.len());
        for prompt in &asked.prompts {
            contexts.push(match &self.recipe.chat {
                None => {
                    let system = self.recipe.system.as_deref().unwrap_or("");
                    let before = joined(system, &description, self.shot_delimiter());
                    self.plain(&before, &shots, prompt)
                }
                Some(_) => self
                    .conversation(&description, &shots, prompt)
                    .map_err(|reason| self.wrong(row, "chat", reason))?,
            });
        }
        Ok(Document {
            part,
            place,
            row: row.clone(),
            questions: self.questions(&contexts, &asked),
            prompt: asked.prompts[0].clone(),
            follows: asked.continuation.is_some(),
            choices: match &asked.continuation {
                // Not the choices are scored, but what follows them.
                Some(continuation) => vec![continuation.clone(); asked.choices.len()],
                None => asked.choices,
            },
            target: asked.target,
        })
    }

    /// The questions of a row whose contexts are written.
    fn questions(&self, contexts: &[String], asked: &Solved) -> Vec<Question> {
        if let TaskRequest::Generate(_) = self.recipe.request {
            let context = contexts[0].clone();
            let continuation = String::new();
            return vec![Question {
                context,
                continuation,
            }];
        }
        // Behind a template's own words nothing stands between.
        let delimiter = match self.recipe.chat {
            None => self.recipe.delimiter.as_str(),
            Some(_) => "",
        };
        let questions = asked.choices.iter().enumerate().map(|(at, choice)| {
            let answer = asked.continuation.as_ref().unwrap_or(choice);
            Question {
                context: contexts.get(at).unwrap_or(&contexts[0]).clone(),
                continuation: format!("{delimiter}{answer}"),
            }
        });
        questions.collect()
    }

    /// Solved rows and the question as running text.
    fn plain(&self, description: &str, shots: &[Solved], prompt: &str) -> String {
        let mut text = description.to_owned();
        for shot in shots {
            let (question, answer) = shot.answered(&self.recipe.delimiter);
            text += question;
            if let Some(answer) = answer {
                text += &answer;
                text += self.shot_delimiter();
            }
        }
        text + prompt
    }

    fn shot_delimiter(&self) -> &str {
        let few_shot = self.recipe.few_shot.as_ref();
        few_shot.map_or("\n\n", |few_shot| few_shot.delimiter.as_str())
    }

    /// Solved rows and the question as turns, written by the model's template.
    fn conversation(
        &self,
        description: &str,
        shots: &[Solved],
        prompt: &str,
    ) -> Result<String, String> {
        let Some(chat) = &self.recipe.chat else {
            return Err("the task is asked in plain text".to_owned());
        };
        let system = chat.system.as_deref().unwrap_or("");
        let system = joined(system, description, self.shot_delimiter());
        let mut turns = Vec::new();
        if !system.is_empty() {
            turns.push(Message::new("system", &system));
        }
        match chat.shots {
            ShotTurns::OneTurn => {
                turns.push(Message::new("user", self.plain("", shots, prompt)));
            }
            ShotTurns::Turns => {
                for shot in shots {
                    let (question, answer) = shot.answered("");
                    turns.push(Message::new("user", question));
                    turns.extend(answer.map(|answer| Message::new("assistant", &answer)));
                }
                turns.push(Message::new("user", prompt));
            }
        }
        let written = (self.chat)(&turns);
        if written.is_err() && turns[0].role == "system" {
            // A template without system turns is asked again without one.
            return (self.chat)(&turns[1..]);
        }
        written
    }

    fn solve(&self, row: &TaskRow) -> Result<Solved, TaskError> {
        let scope = RowScope::new(&row.columns, []);
        let (choices, continuation) = match &self.recipe.request {
            TaskRequest::Choices(request) => {
                let choices = self.choices(row, &scope, request.each.is_some())?;
                let continuation = request.continuation.is_some();
                let text = || self.text(row, CONTINUATION, &scope);
                (choices, continuation.then(text).transpose()?)
            }
            TaskRequest::Generate(_) => (Vec::new(), None),
        };
        let prompts = if continuation.is_some() {
            let of_choice = |choice: &String| {
                let scope = RowScope::new(&row.columns, [("choice", json!(choice))]);
                self.text(row, PROMPT, &scope)
            };
            choices.iter().map(of_choice).collect::<Result<_, _>>()?
        } else {
            vec![self.text(row, PROMPT, &scope)?]
        };
        let target = self.target(row, &scope, choices.len())?;
        Ok(Solved {
            prompts,
            choices,
            continuation,
            target,
        })
    }

    fn choices(
        &self,
        row: &TaskRow,
        scope: &RowScope,
        each: bool,
    ) -> Result<Vec<String>, TaskError> {
        let value = self.texts.value(CHOICES, scope);
        let value = value.map_err(|reason| self.wrong(row, CHOICES, reason))?;
        let items = match value.as_array() {
            Some(items) if !items.is_empty() => items,
            _ => {
                let reason = format!("expected a list of choices, found {value}");
                return Err(self.wrong(row, CHOICES, reason));
            }
        };
        let text = |item: &Value| {
            if !each {
                return Ok(text_of(item));
            }
            let scope = RowScope::new(&row.columns, [("choice", item.clone())]);
            self.text(row, EACH, &scope)
        };
        items.iter().map(text).collect()
    }

    fn target(&self, row: &TaskRow, scope: &RowScope, choices: usize) -> Result<Target, TaskError> {
        if self.recipe.target.is_none() {
            return Ok(Target::None);
        }
        let value = self.texts.value(TARGET, scope);
        let value = value.map_err(|reason| self.wrong(row, TARGET, reason))?;
        let of_choices = matches!(self.recipe.request, TaskRequest::Choices(_));
        let read = match (&value, of_choices) {
            (value, false) => Ok(Target::Text(text_of(value))),
            (Value::Array(labels), true) => truth_values(labels, choices),
            (value, true) => right_choice(value, choices),
        };
        read.map_err(|reason| self.wrong(row, TARGET, reason))
    }
}

/// Labels of choices: 1 or true is right.
fn truth_values(labels: &[Value], choices: usize) -> Result<Target, String> {
    if labels.len() != choices {
        return Err(format!("{} labels for {choices} choices", labels.len()));
    }
    let label = |label: &Value| match (label.as_bool(), label.as_u64()) {
        (Some(right), _) => Ok(right),
        (None, Some(0)) => Ok(false),
        (None, Some(1)) => Ok(true),
        _ => Err(format!("expected labels 0 and 1, found {label}")),
    };
    let labels = labels.iter().map(label).collect::<Result<_, _>>()?;
    Ok(Target::Choices(labels))
}

/// A number of a choice, or its digits.
fn right_choice(value: &Value, choices: usize) -> Result<Target, String> {
    let digits = value.as_str().and_then(|text| text.parse().ok());
    let right = value.as_u64().or(digits);
    let right = right.and_then(|right| usize::try_from(right).ok());
    right
        .filter(|&right| right < choices)
        .map(Target::Choice)
        .ok_or_else(|| format!("expected the number of one of {choices} choices, found {value}"))
}

/// A text as it is, another value as JSON.
fn text_of(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Two texts, and `delimiter` between them if both are there and neither brings white space of its own.
fn joined(first: &str, second: &str, delimiter: &str) -> String {
    let apart = first.ends_with(is_space) || second.starts_with(is_space);
    if first.is_empty() || second.is_empty() || apart {
        return format!("{first}{second}");
    }
    format!("{first}{delimiter}{second}")
}
