//! How often the tests of comparison tables are wrong, and how often they see an effect, on made-up tables
//! whose truth is known; the method of earlier versions beside today's. Prints `reports/statistics.md`.
//!
//! `cargo bench --bench statistics -- [SETS] [DRAWS]`: tables of each kind (of single comparisons so many times
//! four), and bootstrap draws.
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

mod before;
mod folds;
mod regimes;

use before::Draws;
use folds::{Design, outcome};
use lions::base::SeedTree;
use lions::metrics::{Analysis, Arm, Column, RowSet, SeedValues, family_alpha, holm, mean};
use regimes::{FAMILIES, Regime, SINGLE, SPLIT, column, table};

const ROWS: usize = 161;

/// A true effect, in standard deviations of a difference.
const EFFECT: f64 = 4.0;

/// Single comparisons for each table.
const SINGLES: usize = 4;

/// How far a rate of 5 % over `sets` may be off, in points.
fn error(sets: usize) -> f64 {
    100.0 * 1.96 * (0.05f64 * 0.95 / sets as f64).sqrt()
}

fn main() {
    let mut words = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok());
    let sets: usize = words.next().unwrap_or(300);
    let draws: usize = words.next().unwrap_or(4000);
    println!("# How often comparisons are wrong\n");
    println!(
        "Printed by `cargo bench --bench statistics -- {sets} {draws}`: made-up tables of {ROWS} rows whose truth is \
         known. *Before* is the bootstrap of earlier versions ({draws} draws), with Holm's correction in tables; \
         *now* is the method of `src/metrics`. The Monte-Carlo error of a rate of 5 % is ±{:.1} points in tables and \
         ±{:.1} of single comparisons (95 %).\n",
        error(sets),
        error(SINGLES * sets)
    );
    println!("## One comparison, no true effect\n");
    println!(
        "The variance of the difference is 1, so that an interval that knew it would reach 1.96 to both sides.\n"
    );
    println!(
        "| seeds | noise | before: false alarms % | reach | p < .001 % | now: false alarms % | reach | p < .001 % |"
    );
    println!("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for seeds in [3, 5, 10] {
        for regime in &SINGLE {
            single(regime, seeds, SINGLES * sets, draws);
        }
    }
    println!(
        "\n## Tables: any false alarm without a true effect, and power for one effect of {EFFECT} standard deviations\n"
    );
    println!(
        "| seeds | comparisons | noise | before: false alarm % | power % | now: false alarm % | power % | now, declared claims (Holm): false alarm % | power % |"
    );
    println!("| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (seeds, arms) in [(3, 5), (3, 12), (3, 18), (5, 12)] {
        for regime in &FAMILIES {
            family(regime, seeds, arms, sets, draws);
        }
    }
    println!("\n## Cross-validation in {PARTS} parts, no true effect\n");
    println!(
        "{SPLIT_ROWS} rows. The variance of the difference over all parts is 1. *One part*: as many seeds, all \
         measured on a fifth of the rows, which costs the same.\n"
    );
    println!(
        "| seeds | comparisons | noise | false alarm % | coverage % | reach | one part: false alarm % | coverage % | reach |"
    );
    println!("| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (seeds, comparisons) in [(5, 1), (10, 1), (10, 5), (10, 14)] {
        for regime in &SPLIT {
            split(regime, seeds, comparisons, sets);
        }
    }
}

const PARTS: usize = 5;

const SPLIT_ROWS: usize = 400;

fn split(regime: &Regime, seeds: usize, comparisons: usize, sets: usize) {
    let cells = [false, true].map(|one_part| {
        let design = Design {
            comparisons,
            seeds,
            rows: SPLIT_ROWS,
            folds: PARTS,
            one_part,
        };
        let found = outcome(regime, &design, (SINGLES * sets) as u64);
        format!(
            "{:.1} | {:.1} | {:.2}",
            100.0 * found.alarms,
            100.0 * found.coverage,
            found.reach
        )
    });
    println!(
        "| {seeds} | {comparisons} | {} | {} |",
        regime.name,
        cells.join(" | ")
    );
}

