//! Parabolas through measured points.

/// `a + b·x + c·x²`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parabola {
    /// Value at zero.
    pub a: f64,
    /// Slope at zero.
    pub b: f64,
    /// Half the second derivative.
    pub c: f64,
}

impl Parabola {
    /// Its value at `x`.
    pub fn at(&self, x: f64) -> f64 {
        self.a + x * (self.b + x * self.c)
    }

    /// Where it turns: a maximum if `c` is below zero, a minimum above; `None` of a straight line.
    pub fn turn(&self) -> Option<f64> {
        let x = -self.b / (2.0 * self.c);
        (self.c != 0.0 && x.is_finite()).then_some(x)
    }
}

/// The least-squares parabola through `(x, y)`, as `numpy.polyfit(x, y, 2)`.
///
/// `None` with fewer than three distinct x, or if a number is not finite.
pub fn parabola(points: &[(f64, f64)]) -> Option<Parabola> {
    if points.iter().any(|(x, y)| !x.is_finite() || !y.is_finite()) {
        return None;
    }
    let mut distinct: Vec<f64> = points.iter().map(|p| p.0).collect();
    distinct.sort_by(f64::total_cmp);
    distinct.dedup();
    if distinct.len() < 3 {
        return None;
    }
    // Centred and scaled to about -1..1, where the normal equations are well conditioned.
    let middle = f64::midpoint(distinct[0], distinct[distinct.len() - 1]);
    let half = (distinct[distinct.len() - 1] - distinct[0]) / 2.0;
    let mut rows = [[0.0; 4]; 3];
    for (x, y) in points {
        let u = (x - middle) / half;
        let powers = [1.0, u, u * u];
        for (row, p) in rows.iter_mut().zip(powers) {
            for (cell, q) in row.iter_mut().zip(powers) {
                *cell += p * q;
            }
            row[3] += p * y;
        }
    }
    let [a, b, c] = solve(rows)?;
    // a + b·(x − m)/h + c·((x − m)/h)², multiplied out.
    let (b, c) = (b / half, c / (half * half));
    Some(Parabola {
        a: a - b * middle + c * middle * middle,
        b: b - 2.0 * c * middle,
        c,
    })
}

/// Three equations in three unknowns, by elimination with pivots; each row ends in its right side.
fn solve(mut rows: [[f64; 4]; 3]) -> Option<[f64; 3]> {
    for column in 0..3 {
        let pivot = (column..3).max_by(|a, b| {
            let size = |r: &usize| rows[*r][column].abs();
            size(a).total_cmp(&size(b))
        })?;
        rows.swap(column, pivot);
        let lead = rows[column];
        if lead[column].abs() < 1e-12 {
            return None;
        }
        for (index, row) in rows.iter_mut().enumerate() {
            if index != column {
                let factor = row[column] / lead[column];
                for (cell, above) in row.iter_mut().zip(lead) {
                    *cell -= factor * above;
                }
            }
        }
    }
    Some([0, 1, 2].map(|i| rows[i][3] / rows[i][i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    // tests/golden/statistics.json: numpy.polyfit of these points.
    #[test]
    fn the_fit_is_that_of_numpy() {
        let points = [
            (9.0, 0.842),
            (9.5, 0.861),
            (10.0, 0.874),
            (10.5, 0.871),
            (11.0, 0.866),
        ];
        let fit = parabola(&points).unwrap();
        let want = [
            (fit.c, -0.018_285_714_285_714),
            (fit.b, 0.377_314_285_714_299),
            (fit.a, -1.072_628_571_428_653_6),
            (fit.turn().unwrap(), 10.317_187_5),
        ];
        for (got, want) in want {
            assert!((got / want - 1.0).abs() < 1e-9, "{got} {want}");
        }
    }

    // 1 − 2x + 3x² turns at 1/3.
    #[test]
    fn points_on_a_parabola_give_it_back() {
        let of = |x: f64| 1.0 - 2.0 * x + 3.0 * x * x;
        let points: Vec<_> = [-2.0, 0.5, 1.0, 4.0].map(|x| (x, of(x))).into();
        let fit = parabola(&points).unwrap();
        assert!((fit.at(2.5) - of(2.5)).abs() < 1e-12);
        assert!((fit.turn().unwrap() - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn two_places_make_no_parabola() {
        assert_eq!(parabola(&[(1.0, 1.0), (2.0, 2.0), (2.0, 3.0)]), None);
        assert_eq!(parabola(&[(1.0, 1.0), (2.0, f64::NAN), (3.0, 3.0)]), None);
    }
}
