//! Ranges, ticks and the mapping from values to pixels.

use crate::figures::data::Scale;
use crate::metrics::digits;

/// A rectangle in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub left: f64,
    /// Top edge.
    pub top: f64,
    /// Right edge.
    pub right: f64,
    /// Bottom edge.
    pub bottom: f64,
}

impl Rect {
    /// Its width.
    pub fn width(&self) -> f64 {
        self.right - self.left
    }

    /// Its height.
    pub fn height(&self) -> f64 {
        self.bottom - self.top
    }
}

/// A tick: where and what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// The value.
    pub value: f64,
    /// Its text.
    pub text: String,
}

/// A numeric axis: a range, its scale and ticks.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Lowest value shown.
    pub low: f64,
    /// Highest value shown.
    pub high: f64,
    /// Its scale.
    pub scale: Scale,
    /// Its ticks, inside the range.
    pub ticks: Vec<Tick>,
}

impl Axis {
    /// Where `value` lies between the ends, 0 to 1 inside the range.
    pub fn share(&self, value: f64) -> f64 {
        let f = |v: f64| match self.scale {
            Scale::Linear => v,
            Scale::Log => v.ln(),
        };
        (f(value) - f(self.low)) / (f(self.high) - f(self.low))
    }

    /// Pixel of `value` on a vertical axis along `plot`.
    pub fn y(&self, value: f64, plot: &Rect) -> f64 {
        plot.bottom - self.share(value) * plot.height()
    }

    /// Pixel of `value` on a horizontal axis along `plot`.
    pub fn x(&self, value: f64, plot: &Rect) -> f64 {
        plot.left + self.share(value) * plot.width()
    }
}

/// A linear axis from data `low` to `high` with about `count` ticks at round values.
///
/// `pinned` keeps zero as an end, for bars; otherwise the range is the data's with a little air.
pub(crate) fn linear_axis(low: f64, high: f64, pinned: bool, count: usize) -> Axis {
    let (mut low, mut high) = (low, high);
    if pinned {
        (low, high) = (low.min(0.0), high.max(0.0));
    }
    // Values that differ by rounding alone are one value, which needs a range of its own.
    if (high - low).abs() < 1e-12 * high.abs().max(1e-6) {
        let half = (high.abs() * 0.05).max(1e-3);
        (low, high) = if pinned {
            (low.min(0.0), high.max(half))
        } else {
            (low - half, high + half)
        };
    }
    // No mark touches the edge; more would waste the height of small panels.
    let air = (high - low) * 0.06;
    if !pinned || low < 0.0 {
        low -= air;
    }
    if !pinned || high > 0.0 {
        high += air;
    }
    let step = round_step((high - low) / count.max(1) as f64);
    let decimals = decimals_of(step);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    let ticks = (first..=last)
        .map(|k| {
            let value = k as f64 * step;
            Tick {
                value,
                text: number(value, decimals),
            }
        })
        .collect();
    Axis {
        low,
        high,
        scale: Scale::Linear,
        ticks,
    }
}

/// An x axis for numeric settings: ticks at the settings themselves if there are at most `most`.
pub(crate) fn settings_axis(values: &[f64], scale: Scale, most: usize) -> Axis {
    let mut values: Vec<f64> = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let (Some(&low), Some(&high)) = (values.first(), values.last()) else {
        return linear_axis(0.0, 1.0, false, 4);
    };
    if scale == Scale::Linear && values.len() > most {
        return linear_axis(low, high, false, 6);
    }
    let (low_end, high_end) = match scale {
        _ if low >= high => (low * 0.9 - 0.1, high * 1.1 + 0.1),
        Scale::Linear => (low - (high - low) * 0.05, high + (high - low) * 0.05),
        Scale::Log => (
            low / (high / low).powf(0.05),
            high * (high / low).powf(0.05),
        ),
    };
    let low_end = if scale == Scale::Log && low_end <= 0.0 {
        low / 2.0
    } else {
        low_end
    };
    let shown: Vec<f64> = if values.len() <= most {
        values
    } else {
        decades(low, high)
    };
    let ticks = shown
        .into_iter()
        .map(|value| Tick {
            value,
            text: setting(value),
        })
        .collect();
    Axis {
        low: low_end,
        high: high_end,
        scale,
        ticks,
    }
}

/// An x axis for measured quantities, with ticks at round values.
pub(crate) fn measured_axis(values: &[f64], scale: Scale) -> Axis {
    let ends = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
            (l.min(*v), h.max(*v))
        });
    let (low, high) = match ends {
        (low, high) if low > high => (1.0, 10.0),
        (low, high) if low >= high => (low * 0.9, high * 1.1 + f64::MIN_POSITIVE),
        ends => ends,
    };
    let mut axis = linear_axis(low, high, false, 6);
    if scale == Scale::Log {
        let air = (high / low).powf(0.05);
        (axis.low, axis.high, axis.scale) = (low / air, high * air, Scale::Log);
        let round = decades(axis.low, axis.high);
        // Within less than a decade, equal steps say more.
        if round.len() >= 3 {
            let tick = |value: f64| Tick {
                value,
                text: String::new(),
            };
            axis.ticks = round.into_iter().map(tick).collect();
        }
    } else if low >= 0.0 {
        axis.low = axis.low.max(0.0);
    }
    axis.ticks
        .retain(|t| (axis.low..=axis.high).contains(&t.value));
    for tick in &mut axis.ticks {
        tick.text = setting(rounded(tick.value));
    }
    axis
}

