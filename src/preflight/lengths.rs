//! How long the rows of a file are in tokens, by those that went through template and tokenizer.

use crate::data::{FileRows, Message};
use crate::plan::Documents;

/// A row that went through template and tokenizer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// Which one of its file.
    pub(super) at: usize,
    /// Its tokens, of a pair those of the prompt and both replies.
    pub(super) tokens: usize,
    /// Those of replies among them.
    pub(super) replies: usize,
}

/// All rows of a file: one that was not measured takes as many tokens as its text says by the line that fits the measured ones
/// best. There are few of those, and every row's text is known: so the mean is that of all.
pub(super) fn lengths(rows: &FileRows, measured: &[Measured]) -> Documents {
    let texts: Vec<(f64, f64)> = (0..rows.len()).map(|at| chars(rows, at)).collect();
    let fit = |tokens: fn(&Measured) -> usize, chars: fn(&(f64, f64)) -> f64| {
        let points = measured.iter();
        let points = points.map(|row| (chars(&texts[row.at]), tokens(row) as f64));
        Line::through(&points.collect::<Vec<_>>())
    };
    let all = fit(|row| row.tokens, |text| text.0);
    let replies = fit(|row| row.replies, |text| text.1);
    let of_texts = texts.iter().map(|(chars, said)| {
        let tokens = all.at(*chars);
        (tokens, replies.at(*said).min(tokens))
    });
    let mut lengths: Vec<(f64, f64)> = of_texts.collect();
    for row in measured {
        lengths[row.at] = (row.tokens as f64, row.replies as f64);
    }
    Documents::of(lengths)
}

/// Characters of a row, and those of replies that are to be learnt among them.
fn chars(rows: &FileRows, at: usize) -> (f64, f64) {
    let count = |turns: &[Message], counts: fn(&Message) -> bool| {
        let turns = turns.iter().filter(|turn| counts(turn));
        turns
            .map(|turn| turn.content.chars().count())
            .sum::<usize>() as f64
    };
    if let Some(row) = rows.chats.get(at) {
        let learnt = |turn: &Message| turn.role == "assistant" && turn.train;
        return (count(&row.messages, |_| true), count(&row.messages, learnt));
    }
    let row = &rows.pairs[at - rows.chats.len()];
    let replies = count(&row.chosen, |_| true) + count(&row.rejected, |_| true);
    (count(&row.prompt, |_| true) + replies, replies)
}

/// Tokens by characters: a template writes some whatever the text is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Line {
    template: f64,
    per_char: f64,
}

impl Line {
    /// The line of least squares through characters and tokens; through the origin if texts are all of
    /// a length or more text takes fewer tokens.
    fn through(points: &[(f64, f64)]) -> Self {
        let mean = |of: fn(&(f64, f64)) -> f64| {
            points.iter().map(of).sum::<f64>() / points.len().max(1) as f64
        };
        let (x, y) = (mean(|p| p.0), mean(|p| p.1));
        let squares: f64 = points.iter().map(|p| (p.0 - x) * (p.0 - x)).sum();
        let products: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
        let per_char = products / squares;
        let template = y - per_char * x;
        if per_char > 0.0 && template > 0.0 {
            return Self { template, per_char };
        }
        let per_char = if x > 0.0 { y / x } else { 0.0 };
        Self {
            template: y - per_char * x,
            per_char,
        }
    }

    fn at(self, chars: f64) -> f64 {
        self.template + self.per_char * chars
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // 3 tokens and one for two characters; then by hand where that would make no sense.
    #[test]
    fn a_template_takes_tokens_whatever_the_text_is() {
        let of = Line::through;
        let line = of(&[(2.0, 4.0), (10.0, 8.0), (4.0, 5.0)]);
        assert!((line.template - 3.0).abs() < 1e-12 && (line.per_char - 0.5).abs() < 1e-12);
        assert!((of(&[(4.0, 8.0), (4.0, 10.0)]).at(8.0) - 18.0).abs() < 1e-12);
        assert!((of(&[(2.0, 8.0), (4.0, 4.0)]).at(3.0) - 6.0).abs() < 1e-12);
        assert!((of(&[(0.0, 5.0)]).at(7.0) - 5.0).abs() < 1e-12);
        assert!(of(&[]).at(7.0).abs() < 1e-12);
    }
}
