//! Made-up tables whose truth is known: how often intervals miss, and how often families of them do. The
//! whole of it is `cargo bench --bench statistics`, its numbers are in `reports/statistics.md`.

use crate::base::SeedTree;
use crate::metrics::column::{Analysis, Arm, Column, SeedValues};
use crate::metrics::rows::RowSet;
use crate::metrics::spec::Better;
use crate::metrics::verdict::Verdict;
use rayon::prelude::*;

#[path = "../../benches/statistics/regimes.rs"]
mod regimes;

#[path = "../../benches/statistics/folds.rs"]
mod folds;

use folds::{Design, outcome};
use regimes::{FAMILIES, Regime, SINGLE, SPLIT, column, normal, table};

const ROWS: usize = 60;

/// Share of `sets` tables of `arms` comparisons with any clear difference, where there is none.
fn false_alarms(regime: &Regime, (arms, seeds): (usize, usize), sets: u64) -> f64 {
    let tree = SeedTree::root(1)
        .child(regime.name)
        .index((arms * 100 + seeds) as u64);
    let alarm = |set: &u64| {
        let mut rng = tree.index(*set).rng();
        let values = table(&mut rng, regime, (arms + 1, seeds, ROWS), seeds);
        let column = column(values, (0..ROWS).collect());
        let analysis = Analysis::of(&column);
        (1..=arms).any(|k| {
            let compared = analysis.compare(k, 0, arms, None).unwrap();
            let clear = compared.verdict(Better::Neither) != Verdict::Unresolved;
            assert_eq!(clear, compared.p_family.unwrap() < 0.05, "{compared:?}");
            clear
        })
    };
    (0..sets).into_par_iter().filter(alarm).count() as f64 / sets as f64
}

// With 400 tables a rate of 5 % is seen as 2.9 to 7.1 % (95 %), as 9 % once in 5,000 times.
#[test]
fn one_comparison_misses_about_as_seldom_as_it_says_in_every_regime() {
    for seeds in [3, 5] {
        for regime in &SINGLE {
            let rate = false_alarms(regime, (1, seeds), 400);
            assert!(rate <= 0.09, "{} at {seeds} seeds: {rate}", regime.name);
        }
    }
}

#[test]
fn a_table_has_a_false_alarm_about_as_seldom_as_it_says_in_every_regime() {
    for (arms, seeds) in [(5, 3), (12, 3)] {
        for regime in &FAMILIES {
            let rate = false_alarms(regime, (arms, seeds), 250);
            // Where the arms' spread varies, half of the answer is pooled, at the price of some points.
            let most = if regime.uneven > 0.0 { 0.13 } else { 0.1 };
            assert!(
                rate <= most,
                "{} in {arms} comparisons: {rate}",
                regime.name
            );
        }
    }
}

// Cross-validation in five parts: one pipeline a part, two, and rows of some arms that move far more. The widths
// are those of the same seeds on one part, which has a fifth of the rows.
#[test]
fn parts_of_cross_validation_miss_about_as_seldom_as_they_say_in_every_regime() {
    for (comparisons, seeds) in [(1, 5), (1, 10), (5, 10)] {
        for regime in &SPLIT {
            let design = Design {
                comparisons,
                seeds,
                rows: 100,
                folds: 5,
                one_part: false,
            };
            let found = outcome(regime, &design, 250);
            let told = format!("{} in {design:?}: {found:?}", regime.name);
            assert!(found.alarms <= 0.09, "{told}");
            assert!(found.coverage >= 0.91, "{told}");
            if regime.row >= 0.5 {
                let one_part = Design {
                    one_part: true,
                    ..design
                };
                let wider = outcome(regime, &one_part, 40);
                assert!(
                    found.reach < 0.8 * wider.reach,
                    "{told}, one part: {wider:?}"
                );
            }
        }
    }
}

// Rows that repeat one prompt's answer eight times: as good as 20 rows, not 160.
#[test]
fn rows_of_one_prompt_count_as_one() {
    let alarms = |clustered: bool| {
        let count = (0..300u64).filter(|set| {
            let mut rng = SeedTree::root(7).index(*set).rng();
            let mut arm = || {
                let prompts: Vec<f64> = (0..20).map(|_| normal(&mut rng)).collect();
                let rows: Vec<f64> = (0..160).map(|r| prompts[r / 8]).collect();
                vec![rows; 1]
            };
            let values = vec![arm(), arm()];
            let clusters = (0..160)
                .map(|r| if clustered { r / 8 } else { r })
                .collect();
            let column = column(values, clusters);
            let compared = Analysis::of(&column).compare(1, 0, 1, None).unwrap();
            compared.p.unwrap() < 0.05
        });
        count.count() as f64 / 300.0
    };
    let (right, wrong) = (alarms(true), alarms(false));
    assert!((0.015..=0.09).contains(&right), "{right}");
    assert!(wrong > 0.3, "{wrong}");
}
