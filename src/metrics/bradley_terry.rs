//! Bradley–Terry strengths from verdicts on pairs, with bootstrap intervals over verdicts.
//!
//! Player i beats player j with probability `1 / (1 + 10^((Rⱼ − Rᵢ)/400))` (Bradley and Terry 1952, on Elo's scale). A
//! tie is half a win for both, which is what a logistic regression sees that is given every battle twice and a tie once
//! each way (Arena-Hard-Auto v0.1). The optimum is Newton's, to the last bits, not that of a solver that stops early.

use crate::base::Mt19937;
use crate::metrics::estimate::Interval;
use crate::metrics::percentile::percentile_interval;

/// Points of Elo's scale for odds of ten to one.
const SCALE: f64 = 400.0;
/// The rating of the player that the others are measured against.
pub const ANCHOR: f64 = 1000.0;

/// One verdict: which two players, and who won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Battle {
    /// Number of the first player.
    pub first: usize,
    /// Number of the second.
    pub second: usize,
    /// Who won.
    pub winner: Winner,
}

/// Who won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Winner {
    /// The first player.
    First,
    /// The second.
    Second,
    /// Neither.
    Tie,
}

impl Winner {
    /// The share of the win that is the first player's.
    pub fn share_of_first(self) -> f64 {
        match self {
            Self::First => 1.0,
            Self::Second => 0.0,
            Self::Tie => 0.5,
        }
    }
}

/// How often each player beat each other one, ties half: `wins[i][j]` is i over j, (n, n).
pub fn wins(battles: impl IntoIterator<Item = Battle>, players: usize) -> Vec<Vec<f64>> {
    let mut wins = vec![vec![0.0; players]; players];
    for battle in battles {
        let share = battle.winner.share_of_first();
        wins[battle.first][battle.second] += share;
        wins[battle.second][battle.first] += 1.0 - share;
    }
    wins
}

/// The likeliest ratings, (n,), with their mean at 1000; `None` where there are none: if the players fall into two parts
/// of which one never beat the other, ratings are likelier the further apart the parts are (Ford 1957).
pub fn bradley_terry(wins: &[Vec<f64>]) -> Option<Vec<f64>> {
    if wins.is_empty() || !is_strongly_connected(wins) {
        return None;
    }
    // The scale is free: the mean of the strengths stays at 0.
    let mut strengths = vec![0.0; wins.len()];
    let mut likelihood = log_likelihood(wins, &strengths);
    for _ in 0..200 {
        let mut step = newton_step(wins, &strengths)?;
        // Far from the optimum a whole step may go too far; near it, differences drown in rounding.
        let slack = 1e-13 * likelihood.abs();
        let (next, reached) = loop {
            let next: Vec<f64> = strengths.iter().zip(&step).map(|(r, s)| r + s).collect();
            let reached = log_likelihood(wins, &next);
            if reached >= likelihood - slack || step.iter().all(|s| s.abs() < 1e-13) {
                break (next, reached);
            }
            step.iter_mut().for_each(|s| *s /= 2.0);
        };
        (strengths, likelihood) = (next, reached);
        if step.iter().all(|s| s.abs() < 1e-13) {
            break;
        }
    }
    let mean = strengths.iter().sum::<f64>() / strengths.len() as f64;
    let points = SCALE / std::f64::consts::LN_10;
    let ratings = strengths.iter().map(|r| ANCHOR + points * (r - mean));
    Some(ratings.collect())
}

/// Whether every player is reached from every other one along wins.
fn is_strongly_connected(wins: &[Vec<f64>]) -> bool {
    let all_reached = |won: &dyn Fn(usize, usize) -> f64| {
        let mut reached = vec![false; wins.len()];
        let mut open = vec![0];
        reached[0] = true;
        while let Some(from) = open.pop() {
            for (to, reached) in reached.iter_mut().enumerate() {
                if won(from, to) > 0.0 && !*reached {
                    *reached = true;
                    open.push(to);
                }
            }
        }
        reached.into_iter().all(|reached| reached)
    };
    all_reached(&|i, j| wins[i][j]) && all_reached(&|i, j| wins[j][i])
}

/// `Σ wᵢⱼ ln σ(rᵢ − rⱼ)`.
fn log_likelihood(wins: &[Vec<f64>], strengths: &[f64]) -> f64 {
    let mut sum = 0.0;
    for (row, own) in wins.iter().zip(strengths) {
        for (won, other) in row.iter().zip(strengths) {
            let lead: f64 = own - other;
            // ln σ(x) without overflow on either side.
            sum += won * (lead.min(0.0) - (-lead.abs()).exp().ln_1p());
        }
    }
    sum
}

