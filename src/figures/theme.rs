//! Colours, sizes, markers and dashes.
//!
//! Series differ by colour (Okabe and Ito's colour-blind safe set, ordered so that neighbours also
//! differ in lightness), by marker and by dash or hatch, so that figures read in grey and to
//! colour-blind eyes.

use plotters::style::RGBColor;

/// Ink of titles and values.
pub(crate) const INK: RGBColor = RGBColor(0x1F, 0x23, 0x28);
/// Ink of labels and notes.
pub(crate) const SOFT_INK: RGBColor = RGBColor(0x57, 0x60, 0x6A);
/// Axis lines and ticks.
pub(crate) const AXIS: RGBColor = RGBColor(0x8C, 0x95, 0x9F);
/// Grid lines.
pub(crate) const GRID: RGBColor = RGBColor(0xE6, 0xE9, 0xED);
/// Background.
pub(crate) const PAPER: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);

/// Width of every figure, pixels: that of a page's text column (`report/page.css`).
pub(crate) const WIDTH: f64 = 760.0;
/// Width of a figure on a telephone, pixels: 390 less the margins of the page.
pub(crate) const NARROW_WIDTH: f64 = 358.0;
/// Space around a figure on a telephone, pixels.
pub(crate) const NARROW_MARGIN: f64 = 8.0;
/// Height of the plot of a single panel, pixels.
pub(crate) const PLOT_HEIGHT: f64 = 300.0;
/// Height of the plots of several panels, pixels: two rows of them fit a screen.
pub(crate) const SMALL_PLOT_HEIGHT: f64 = 210.0;
/// Space around the figure, pixels.
pub(crate) const MARGIN: f64 = 20.0;
/// Space between panels, pixels.
pub(crate) const GUTTER: f64 = 36.0;

/// Em of the figure's title, pixels. Sizes fall to the notes, which are the smallest that is read on
/// paper when a figure is set to the width of a column.
pub(crate) const TITLE_EM: f64 = 16.0;
/// Em of panel titles and legends, pixels.
pub(crate) const LEGEND_EM: f64 = 12.5;
/// Em of axis labels, pixels.
pub(crate) const LABEL_EM: f64 = 12.0;
/// Em of tick labels, pixels.
pub(crate) const TICK_EM: f64 = 11.5;
/// Height of a line of a row's name, pixels.
pub(crate) const ROW_LINE: f64 = 13.0;
/// Em of notes below, pixels.
pub(crate) const NOTE_EM: f64 = 11.0;

/// The shape of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A disc.
    Disc,
    /// A square.
    Square,
    /// A triangle on its base.
    Triangle,
    /// A square on its corner.
    Diamond,
    /// A triangle on its tip.
    Wedge,
    /// A cross.
    Cross,
}

/// Lines drawn into a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hatch {
    /// None.
    Plain,
    /// Rising to the right.
    Rising,
    /// Horizontal.
    Level,
    /// Falling to the right.
    Falling,
    /// Rising and falling.
    Crossed,
}

/// How one series looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Its colour.
    pub color: RGBColor,
    /// Its marker.
    pub marker: Marker,
    /// On and off lengths of its line, pixels; empty: solid.
    pub dash: &'static [f64],
    /// The hatch of its bars.
    pub hatch: Hatch,
}

const fn look(color: RGBColor, marker: Marker, dash: &'static [f64], hatch: Hatch) -> Look {
    Look {
        color,
        marker,
        dash,
        hatch,
    }
}

const LOOKS: [Look; 8] = [
    look(RGBColor(0x00, 0x5F, 0xA3), Marker::Disc, &[], Hatch::Plain),
    look(
        RGBColor(0xE6, 0x8A, 0x00),
        Marker::Square,
        &[7.0, 4.0],
        Hatch::Rising,
    ),
    look(
        RGBColor(0x00, 0x8F, 0x68),
        Marker::Triangle,
        &[2.0, 3.0],
        Hatch::Level,
    ),
    look(
        RGBColor(0xC4, 0x5F, 0x98),
        Marker::Diamond,
        &[9.0, 3.0, 2.0, 3.0],
        Hatch::Falling,
    ),
    look(
        RGBColor(0x4D, 0xB0, 0xE3),
        Marker::Wedge,
        &[4.0, 2.0],
        Hatch::Crossed,
    ),
    look(
        RGBColor(0xC2, 0x4A, 0x00),
        Marker::Cross,
        &[12.0, 4.0],
        Hatch::Plain,
    ),
    look(
        RGBColor(0x5C, 0x5C, 0x66),
        Marker::Disc,
        &[2.0, 2.0],
        Hatch::Rising,
    ),
    look(
        RGBColor(0x9A, 0x8A, 0x1F),
        Marker::Square,
        &[],
        Hatch::Level,
    ),
];

/// The look of series `index`; after eight they repeat.
pub(crate) fn series_look(index: usize) -> Look {
    LOOKS[index % LOOKS.len()]
}

/// The looks of series by what they show (`loss-mask = all-tokens`), so that a value has one colour in every figure
/// of every report, whichever other values stand beside it. Each name has a look of its own that a digest of it
/// picks; of names that would share one, the later in the alphabet takes the next that is free.
pub fn looks_of(names: &[String]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by(|a, b| names[*a].cmp(&names[*b]));
    let mut looks = vec![0; names.len()];
    let mut taken = [0usize; LOOKS.len()];
    for (round, index) in order.into_iter().enumerate() {
        let own = digest(&names[index]) as usize % LOOKS.len();
        let mut places = (0..LOOKS.len()).map(|step| (own + step) % LOOKS.len());
        let full = round / LOOKS.len();
        let free = places.find(|place| taken[*place] <= full);
        let place = free.unwrap_or(own);
        taken[place] = full + 1;
        looks[index] = place;
    }
    looks
}

/// FNV-1a, begun so that values which are often compared (strengths of β, kinds of packing and masks) get looks of
/// their own that differ in lightness.
fn digest(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(LOOKS_BEGIN, step) >> 41
}

/// Where the digests of names begin.
const LOOKS_BEGIN: u64 = 0xcbf2_9ce4_8422_3db7;

/// On and off lengths of a fitted line: dots.
pub(crate) const FIT_DASH: &[f64] = &[2.2, 3.6];

/// Looks that differ from one another.
pub(crate) const DISTINCT_LOOKS: usize = LOOKS.len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_series_differ_in_colour_marker_and_line() {
        for pair in LOOKS.windows(2) {
            assert_ne!(pair[0].color, pair[1].color);
            assert_ne!(pair[0].marker, pair[1].marker);
            assert_ne!(pair[0].dash, pair[1].dash);
        }
    }

    // Relative luminance (WCAG), without gamma.
    fn luminance(c: RGBColor) -> f64 {
        0.2126 * f64::from(c.0) + 0.7152 * f64::from(c.1) + 0.0722 * f64::from(c.2)
    }

    // The first two series must differ in print without colour.
    #[test]
    fn the_first_series_differ_in_lightness() {
        let [a, b, c] = [0, 1, 2].map(|i| luminance(LOOKS[i].color));
        assert!((a - b).abs() > 40.0 && (b - c).abs() > 25.0, "{a} {b} {c}");
    }
}