fn difference(ours: &[Vec<f64>], base: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let seed = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a - b).collect();
    ours.iter().zip(base).map(seed).collect()
}

/// Student's quantile at 0.975 for seeds less one, from the interval of that many values.
fn t975(seeds: usize) -> f64 {
    let values: Vec<f64> = (0..seeds).map(|k| k as f64).collect();
    let estimate = mean(&values).expect("there are seeds");
    let interval = estimate.t_interval(0.95).expect("there are two seeds");
    interval.half_width() / estimate.stderr.expect("there are two seeds")
}

fn percent(count: usize, of: usize) -> String {
    format!("{:.1}", 100.0 * count as f64 / of as f64)
}

fn single(regime: &Regime, seeds: usize, sets: usize, draws: usize) {
    let bootstrap = Draws::new(seeds, ROWS, draws, t975(seeds));
    let tree = SeedTree::root(1).child(regime.name).index(seeds as u64);
    let (mut before, mut now) = ([0, 0], [0, 0]);
    let (mut reach_before, mut reach_now) = (0.0, 0.0);
    for set in 0..sets {
        let mut rng = tree.index(set as u64).rng();
        let values = table(&mut rng, regime, (2, seeds, ROWS), seeds);
        let old = bootstrap.of(&difference(&values[1], &values[0]));
        before[0] += usize::from(old.p < 0.05);
        before[1] += usize::from(old.p < 0.001);
        reach_before += (old.high - old.low) / 2.0;
        let column = column(values, (0..ROWS).collect());
        let compared = Analysis::of(&column)
            .compare(1, 0, 1, None)
            .expect("seeds are paired");
        let p = compared.p.expect("there is noise");
        now[0] += usize::from(p < 0.05);
        now[1] += usize::from(p < 0.001);
        reach_now += compared.interval.expect("there is noise").half_width();
    }
    println!(
        "| {seeds} | {} | {} | {:.2} | {} | {} | {:.2} | {} |",
        regime.name,
        percent(before[0], sets),
        reach_before / sets as f64,
        percent(before[1], sets),
        percent(now[0], sets),
        reach_now / sets as f64,
        percent(now[1], sets)
    );
}

fn family(regime: &Regime, seeds: usize, arms: usize, sets: usize, draws: usize) {
    let bootstrap = Draws::new(seeds, ROWS, draws, t975(seeds));
    let tree = SeedTree::root(2)
        .child(regime.name)
        .index((seeds * 100 + arms) as u64);
    // False alarm and power: before, now, now by Holm.
    let mut counts = [[0usize; 2]; 3];
    for set in 0..sets {
        let mut rng = tree.index(set as u64).rng();
        let mut values = table(&mut rng, regime, (arms + 1, seeds, ROWS), 3);
        for effect in [0.0, EFFECT] {
            values[1].iter_mut().flatten().for_each(|v| *v += effect);
            let old: Vec<Option<f64>> = (1..=arms)
                .map(|k| Some(bootstrap.of(&difference(&values[k], &values[0])).p))
                .collect();
            let column = column(values.clone(), (0..ROWS).collect());
            let analysis = Analysis::of(&column);
            let p: Vec<Option<f64>> = (1..=arms)
                .map(|k| analysis.compare(k, 0, arms, None).and_then(|c| c.p))
                .collect();
            let alpha = family_alpha(arms);
            let found = [
                holm(&old)
                    .iter()
                    .map(|p| p.is_some_and(|p| p < 0.05))
                    .collect::<Vec<_>>(),
                p.iter().map(|p| p.is_some_and(|p| p < alpha)).collect(),
                holm(&p)
                    .iter()
                    .map(|p| p.is_some_and(|p| p < 0.05))
                    .collect(),
            ];
            for (count, found) in counts.iter_mut().zip(found) {
                let hit = if effect == 0.0 {
                    found.contains(&true)
                } else {
                    found[0]
                };
                count[usize::from(effect > 0.0)] += usize::from(hit);
            }
        }
    }
    let cells: Vec<String> = counts.iter().flatten().map(|c| percent(*c, sets)).collect();
    println!(
        "| {seeds} | {arms} | {} | {} |",
        regime.name,
        cells.join(" | ")
    );
}
