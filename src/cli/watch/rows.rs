//! Parts of lines: cells as wide as asked, bars, sparklines.

use crate::base::printable;
use crate::report::{cut_text, display_width};

/// Text of strangers on one line, safe for a terminal.
pub(crate) fn one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

/// Text cut or filled to a width.
pub(crate) fn left(text: &str, width: usize) -> String {
    let cut = cut_text(text, width);
    let blanks = width.saturating_sub(display_width(&cut));
    cut + &" ".repeat(blanks)
}

/// The same at the right edge; numbers are never cut.
pub(crate) fn right(text: &str, width: usize) -> String {
    " ".repeat(width.saturating_sub(display_width(text))) + text
}

/// Losses as blocks of eight heights, each the mean of its stretch.
pub(crate) fn spark(values: &[f64], width: usize) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let known: Vec<f64> = values
        .iter()
        .copied()
        .filter(|value| value.is_finite())
        .collect();
    let columns = width.min(known.len());
    if columns < 2 {
        return String::new();
    }
    let mean = |column: usize| {
        let (from, to) = (
            column * known.len() / columns,
            (column + 1) * known.len() / columns,
        );
        let part = &known[from..to];
        part.iter().sum::<f64>() / part.len() as f64
    };
    let means: Vec<f64> = (0..columns).map(mean).collect();
    let low = means.iter().copied().fold(f64::INFINITY, f64::min);
    let high = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let span = high - low;
    let height = |value: &f64| {
        if span > 0.0 {
            ((value - low) / span * 7.0).round() as usize
        } else {
            3
        }
    };
    means.iter().map(|value| BLOCKS[height(value)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_is_as_wide_as_its_values_or_its_place() {
        assert_eq!(spark(&[], 8), "");
        assert_eq!(spark(&[1.0], 8), "");
        assert_eq!(spark(&[0.0, 7.0], 8), "▁█");
        assert_eq!(spark(&[2.0, 2.0, 2.0], 8), "▄▄▄");
        let falling: Vec<f64> = (0..800).map(|i| -f64::from(i)).collect();
        assert_eq!(spark(&falling, 8), "█▇▆▅▄▃▂▁");
        assert_eq!(spark(&[1.0, f64::NAN, 2.0], 8), "▁█");
    }

    #[test]
    fn cells_are_as_wide_as_asked() {
        assert_eq!(left("a\u{3042}b", 5), "a\u{3042}b ");
        assert_eq!(display_width(&left("much too long", 6)), 6);
        assert_eq!(right("12", 4), "  12");
        assert_eq!(one_line("a\n\u{1b}[2J\u{202e}"), "a \u{fffd}[2J\u{fffd}");
    }
}
