//! What sampling asks of a device, seen by one of few rows that computes nothing.

use super::{Completion, GenerateError, Generator, Room, Rows, SampleJob, sample};
use crate::base::SeedTree;
use crate::config::spec::SamplingRecipe;
use std::collections::BTreeMap;

const VOCABULARY: u64 = 16;
const POSITIONS: usize = 12;

/// A model whose logits are scrambled from a row's own tokens.
#[derive(Default)]
struct Scripted {
    most: usize,
    room: Option<Room>,
    /// How often each prompt was read.
    read: BTreeMap<Vec<u32>, usize>,
    prompts: Vec<Vec<u32>>,
    rows: Vec<Vec<u32>>,
    /// Most rows that there ever were.
    widest: usize,
    logits: Vec<f32>,
}

fn scrambled(row: &[u32]) -> impl Iterator<Item = f32> {
    let start = row.iter().fold(17u64, |hash, &token| {
        (hash ^ u64::from(token)).wrapping_mul(0x0100_0000_01b3)
    });
    (0..VOCABULARY).map(move |token| {
        let bits = (start ^ token).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        bits as f32 / (1 << 22) as f32
    })
}

impl Generator for Scripted {
    fn max_positions(&self) -> usize {
        POSITIONS
    }

    fn rows(&mut self, room: Room) -> Result<Box<dyn Rows + '_>, GenerateError> {
        self.room = Some(room);
        Ok(Box::new(ScriptedRows(self)))
    }
}

struct ScriptedRows<'a>(&'a mut Scripted);

impl Rows for ScriptedRows<'_> {
    fn most(&self) -> usize {
        self.0.most
    }

    fn prefill(&mut self, prompts: &[&[u32]]) -> Result<&[f32], GenerateError> {
        assert!((1..=self.0.most).contains(&prompts.len()));
        self.0.prompts = prompts.iter().map(|prompt| prompt.to_vec()).collect();
        for prompt in &self.0.prompts {
            *self.0.read.entry(prompt.clone()).or_default() += 1;
        }
        self.0.logits = prompts.iter().flat_map(|row| scrambled(row)).collect();
        Ok(&self.0.logits)
    }

    fn start(&mut self, prompts: &[usize]) -> Result<(), GenerateError> {
        let read = prompts.iter().map(|&prompt| self.0.prompts[prompt].clone());
        self.0.rows.extend(read);
        self.0.widest = self.0.widest.max(self.0.rows.len());
        Ok(())
    }

    fn decode(&mut self, tokens: &[u32]) -> Result<&[f32], GenerateError> {
        assert_eq!(tokens.len(), self.0.rows.len());
        for (row, &token) in self.0.rows.iter_mut().zip(tokens) {
            row.push(token);
            assert!(row.len() < POSITIONS, "no room for another token");
        }
        self.0.logits = self.0.rows.iter().flat_map(|row| scrambled(row)).collect();
        Ok(&self.0.logits)
    }

    fn keep(&mut self, rows: &[usize]) -> Result<(), GenerateError> {
        assert!(rows.is_sorted_by(|a, b| a < b));
        self.0.rows = rows.iter().map(|&row| self.0.rows[row].clone()).collect();
        Ok(())
    }
}

/// Three samples of each of five prompts, the longest of six tokens.
fn samples_of(model: &mut Scripted, batch: usize) -> Vec<Completion> {
    let prompts: Vec<Vec<u32>> = (2..7).map(|n| (0..n).collect()).collect();
    let job = SampleJob {
        prompts: &prompts,
        samples: 3,
        recipe: &SamplingRecipe {
            temperature: 1.0.try_into().unwrap(),
            top_p: 1.0.try_into().unwrap(),
            max_new_tokens: 8.try_into().unwrap(),
        },
        stop: &[3],
        until: None,
        seed: &SeedTree::root(5),
        batch,
    };
    sample(model, &job, &mut |_| true).unwrap()
}

#[test]
fn a_device_of_few_rows_gives_the_same_samples_and_reads_each_prompt_once() {
    let mut want = None;
    for most in [1, 2, 4, 7, 100] {
        let mut model = Scripted {
            most,
            ..Scripted::default()
        };
        let got = samples_of(&mut model, usize::MAX);
        assert_eq!(got.len(), 15);
        let ended = got.iter().filter(|sample| sample.finished).count();
        assert!((1..15).contains(&ended), "some stop and some run out");
        let room = Room {
            rows: 15,
            prompt: 6,
            positions: POSITIONS,
        };
        assert_eq!(model.room, Some(room));
        assert_eq!(model.widest, most.min(15));
        assert_eq!(model.read.len(), 5);
        assert!(model.read.values().all(|&times| times == 1));
        assert!(model.rows.is_empty(), "no row is left behind");
        assert!(*want.get_or_insert_with(|| got.clone()) == got, "{most}");
    }
}

#[test]
fn no_more_rows_are_asked_for_than_are_wanted_at_once() {
    let mut model = Scripted {
        most: 4,
        ..Scripted::default()
    };
    samples_of(&mut model, 4);
    assert_eq!(model.room.map(|room| room.rows), Some(4));
}
