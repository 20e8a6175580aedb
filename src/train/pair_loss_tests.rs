//! The preference losses by hand and against central differences.

use super::*;
use crate::config::parse_toml;
use crate::config::spec::{DpoLoss, NonNegative, PreferenceLoss};

/// Log-probabilities and lengths of a pair: chosen, rejected, their reference, their tokens.
type Row = ([f64; 2], [f64; 2], [usize; 2]);

fn terms(rows: &[Row]) -> PairTerms {
    let reply = |logp, tokens| ReplyScore {
        logp,
        tokens,
        likeliest: 0,
    };
    let scores: Vec<PairScore> = rows
        .iter()
        .map(|(policy, _, tokens)| PairScore {
            chosen: reply(policy[0], tokens[0]),
            rejected: reply(policy[1], tokens[1]),
        })
        .collect();
    let references: Vec<ReferencePair> = rows
        .iter()
        .map(|(_, reference, _)| ReferencePair {
            chosen: reference[0],
            rejected: reference[1],
        })
        .collect();
    let chosen: usize = rows.iter().map(|row| row.2[0]).sum();
    PairTerms::new(&scores, &references, chosen as f64 / rows.len() as f64).unwrap()
}

/// Log-ratios a and b of each pair against a reference of 0.
fn ratios(pairs: &[[f64; 2]]) -> PairTerms {
    let rows: Vec<Row> = pairs.iter().map(|p| (*p, [0.0; 2], [1, 1])).collect();
    terms(&rows)
}

