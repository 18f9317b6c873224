//! The cells of two feature maps that are compared: the nearest by location, and by features.

/// Centre of a cell in the picture that its view was cut from: row and column, in pixels.
pub type Place = [f32; 2];

/// Pairs (own cell, other cell) that the cosines of one way run over: those by location, then as
/// many by features.
pub(super) type Picks = Vec<(u32, u32)>;

/// The picks of a pair of maps: from the first to the second, and from the second to the first.
#[derive(Debug)]
pub(super) struct Both {
    pub(super) there: Picks,
    pub(super) back: Picks,
}

impl Both {
    /// Picks by the distances of location and of features, of the first map's cells (the first
    /// argument, below `counts.0`) and the second's (below `counts.1`).
    ///
    /// Every cell takes the nearest of the other map; of those pairs the `closest` nearest ones
    /// remain, or all. Of equally near ones, the first.
    pub(super) fn choose<D: PartialOrd + Copy>(
        counts: (usize, usize),
        location: impl Fn(usize, usize) -> f32,
        features: impl Fn(usize, usize) -> D,
        closest: Option<usize>,
    ) -> Self {
        let mut both = Self { there: Picks::new(), back: Picks::new() };
        both.add(&nearest(counts, location), closest);
        both.add(&nearest(counts, features), closest);
        both
    }

    fn add<D: PartialOrd + Copy>(&mut self, nearest: &[Vec<(D, u32)>; 2], closest: Option<usize>) {
        keep(&nearest[0], closest, &mut self.there);
        keep(&nearest[1], closest, &mut self.back);
    }
}

/// For every cell of each map, the distance to the nearest cell of the other and its number.
fn nearest<D: PartialOrd + Copy>(
    (first, second): (usize, usize),
    distance: impl Fn(usize, usize) -> D,
) -> [Vec<(D, u32)>; 2] {
    let mut rows = Vec::with_capacity(first);
    let mut columns: Vec<(D, u32)> = (0..second).map(|other| (distance(0, other), 0)).collect();
    for own in 0..first {
        let mut best = (distance(own, 0), 0);
        for (other, column) in columns.iter_mut().enumerate() {
            let found = distance(own, other);
            if found < best.0 {
                best = (found, other as u32);
            }
            if found < column.0 {
                *column = (found, own as u32);
            }
        }
        rows.push(best);
    }
    [rows, columns]
}

/// Adds the `closest` nearest pairs in the order of their own cells.
fn keep<D: PartialOrd + Copy>(nearest: &[(D, u32)], closest: Option<usize>, picks: &mut Picks) {
    let pair = |own: usize| (own as u32, nearest[own].1);
    match closest {
        Some(closest) if closest < nearest.len() => {
            let mut order: Vec<usize> = (0..nearest.len()).collect();
            // Stable, hence by number among equals; what is not a number stays where it is.
            order.sort_by(|one, other| {
                let compared = nearest[*one].0.partial_cmp(&nearest[*other].0);
                compared.unwrap_or(std::cmp::Ordering::Equal)
            });
            order.truncate(closest);
            order.sort_unstable();
            picks.extend(order.into_iter().map(pair));
        }
        _ => picks.extend((0..nearest.len()).map(pair)),
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::SQRT_2;

    use super::{Both, nearest};

    type Two = [[f64; 2]; 2];

    const SOURCE: Two = [[1.0, 0.0], [0.6, 0.8]];
    const TARGET: Two = [[0.0, 1.0], [0.8, 0.6]];
    const PLACES: [Two; 2] = [[[15.0, 30.0], [25.0, 30.0]], [[16.0, 31.0], [40.0, 30.0]]];

    fn apart(one: &[f64; 2], other: &[f64; 2]) -> f64 {
        (one[0] - other[0]).hypot(one[1] - other[1])
    }

    #[test]
    fn nearest_cells_distances_and_means_are_those_of_the_worked_example() {
        let mean = |picks: &[(f64, u32)], own: &Two, others: &Two| {
            let cosine = |(cell, (_, pick)): (&[f64; 2], &(f64, u32))| {
                let other = others[*pick as usize];
                cell[0] * other[0] + cell[1] * other[1]
            };
            own.iter().zip(picks).map(cosine).sum::<f64>() / 2.0
        };
        let of = |one: Two, other: Two| nearest((2, 2), |p, q| apart(&one[p], &other[q]));
        let ([there, back], [like, like_back]) = (of(PLACES[0], PLACES[1]), of(SOURCE, TARGET));

        let known = [
            (&there, [(SQRT_2, 0), (9.0554, 0)], mean(&there, &SOURCE, &TARGET), 0.40),
            (&like, [(0.6325, 1), (0.2828, 1)], mean(&like, &SOURCE, &TARGET), 0.88),
            (&back, [(SQRT_2, 0), (15.0, 1)], mean(&back, &TARGET, &SOURCE), 0.48),
            (&like_back, [(0.6325, 1), (0.2828, 1)], mean(&like_back, &TARGET, &SOURCE), 0.88),
        ];
        for (found, expected, mean, expected_mean) in known {
            for ((distance, pick), (known, known_pick)) in found.iter().zip(expected) {
                assert!((distance - known).abs() < 5e-5 && *pick == known_pick, "{found:?}");
            }
            assert!((mean - expected_mean).abs() < 1e-12, "{mean} {expected_mean}");
        }
    }

    #[test]
    fn equally_near_cells_are_taken_in_their_order() {
        let equal = Both::choose((3, 2), |_, _| 1.0, |_, _| 1.0_f64, Some(2));

        assert_eq!(equal.there, [(0, 0), (1, 0), (0, 0), (1, 0)]);
        assert_eq!(equal.back, [(0, 0), (1, 0), (0, 0), (1, 0)]);
    }

    #[test]
    fn the_nearest_pairs_remain_in_the_order_of_the_cells() {
        let by_location =
            |own: usize, other: usize| [[9.0, 5.0], [8.0, 7.0], [1.0, 2.0]][own][other];

        let picks = Both::choose((3, 2), by_location, |_, _| 0.0_f32, Some(2));

        assert_eq!(picks.there[..2], [(0, 1), (2, 0)]);
        assert_eq!(picks.back[..2], [(0, 2), (1, 2)]);
    }
}
