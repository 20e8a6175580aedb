//! Text in aligned columns, for a terminal.

use unicode_width::UnicodeWidthStr as _;

/// Which side of a column its texts touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextAlign {
    /// The left side.
    Left,
    /// The right side.
    Right,
}

/// Columns of a terminal that a text takes: two for each wide character (Chinese, Japanese, Korean,
/// emoji), none for combining ones and for colour codes.
pub fn display_width(text: &str) -> usize {
    let mut width = 0;
    let mut rest = text;
    // Whole pieces between the codes, because an emoji may be several characters.
    while let Some((before, code)) = rest.split_once('\u{1b}') {
        width += before.width();
        rest = code.split_once('m').map_or("", |(_, after)| after);
    }
    width + rest.width()
}

/// The width of each column of rows that may differ in length.
pub fn column_widths<'a>(rows: impl IntoIterator<Item = &'a Vec<String>>) -> Vec<usize> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = display_width(cell).max(*width);
        }
    }
    widths
}

/// One row as a line without blanks at its end; `column` says what stands before a column and how
/// it is aligned.
pub fn text_row<'a>(
    row: &[String],
    widths: &[usize],
    column: impl Fn(usize) -> (&'a str, TextAlign),
) -> String {
    let mut line = String::new();
    for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
        let (separator, align) = column(index);
        let gap = " ".repeat(width.saturating_sub(display_width(cell)));
        line += separator;
        line += &match align {
            TextAlign::Left => format!("{cell}{gap}"),
            TextAlign::Right => format!("{gap}{cell}"),
        };
    }
    line.trim_end().to_owned()
}

/// Rows as lines of left-aligned columns, two spaces apart.
pub fn text_columns(rows: &[Vec<String>]) -> Vec<String> {
    let widths = column_widths(rows);
    let column = |index| (if index == 0 { "" } else { "  " }, TextAlign::Left);
    rows.iter()
        .map(|row| text_row(row, &widths, column))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Two columns each: 日, 本, the thumb with its skin, the family of three joined ones; one each:
    // é of two characters, a.
    #[test]
    fn wide_and_combining_characters_take_the_room_they_take() {
        assert_eq!(display_width("日本"), 4);
        assert_eq!(display_width("e\u{301}a"), 2);
        assert_eq!(display_width("👍🏽"), 2);
        assert_eq!(display_width("👨\u{200d}👩\u{200d}👧"), 2);
        assert_eq!(display_width("\u{1b}[1;32m日\u{1b}[0m!"), 3);
        assert_eq!(display_width("cut \u{1b}[3"), 4);
    }

    #[test]
    fn columns_align_and_ignore_colour() {
        let rows = [
            vec!["\u{1b}[32mok\u{1b}[0m".to_owned(), "x".to_owned()],
            vec!["failed".to_owned(), "y".to_owned()],
        ];
        assert_eq!(
            text_columns(&rows),
            ["\u{1b}[32mok\u{1b}[0m      x", "failed  y"]
        );
    }

    #[test]
    fn columns_of_wide_text_stand_below_each_other() {
        let rows = ["日本語 👍", "e\u{301}té", "plain text"];
        let rows = rows.map(|text| vec![text.to_owned(), "|".to_owned()]);
        for line in text_columns(&rows) {
            assert_eq!(display_width(&line), 10 + 2 + 1, "{line:?}");
        }
        let widths = column_widths(&rows);
        let right = text_row(&rows[0], &widths, |_| ("", TextAlign::Right));
        assert_eq!(right, " 日本語 👍|");
    }

    #[test]
    fn rows_may_end_early() {
        let rows = [vec!["a".to_owned()], vec!["bb".to_owned(), "c".to_owned()]];
        assert_eq!(text_columns(&rows), ["a", "bb  c"]);
    }
}