/// Newton's step from `strengths`; its sum is 0.
fn newton_step(wins: &[Vec<f64>], strengths: &[f64]) -> Option<Vec<f64>> {
    let n = wins.len();
    let mut gradient = vec![0.0; n];
    // All entries 1/n fix the free direction and change nothing else.
    let mut curvature = vec![vec![1.0 / n as f64; n]; n];
    for i in 0..n {
        for j in (0..n).filter(|j| *j != i) {
            let games = wins[i][j] + wins[j][i];
            let p = 1.0 / (1.0 + (strengths[j] - strengths[i]).exp());
            gradient[i] += wins[i][j] - games * p;
            let weight = games * p * (1.0 - p);
            curvature[i][i] += weight;
            curvature[i][j] -= weight;
        }
    }
    solve(curvature, gradient)
}

/// The solution of `matrix · x = right` for a symmetric positive definite matrix (Cholesky); `None` if it is none.
pub(crate) fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let n = right.len();
    for i in 0..n {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| matrix[i][k] * matrix[j][k]).sum();
            let rest = matrix[i][j] - known;
            if i > j {
                matrix[i][j] = rest / matrix[j][j];
            } else if rest > 0.0 {
                matrix[i][i] = rest.sqrt();
            } else {
                return None;
            }
        }
    }
    for i in 0..n {
        let known: f64 = (0..i).map(|k| matrix[i][k] * right[k]).sum();
        right[i] = (right[i] - known) / matrix[i][i];
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|k| matrix[k][i] * right[k]).sum();
        right[i] = (right[i] - known) / matrix[i][i];
    }
    Some(right)
}

/// The ratings moved so that player `anchor` has 1000.
pub fn anchored(ratings: &[f64], anchor: usize) -> Vec<f64> {
    let shift = ANCHOR - ratings[anchor];
    ratings.iter().map(|rating| rating + shift).collect()
}

/// The probability that a player of `rating` beats one of rating `against`.
pub fn win_probability(rating: f64, against: f64) -> f64 {
    1.0 / (1.0 + 10f64.powf((against - rating) / SCALE))
}

/// 95 % percentile intervals of the ratings with player `anchor` at 1000, (n,), over `rounds` rounds.
///
/// Verdicts are drawn with replacement by NumPy's generator from `seed`, round after round, so that the draws are those
/// of `numpy.random.seed(seed)` and pandas' `sample(frac=1, replace=True)` in Arena-Hard-Auto v0.1. `None` if a round has
/// no likeliest ratings (see [`bradley_terry`]).
pub fn bootstrap_ratings(
    battles: &[Battle],
    players: usize,
    anchor: usize,
    rounds: usize,
    seed: u32,
) -> Option<Vec<Interval>> {
    let mut random = Mt19937::of_numpy(seed);
    let mut drawn: Vec<Vec<f64>> = vec![Vec::with_capacity(rounds); players];
    for _ in 0..rounds {
        let round = (0..battles.len()).map(|_| battles[random.below(battles.len())]);
        let ratings = anchored(&bradley_terry(&wins(round, players))?, anchor);
        for (of_player, rating) in drawn.iter_mut().zip(ratings) {
            of_player.push(rating);
        }
    }
    let intervals = drawn.into_iter().map(percentile_interval);
    (rounds > 0).then(|| intervals.collect())
}

/// What standing first is worth to a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PositionBias {
    /// Verdicts for what stood first.
    pub first: usize,
    /// For what stood second.
    pub second: usize,
    /// For neither.
    pub ties: usize,
    /// Pairs that were judged in both orders.
    pub both_orders: usize,
    /// Of these: the same verdict on the replies.
    pub same: usize,
    /// Of these: what stood first won both times.
    pub first_twice: usize,
    /// Of these: what stood second won both times.
    pub second_twice: usize,
}

impl PositionBias {
    /// Counts a verdict.
    pub fn add(&mut self, winner: Winner) {
        match winner {
            Winner::First => self.first += 1,
            Winner::Second => self.second += 1,
            Winner::Tie => self.ties += 1,
        }
    }

    /// Counts what the two orders of a pair say together; the verdicts themselves are [`add`](Self::add)ed.
    pub fn add_both(&mut self, one: Winner, swapped: Winner) {
        self.both_orders += 1;
        match (one, swapped) {
            (Winner::First, Winner::First) => self.first_twice += 1,
            (Winner::Second, Winner::Second) => self.second_twice += 1,
            (Winner::First, Winner::Second)
            | (Winner::Second, Winner::First)
            | (Winner::Tie, Winner::Tie) => self.same += 1,
            _ => {}
        }
    }

