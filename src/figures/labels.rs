//! Text that fits: wrapping, legends, and labels pushed apart.

use crate::figures::canvas::{Align, Canvas, TextLook};
use crate::figures::font::{Weight, text_width};
use crate::figures::theme::{INK, LEGEND_EM, SOFT_INK};

/// Running text of a colour and size, left-aligned.
pub(crate) fn regular(em: f64, color: plotters::style::RGBColor) -> TextLook {
    TextLook {
        em,
        weight: Weight::Regular,
        color,
        align: Align::Left,
    }
}

/// Breaks `text` into lines no wider than `width`, at spaces, else after `=`, `-`, `/`, `_`, `,`,
/// else anywhere.
pub(crate) fn wrap(text: &str, width: f64, em: f64, weight: Weight) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for piece in pieces(text) {
        let joined = format!("{line}{piece}");
        if text_width(joined.trim_end(), em, weight) <= width {
            line = joined;
            continue;
        }
        push_line(&mut lines, &line);
        line = String::new();
        for c in piece.chars() {
            if !line.is_empty() && text_width(&format!("{line}{c}"), em, weight) > width {
                push_line(&mut lines, &line);
                line = String::new();
            }
            line.push(c);
        }
    }
    push_line(&mut lines, &line);
    lines
}

/// Whether [`wrap`] has to break `text` where it has no place for it.
pub(crate) fn breaks_words(text: &str, width: f64, em: f64, weight: Weight) -> bool {
    let too_wide = |piece: &&str| text_width(piece.trim_end(), em, weight) > width;
    pieces(text).iter().any(too_wide)
}

fn push_line(lines: &mut Vec<String>, line: &str) {
    let line = line.trim();
    if !line.is_empty() {
        lines.push(line.to_owned());
    }
}

/// Parts after which a line may break, each with its trailing separator: not within `95 %`, `0.942 ± 0.032` or
/// `β = 0.1`.
fn pieces(text: &str) -> Vec<&str> {
    const BOUND: [&str; 3] = ["%", "±", "="];
    let binds = |word: &str| BOUND.iter().any(|sign| word.starts_with(sign));
    let mut pieces: Vec<&str> = Vec::new();
    let (mut start, mut end) = (0, 0);
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    for (index, word) in words.iter().enumerate() {
        end += word.len();
        let next = words.get(index + 1).is_some_and(|next| binds(next));
        if next || (word.len() > 1 && matches!(word.trim_end(), "±" | "=")) {
            continue;
        }
        let whole = &text[start..end];
        start = end;
        if whole.trim_end().contains(' ') {
            pieces.push(whole);
        } else {
            pieces.extend(whole.split_inclusive(['=', '-', '/', '_', ',']));
        }
    }
    pieces.extend((start < text.len()).then(|| &text[start..]));
    pieces
}

/// The longest beginning of `text` that fits, with an ellipsis if it was cut.
pub(crate) fn shorten(text: &str, width: f64, em: f64) -> String {
    if text_width(text, em, Weight::Regular) <= width {
        return text.to_owned();
    }
    let mut cut = text.to_owned();
    while cut.pop().is_some() && text_width(&format!("{cut}…"), em, Weight::Regular) > width {}
    format!("{}…", cut.trim_end())
}

/// Moves positions apart so that neighbours are at least `gap` from each other and all lie within
/// `low..=high` if there is room; order is kept.
pub(crate) fn spread(positions: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..positions.len()).collect();
    order.sort_by(|a, b| positions[*a].total_cmp(&positions[*b]).then(a.cmp(b)));
    // Clusters of touching labels, each centred on the mean of its wishes.
    let mut clusters: Vec<(f64, usize)> = Vec::new(); // (first position, size)
    let place = |wishes: &[f64]| {
        let n = wishes.len() as f64;
        let first = wishes.iter().sum::<f64>() / n - gap * (n - 1.0) / 2.0;
        first.min(high - gap * (n - 1.0)).max(low)
    };
    let sorted: Vec<f64> = order.iter().map(|i| positions[*i]).collect();
    for (end, wish) in sorted.iter().enumerate() {
        clusters.push((place(&[*wish]), 1));
        while let [.., (before, size), (after, more)] = clusters[..] {
            if before + gap * size as f64 <= after {
                break;
            }
            clusters.pop();
            clusters.pop();
            let joined = size + more;
            clusters.push((place(&sorted[end + 1 - joined..=end]), joined));
        }
    }
    let mut placed = vec![0.0; positions.len()];
    let mut next = order.into_iter();
    for (first, size) in clusters {
        for k in 0..size {
            if let Some(index) = next.next() {
                placed[index] = first + gap * k as f64;
            }
        }
    }
    placed
}