/// A loss as a recipe spells it.
fn loss(text: &str) -> PreferenceLoss {
    parse_toml(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Every loss with all of its parameters, and β.
fn every_loss(beta: f64) -> Vec<PreferenceLoss> {
    let parameters = [
        "",
        "label-smoothing = 0.2",
        "gamma = 0.4, label-smoothing = 0.2",
        "tau = 0.3",
        "reward-shift = true",
    ];
    let most = |name: &&str| {
        let spelt = parameters
            .iter()
            .map(|p| format!("{{ {name} = {{ {p} }} }}"));
        let spelt = std::iter::once(format!("'{name}'")).chain(spelt);
        let read = |value: String| parse_toml(&format!("loss = {value}\nbeta = {beta}")).ok();
        spelt
            .rev()
            .find_map(read)
            .unwrap_or_else(|| panic!("`{name}` needs a parameter here"))
    };
    DpoLoss::NAMES.iter().map(most).collect()
}

fn values(loss: &PreferenceLoss, pairs: &PairTerms) -> Vec<f64> {
    loss.losses(pairs).unwrap().to_vec1().unwrap()
}

fn assert_near(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() < 1e-12, "{got:?}, not {want:?}");
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f64) -> f64 {
    x.exp().ln_1p()
}

// β 0.1. Policy margins 0, 12, 22; reference margins 0, 2, 2: logits 0, 1, 2.
#[test]
fn dpo_matches_the_hand_computed_values() {
    let pairs = terms(&[
        ([-5.0, -5.0], [-6.0, -6.0], [1, 1]),
        ([-8.0, -20.0], [-9.0, -11.0], [1, 1]),
        ([-3.0, -25.0], [-4.0, -6.0], [1, 1]),
    ]);
    let loss = loss("loss = 'sigmoid'\nbeta = 0.1");
    let want = [0.0, 1.0, 2.0].map(|z: f64| softplus(-z));
    assert_near(&values(&loss, &pairs), &want);
}

// One pair, logit 1, smoothing 0.2: 0.8 softplus(-1) + 0.2 softplus(1).
#[test]
fn label_smoothing_mixes_in_the_flipped_pair() {
    let loss = loss("loss = { sigmoid = { label-smoothing = 0.2 } }\nbeta = 0.5");
    assert_near(
        &values(&loss, &ratios(&[[1.0, -1.0]])),
        &[0.513_261_687_518_223],
    );
}

// Token means -1 and -2: z = 2 (-1 + 2) - 0.5 = 1.5. The reference does not matter.
#[test]
fn simpo_compares_token_means_with_a_margin() {
    let loss = loss("loss = { simpo = { gamma = 0.5 } }\nbeta = 2");
    let row = |reference| values(&loss, &terms(&[([-4.0, -6.0], reference, [4, 3])]));
    assert_near(&row([0.0, 0.0]), &[softplus(-1.5)]);
    assert_near(&row([-9.0, -1.0]), &[softplus(-1.5)]);
}

// Chosen: two tokens of probability 1/2, odds 1, NLL ln 2. Rejected: three tokens of 1/5, odds 1/4.
// The ratio of the odds is 4 and σ(ln 4) = 4/5.
#[test]
fn orpo_is_likelihood_plus_odds_ratio() {
    let loss = loss("loss = 'orpo'\nbeta = 0.1");
    let logps = [2.0 * 0.5f64.ln(), 3.0 * 0.2f64.ln()];
    let got = values(&loss, &terms(&[(logps, [0.0; 2], [2, 3])]));
    assert_near(&got, &[2.0f64.ln() + 0.1 * 1.25f64.ln()]);
}

#[test]
fn orpo_stays_finite_for_a_reply_that_is_certain() {
    let loss = loss("loss = 'orpo'\nbeta = 0.1");
    let pairs = terms(&[
        ([0.0, -3.0], [0.0; 2], [2, 3]),
        ([-3.0, 0.0], [0.0; 2], [2, 3]),
    ]);
    let gradient = loss.gradient(&pairs, 2).unwrap();
    assert!(gradient.loss.is_finite());
    assert!(gradient.pairs.as_flattened().iter().all(|x| x.is_finite()));
}

// a = 1, 3 and b = -2, 0: K_w = 2, K_l = max(0, -1) = 0. No gradient through K: that of a_1 is
// -σ(1) σ(-1) / 4, that of b_1 is σ(-4) σ(4) / 4.
#[test]
fn kto_pair_measures_each_half_against_the_level_of_the_other() {
    let loss = loss("loss = 'kto-pair'\nbeta = 1.0");
    let pairs = ratios(&[[1.0, -2.0], [3.0, 0.0]]);
    let want = [
        0.5 * (sigmoid(-1.0) + sigmoid(-4.0)),
        0.5 * (sigmoid(-3.0) + sigmoid(-2.0)),
    ];
    assert_near(&values(&loss, &pairs), &want);
    let slope = |x: f64| sigmoid(x) * sigmoid(-x) / 4.0;
    let gradient = loss.gradient(&pairs, 2).unwrap();
    assert_near(&gradient.pairs[0], &[-slope(1.0), slope(4.0)]);
    assert_near(&gradient.pairs[1], &[-slope(3.0), slope(2.0)]);
}

// β 1/2, a = 1, 3 and b = -2, 0: δ = (0.5 · 2 + 0.5 · -1) / 2 = 0.25, constant for the gradient.
#[test]
fn bco_pair_shifts_rewards_by_their_mean_where_asked() {
    let pairs = ratios(&[[1.0, -2.0], [3.0, 0.0]]);
    let plain = loss("loss = 'bco-pair'\nbeta = 0.5");
    let want = |d: f64| {
        [(0.5, -1.0), (1.5, 0.0)].map(|(w, l): (f64, f64)| softplus(d - w) + softplus(l - d))
    };
    assert_near(&values(&plain, &pairs), &want(0.0));
    assert!(!plain.couples_pairs());
    let loss = loss("loss = { bco-pair = { reward-shift = true } }\nbeta = 0.5");
    assert_near(&values(&loss, &pairs), &want(0.25));
    assert!(loss.couples_pairs());
    let gradient = loss.gradient(&pairs, 2).unwrap();
    let by_hand = [-0.25 * sigmoid(-0.25), 0.25 * sigmoid(-1.25)];
    assert_near(&gradient.pairs[0], &by_hand);
}

// Preferred replies of 2 and 6 tokens, -4 and -6 nats: 10/8 nats a token.
#[test]
fn the_sft_term_is_a_mean_over_the_tokens_of_the_step() {
    let pairs = terms(&[
        ([-4.0, -5.0], [-3.0, -3.0], [2, 3]),
        ([-6.0, -7.0], [-8.0, -3.0], [6, 3]),
    ]);
    let mean = |text: &str| values(&loss(text), &pairs).iter().sum::<f64>() / 2.0;
    let plain = mean("loss = 'hinge'\nbeta = 0.1");
    let more = mean("loss = 'hinge'\nbeta = 0.1\nsft-weight = 0.5");
    assert_near(&[more - plain], &[0.5 * 10.0 / 8.0]);
}

// a = (-4 + 3) / 2, b = (-5 + 3) / 4: h = 0.
#[test]
fn length_normalized_log_ratios_are_means_over_tokens() {
    let pairs = terms(&[([-4.0, -5.0], [-3.0, -3.0], [2, 4])]);
    let loss = loss("loss = 'sppo-hard'\nbeta = 0.5\nlength-normalized = true");
    assert_near(&values(&loss, &pairs), &[1.5 * 1.5 + 0.5 * 0.5]);
}

// K of KTO and δ of BCO are constants, so that central differences see another function there.
#[test]
fn every_gradient_agrees_with_central_differences() {
    let rows: [Row; 4] = [
        ([-4.0, -6.5], [-5.0, -6.0], [3, 5]),
        ([-9.0, -3.0], [-8.5, -4.25], [7, 2]),
        ([-2.5, -11.0], [-2.75, -9.0], [2, 8]),
        ([-7.0, -7.5], [-6.0, -8.0], [4, 6]),
    ];
    let constant = |loss: &PreferenceLoss| {
        matches!(
            loss.kind,
            DpoLoss::KtoPair | DpoLoss::BcoPair { reward_shift: true }
        )
    };
    let plain_bco = loss("loss = 'bco-pair'\nbeta = 0.3");
    let losses = every_loss(0.3).into_iter().filter(|loss| !constant(loss));
    for mut loss in losses.chain([plain_bco]) {
        let kind = loss.kind;
        loss.sft_weight = Some(NonNegative::try_from(0.3).unwrap());
        for normalized in [false, true] {
            loss.length_normalized = normalized;
            let gradient = loss.gradient(&terms(&rows), rows.len()).unwrap();
            let loss_at = |pair: usize, side: usize, by: f64| {
                let mut moved = rows;
                moved[pair].0[side] += by;
                loss.gradient(&terms(&moved), rows.len()).unwrap().loss
            };
            for pair in 0..rows.len() {
                for side in 0..2 {
                    let (up, down) = (loss_at(pair, side, 1e-5), loss_at(pair, side, -1e-5));
                    let (got, want) = (gradient.pairs[pair][side], (up - down) / 2e-5);
                    assert!((got - want).abs() < 1e-8, "{kind:?}: {got}, not {want}");
                }
            }
        }
    }
}

#[test]
fn losses_are_finite_a_thousand_nats_out() {
    for loss in every_loss(1.0) {
        let kind = loss.kind;
        let pairs = terms(&[
            ([-1.0, -1001.0], [-1001.0, -1.0], [4, 4]),
            ([-1001.0, -1.0], [-1.0, -1001.0], [4, 4]),
        ]);
        let gradient = loss.gradient(&pairs, 2).unwrap();
        assert!(gradient.loss.is_finite(), "{kind:?}");
        let all = gradient.pairs.as_flattened();
        assert!(all.iter().all(|x| x.is_finite()), "{kind:?}: {all:?}");
    }
}

#[test]
fn a_part_of_a_gradient_keeps_the_order_of_its_pairs() {
    let whole = PairGradient {
        loss: 1.0,
        pairs: vec![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
    };
    assert_eq!(whole.part(1..3).pairs, [[3.0, 4.0], [5.0, 6.0]]);
}