/// An axis over steps or positions that begins and ends with the data, along `width` pixels.
pub(crate) fn step_axis(xs: &[f64], width: f64) -> Axis {
    let (low, high) = xs
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| {
            (l.min(*x), h.max(*x))
        });
    if low >= high {
        return settings_axis(xs, Scale::Linear, 1);
    }
    // A tick of five digits with air around it takes about 55 pixels.
    let count = if width > 400.0 { 7 } else { 4 };
    let mut axis = linear_axis(low, high, false, count);
    (axis.low, axis.high) = (low, high);
    axis.ticks.retain(|t| (low..=high).contains(&t.value));
    axis
}

/// Without the dust of floating point: 12 significant digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.11e}").parse().unwrap_or(value)
}

/// 1, 2 and 5 times powers of ten within a range; only the powers if that is more than nine, which
/// is what fits below a plot of half the width.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let range = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let pick = |mantissas: &[f64]| -> Vec<f64> {
        let all = range
            .clone()
            .flat_map(|e| mantissas.iter().map(move |m| m * 10f64.powi(e)));
        all.filter(|v| (low * 0.999..=high * 1.001).contains(v))
            .collect()
    };
    let fine = pick(&[1.0, 2.0, 5.0]);
    if fine.len() <= 9 { fine } else { pick(&[1.0]) }
}

/// The smallest of 1, 2, 2.5, 5, 10 times a power of ten that is not much below `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .find(|f| f * power >= step * 0.8);
    factor.unwrap_or(10.0) * power
}

/// Decimals that show multiples of a round step exactly.
fn decimals_of(step: f64) -> usize {
    (0..12)
        .find(|d| {
            let scaled = step * 10f64.powi(*d);
            (scaled - scaled.round()).abs() < 1e-6 * scaled.max(1.0)
        })
        .unwrap_or(12) as usize
}

/// A number with thousands apart by a thin space.
fn number(value: f64, decimals: usize) -> String {
    let text = digits(value, decimals);
    let end = text.find('.').unwrap_or(text.len());
    let start = text.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
    if end - start <= 4 {
        return text;
    }
    let mut grouped = text[..start].to_owned();
    for (i, c) in text[start..end].chars().enumerate() {
        if i > 0 && (end - start - i).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(c);
    }
    grouped + &text[end..]
}

/// A setting as a person writes it: the shortest decimal that reads back.
pub(crate) fn setting(value: f64) -> String {
    if value != 0.0 && !(1e-4..1e6).contains(&value.abs()) {
        let text = format!("{value:e}");
        return text.replace('-', "−");
    }
    let text = format!("{value}");
    let decimals = text.split_once('.').map_or(0, |(_, d)| d.len());
    number(value, decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|t| t.text.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_inside_the_range() {
        let axis = linear_axis(1.41, 1.62, false, 5);
        assert_eq!(texts(&axis), ["1.40", "1.45", "1.50", "1.55", "1.60"]);
        assert!(axis.low < 1.41 && axis.high > 1.62);
        let bars = linear_axis(0.84, 0.92, true, 5);
        assert_eq!((bars.low, texts(&bars)[0]), (0.0, "0.0"));
        assert_eq!(texts(&linear_axis(-0.02, 0.03, false, 5))[0], "−0.02");
    }

    #[test]
    fn settings_are_their_own_ticks_and_log_keeps_ratios() {
        let axis = settings_axis(&[0.5, 0.01, 0.1, 0.05], Scale::Log, 8);
        assert_eq!(texts(&axis), ["0.01", "0.05", "0.1", "0.5"]);
        let gap = |a: f64, b: f64| axis.share(b) - axis.share(a);
        assert!((gap(0.01, 0.05) - gap(0.1, 0.5)).abs() < 1e-12);
    }

    #[test]
    fn a_single_value_still_has_a_range() {
        for axis in [
            linear_axis(2.0, 2.0, false, 5),
            linear_axis(0.0, 0.0, true, 5),
            settings_axis(&[0.1], Scale::Log, 8),
        ] {
            assert!(
                axis.high > axis.low && axis.share(axis.low) == 0.0,
                "{axis:?}"
            );
            assert!(axis.scale == Scale::Linear || axis.low > 0.0);
        }
    }

    #[test]
    fn measured_quantities_get_round_ticks() {
        let flops = measured_axis(&[3.1e10, 2.4e11, 1.9e12], Scale::Log);
        assert_eq!(
            texts(&flops),
            ["5e10", "1e11", "2e11", "5e11", "1e12", "2e12"]
        );
        let narrow = measured_axis(&[1.1e11, 1.6e11], Scale::Log);
        assert_eq!(
            texts(&narrow),
            ["1.1e11", "1.2e11", "1.3e11", "1.4e11", "1.5e11", "1.6e11"]
        );
        let steps = measured_axis(&[20.0, 116.0], Scale::Linear);
        assert_eq!(texts(&steps), ["20", "40", "60", "80", "100", "120"]);
        let one = measured_axis(&[5.0], Scale::Log);
        assert!(one.low < 5.0 && one.high > 5.0);
    }

    #[test]
    fn large_numbers_are_grouped_and_small_ones_exact() {
        assert_eq!(setting(1_000_000.0), "1e6");
        assert_eq!(setting(12_345.0), "12\u{202f}345");
        assert_eq!(setting(0.05), "0.05");
        assert_eq!(setting(2e-5), "2e−5");
        assert_eq!(number(-12_345.5, 1), "−12\u{202f}345.5");
    }
}