    /// The share of decided verdicts that what stood first won; one half is no bias. `None` if none was decided.
    pub fn first_share(&self) -> Option<f64> {
        let decided = self.first + self.second;
        (decided > 0).then(|| self.first as f64 / decided as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn battle(first: usize, second: usize, winner: Winner) -> Battle {
        Battle {
            first,
            second,
            winner,
        }
    }

    // Two players: the odds are those of the wins, 3 to 1, so 400·log10(3) points.
    #[test]
    fn two_players_stand_apart_by_their_odds() {
        let battles = [
            battle(0, 1, Winner::First),
            battle(1, 0, Winner::Second),
            battle(0, 1, Winner::Tie),
            battle(0, 1, Winner::Tie),
        ];
        let wins = wins(battles, 2);
        assert_eq!(wins, [vec![0.0, 3.0], vec![1.0, 0.0]]);
        let ratings = bradley_terry(&wins).unwrap();
        assert!((ratings[0] - ratings[1] - 400.0 * 3f64.log10()).abs() < 1e-10);
        assert!((ratings[0] + ratings[1] - 2000.0).abs() < 1e-10);
        assert!((win_probability(ratings[0], ratings[1]) - 0.75).abs() < 1e-14);
        assert!((anchored(&ratings, 1)[1] - 1000.0).abs() < 1e-12);
    }

    // tests/golden/judged: 43,011 verdicts on 11 models; ratings by NumPy, which agree with scikit-learn's to 4e-12.
    #[test]
    fn ratings_of_forty_thousand_verdicts_are_the_exact_ones() {
        let read = |name: &str| -> serde_json::Value {
            let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(root.join("tests/golden/judged").join(name));
            serde_json::from_str(&text.unwrap()).unwrap()
        };
        let numbers = |list: &serde_json::Value| -> Vec<f64> {
            let list = list.as_array().unwrap().iter();
            list.map(|number| number.as_f64().unwrap()).collect()
        };
        let (counted, rated) = (&read("own.json")["wins"], read("bt.json"));
        for (bench, players) in [("all", 11), ("oa", 7), ("vicuna", 8)] {
            let wins = counted[bench]["wins"].as_array().unwrap();
            let wins: Vec<Vec<f64>> = wins.iter().map(numbers).collect();
            assert_eq!(wins.len(), players);
            let ratings = bradley_terry(&wins).unwrap();
            let want = numbers(&rated[bench]["ratings"]);
            let anchor = counted[bench]["models"].as_array().unwrap().iter();
            let anchor = anchor
                .into_iter()
                .position(|m| *m == rated[bench]["anchor"])
                .unwrap();
            let rates = numbers(&rated[bench]["win_rate_vs_anchor"]);
            for i in 0..players {
                assert!((ratings[i] - want[i]).abs() < 1e-8, "{bench} {i}");
                let rate = 100.0 * win_probability(ratings[i], ratings[anchor]);
                assert!((rate - rates[i]).abs() < 1e-8, "{bench} {i}");
            }
        }
    }

    // At the optimum every player has won as much as was to be expected.
    #[test]
    fn at_the_optimum_wins_are_as_expected_even_if_they_are_lopsided() {
        let wins = vec![
            vec![0.0, 9_000.0, 2.0, 1.0],
            vec![1.0, 0.0, 700.0, 0.5],
            vec![0.0, 3.0, 0.0, 40.0],
            vec![0.0, 0.5, 1.0, 0.0],
        ];
        let ratings = bradley_terry(&wins).unwrap();
        for i in 0..4 {
            let others = (0..4).filter(|j| *j != i);
            let missing = others.map(|j| {
                let games = wins[i][j] + wins[j][i];
                wins[i][j] - games * win_probability(ratings[i], ratings[j])
            });
            assert!(missing.sum::<f64>().abs() < 1e-9, "{i}: {ratings:?}");
        }
    }

    #[test]
    fn without_a_way_back_there_are_no_likeliest_ratings() {
        let always = [battle(0, 1, Winner::First), battle(1, 2, Winner::First)];
        assert_eq!(bradley_terry(&wins(always, 3)), None);
        assert_eq!(bradley_terry(&wins([], 2)), None);
        assert_eq!(bradley_terry(&[]), None);
        assert_eq!(bootstrap_ratings(&always, 3, 0, 3, 42), None);
        let around = [always[0], always[1], battle(2, 0, Winner::First)];
        let ratings = bradley_terry(&wins(around, 3)).unwrap();
        assert!(
            ratings.iter().all(|r| (r - 1000.0).abs() < 1e-12),
            "{ratings:?}"
        );
    }

    #[test]
    fn bias_is_counted_verdict_by_verdict_and_pair_by_pair() {
        let mut bias = PositionBias::default();
        for (one, swapped) in [
            (Winner::First, Winner::First),
            (Winner::First, Winner::Second),
            (Winner::Second, Winner::Second),
            (Winner::Tie, Winner::First),
            (Winner::Tie, Winner::Tie),
        ] {
            bias.add(one);
            bias.add(swapped);
            bias.add_both(one, swapped);
        }
        let want = PositionBias {
            first: 4,
            second: 3,
            ties: 3,
            both_orders: 5,
            same: 2,
            first_twice: 1,
            second_twice: 1,
        };
        assert_eq!(bias, want);
        assert_eq!(bias.first_share(), Some(4.0 / 7.0));
        assert_eq!(PositionBias::default().first_share(), None);
    }
}