/// Width of what stands for a series in a legend, pixels: a dash and its gap show twice.
pub(crate) const SWATCH: f64 = 26.0;
/// Height of a line of a legend, pixels.
const LEGEND_ROW: f64 = 20.0;

/// Positions of legend entries that flow from left to right within `width`, and their height.
pub(crate) fn flow(names: &[String], width: f64) -> (Vec<(f64, f64)>, f64) {
    let (mut x, mut y) = (0.0, 0.0);
    let mut places = Vec::new();
    for name in names {
        let wide =
            SWATCH + 6.0 + text_width(name, LEGEND_EM, Weight::Regular).min(width - SWATCH - 6.0);
        if x > 0.0 && x + wide > width {
            (x, y) = (0.0, y + LEGEND_ROW);
        }
        places.push((x, y));
        x += wide + 20.0;
    }
    (
        places,
        if names.is_empty() {
            0.0
        } else {
            y + LEGEND_ROW
        },
    )
}

/// Draws a legend at `origin`; `swatch` draws what stands for a name, from its left end on, around
/// its middle.
pub(crate) fn legend(
    canvas: &mut Canvas<'_>,
    names: &[String],
    origin: (f64, f64),
    width: f64,
    swatch: impl Fn(&mut Canvas<'_>, usize, f64, f64),
) {
    let (places, _) = flow(names, width);
    for (index, (name, (dx, dy))) in names.iter().zip(places).enumerate() {
        let (x, y) = (origin.0 + dx, origin.1 + dy + LEGEND_ROW / 2.0);
        swatch(canvas, index, x, y);
        let text = shorten(name, width - SWATCH - 6.0, LEGEND_EM);
        canvas.text(&text, x + SWATCH + 6.0, y + 4.4, regular(LEGEND_EM, INK));
    }
}

/// Draws lines of running text from `top` down; returns where they end.
pub(crate) fn paragraph(
    canvas: &mut Canvas<'_>,
    lines: &[String],
    origin: (f64, f64),
    em: f64,
) -> f64 {
    let mut y = origin.1;
    for line in lines {
        y += em * 1.4;
        canvas.text(line, origin.0, y - em * 0.35, regular(em, SOFT_INK));
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_lines_fit_and_lose_nothing_but_spaces() {
        let text =
            "batching=best-fit mask=assistant-only and an_extraordinarily_long_word_without_spaces";
        let lines = wrap(text, 90.0, 12.0, Weight::Regular);
        assert!(
            lines
                .iter()
                .all(|l| text_width(l, 12.0, Weight::Regular) <= 90.0),
            "{lines:?}"
        );
        let bare = |s: &str| s.replace(' ', "");
        assert_eq!(bare(&lines.concat()), bare(text));
        assert!(wrap("", 90.0, 12.0, Weight::Regular).is_empty());
    }

    #[test]
    fn a_value_is_not_parted_from_its_unit_or_half_width() {
        let whole = pieces("accuracy 0.942 ± 0.032, over 95 % of beta = 0.1 and a-b");
        assert_eq!(
            whole,
            [
                "accuracy ",
                "0.942 ± 0.032, ",
                "over ",
                "95 % ",
                "of ",
                "beta = 0.1 ",
                "and ",
                "a-",
                "b"
            ]
        );
    }

    #[test]
    fn labels_are_pushed_apart_but_not_out() {
        let got = spread(&[100.0, 102.0, 50.0, 101.0], 14.0, 0.0, 110.0);
        let mut sorted = got.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(sorted.windows(2).all(|w| w[1] - w[0] >= 13.99), "{got:?}");
        assert!(got.iter().all(|y| (0.0..=110.01).contains(y)), "{got:?}");
        assert!(got[0] < got[3] && got[3] < got[1], "order is kept: {got:?}");
        assert!((got[2] - 50.0).abs() < 1e-12);
    }

    #[test]
    fn a_long_name_is_cut_with_an_ellipsis() {
        let short = shorten("a very long name indeed", 60.0, 12.0);
        assert!(short.ends_with('…') && text_width(&short, 12.0, Weight::Regular) <= 60.0);
    }
}
