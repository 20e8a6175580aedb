//! The embedded font: Inter, in two weights, subset to the characters a figure needs.

use plotters::style::{FontDesc, FontFamily, FontStyle, register_font};
use std::sync::OnceLock;

/// Inter Regular, OpenType.
pub(crate) const FONT_REGULAR: &[u8] = include_bytes!("../../assets/fonts/Inter-Regular.otf");
/// Inter SemiBold, OpenType.
pub(crate) const FONT_SEMIBOLD: &[u8] = include_bytes!("../../assets/fonts/Inter-SemiBold.otf");
/// Inter Regular for web pages, WOFF2.
pub const FONT_REGULAR_WOFF2: &[u8] = include_bytes!("../../assets/fonts/Inter-Regular.woff2");
/// Inter SemiBold for web pages, WOFF2.
pub const FONT_SEMIBOLD_WOFF2: &[u8] = include_bytes!("../../assets/fonts/Inter-SemiBold.woff2");

/// The font's family name.
pub(crate) const FAMILY: &str = "Inter";

/// plotters' font size is that of its bitmap renderer: 1.24 times the em.
pub(crate) const PLOTTERS_EM: f64 = 1.24;
/// Its text measure scales by ascent minus descent, which is 1.21 em in Inter.
const INTER_HEIGHT_EM: f64 = 3408.0 / 2816.0;

/// How heavy a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Running text.
    Regular,
    /// Titles and what stands out.
    Semibold,
}

impl Weight {
    pub(crate) fn style(self) -> FontStyle {
        match self {
            Self::Regular => FontStyle::Normal,
            Self::Semibold => FontStyle::Bold,
        }
    }
}

/// The characters of `text` that the font has not, each once: other programs draw them with fonts of their own, a PNG
/// leaves them out.
pub fn lacking(text: &str) -> String {
    static FACE: OnceLock<Option<ttf_parser::Face<'static>>> = OnceLock::new();
    let face = FACE.get_or_init(|| ttf_parser::Face::parse(FONT_REGULAR, 0).ok());
    let Some(face) = face else {
        return String::new();
    };
    let mut found = String::new();
    for c in text.chars() {
        if !c.is_control() && face.glyph_index(c).is_none() && !found.contains(c) {
            found.push(c);
        }
    }
    found
}

/// Makes the font known to plotters, once; false if it refused the bytes.
fn registered() -> bool {
    static DONE: OnceLock<bool> = OnceLock::new();
    *DONE.get_or_init(|| {
        register_font(FAMILY, FontStyle::Normal, FONT_REGULAR).is_ok()
            && register_font(FAMILY, FontStyle::Bold, FONT_SEMIBOLD).is_ok()
    })
}

/// plotters' description of the font at `em` pixels per em.
pub(crate) fn describe(em: f64, weight: Weight) -> FontDesc<'static> {
    registered();
    FontDesc::new(FontFamily::Name(FAMILY), em * PLOTTERS_EM, weight.style())
}

/// Width of `text` in pixels at `em` pixels per em, without kerning (which would make it a little
/// narrower).
pub(crate) fn text_width(text: &str, em: f64, weight: Weight) -> f64 {
    // Measured large, because plotters rounds to whole pixels.
    let large = 1000.0;
    let width = describe(large, weight)
        .layout_box(text)
        .map_or(0, |(_, (right, _))| right);
    let measured = f64::from(width) / large * (INTER_HEIGHT_EM / PLOTTERS_EM);
    // A character outside the subset is drawn by another font; assume one as wide as "0".
    if measured > 0.0 {
        measured * em
    } else {
        text.chars().count() as f64 * 0.62 * em
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_that_the_font_has_not_are_found() {
        assert_eq!(lacking("β = 0.1 ≥ 95 %, é\n"), "");
        assert_eq!(lacking("大きい大 🙂 سلام"), "大きい🙂سلام");
    }

    // The advance width of "0" in Inter Regular is 1760 of 2816 units (read with fontTools).
    #[test]
    fn text_is_measured_with_the_embedded_font() {
        assert!(registered());
        let one = text_width("0", 10.0, Weight::Regular);
        assert!((one - 10.0 * 1760.0 / 2816.0).abs() < 0.05, "{one}");
        assert!((text_width("00", 10.0, Weight::Regular) - 2.0 * one).abs() < 0.05);
        assert!(text_width("0", 10.0, Weight::Semibold) > one);
    }
}
