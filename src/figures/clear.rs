//! Where a label may stand: on nothing that is drawn.

/// A rectangle from its left top to its right bottom corner, pixels.
pub(crate) type Corners = ((f64, f64), (f64, f64));

/// The lines that labels must not cover.
#[derive(Debug, Default)]
pub(crate) struct Taken(Vec<[(f64, f64); 2]>);

impl Taken {
    /// A line through points is drawn.
    pub(crate) fn line(&mut self, points: &[(f64, f64)]) {
        self.0
            .extend(points.windows(2).map(|pair| [pair[0], pair[1]]));
    }

    /// A rectangle is filled, by a mark or a label.
    pub(crate) fn fill(&mut self, ((left, top), (right, bottom)): Corners) {
        // Its edges and one diagonal: what lies inside of it wholly is met by that.
        let corners = [
            (left, top),
            (right, top),
            (right, bottom),
            (left, bottom),
            (left, top),
            (right, bottom),
        ];
        self.line(&corners);
    }

    /// Whether no line enters the rectangle.
    pub(crate) fn is_free(&self, corners: Corners) -> bool {
        !self.0.iter().any(|line| enters(*line, corners))
    }
}

/// Whether a part of the line lies in the rectangle (Liang and Barsky's clipping).
fn enters([a, b]: [(f64, f64); 2], ((left, top), (right, bottom)): Corners) -> bool {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let edges = [
        (-dx, a.0 - left),
        (dx, right - a.0),
        (-dy, a.1 - top),
        (dy, bottom - a.1),
    ];
    let (mut from, mut to) = (0.0f64, 1.0f64);
    for (way, room) in edges {
        if way == 0.0 {
            if room < 0.0 {
                return false;
            }
        } else if way < 0.0 {
            from = from.max(room / way);
        } else {
            to = to.min(room / way);
        }
    }
    from <= to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_free_beside_lines_and_not_on_them() {
        let mut taken = Taken::default();
        taken.line(&[(0.0, 0.0), (10.0, 10.0), (10.0, 30.0)]);
        assert!(!taken.is_free(((4.0, 4.0), (6.0, 6.0))));
        assert!(!taken.is_free(((8.0, 20.0), (12.0, 22.0))));
        assert!(taken.is_free(((6.0, 0.0), (12.0, 5.0))));
        assert!(taken.is_free(((0.0, 12.0), (9.0, 40.0))));
        taken.fill(((6.0, 0.0), (12.0, 5.0)));
        assert!(
            !taken.is_free(((7.0, 2.0), (11.0, 4.0))),
            "within a filled one"
        );
    }
}
