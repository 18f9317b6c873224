//! The cell of another feature map that is closest to each cell of one.

/// Squared distances between positions, a row for each of `from`.
pub(super) fn distances(from: &[[f32; 2]], to: &[[f32; 2]]) -> Vec<f64> {
    let squared = |a: &[f32; 2], b: &[f32; 2]| {
        (f64::from(a[0]) - f64::from(b[0])).powi(2) + (f64::from(a[1]) - f64::from(b[1])).powi(2)
    };
    from.iter().flat_map(|a| to.iter().map(move |b| squared(a, b))).collect()
}

/// The closest candidate of each cell, for the `kept` cells that are closest to theirs, in the order
/// of the cells: (cell, candidate). `distances` has a row of `candidates` for each cell. Of equal
/// ones the first is taken.
pub(super) fn closest(distances: &[f64], candidates: usize, kept: usize) -> Vec<(usize, usize)> {
    let nearest = |row: &[f64]| {
        let mut best = (0, f64::INFINITY);
        for (at, distance) in row.iter().enumerate() {
            if *distance < best.1 {
                best = (at, *distance);
            }
        }
        best
    };
    let mut found: Vec<(usize, (usize, f64))> =
        distances.chunks_exact(candidates).map(nearest).enumerate().collect();
    found.sort_by(|(_, (_, one)), (_, (_, other))| one.total_cmp(other));
    found.truncate(kept);
    found.sort_by_key(|(cell, _)| *cell);
    found.into_iter().map(|(cell, (candidate, _))| (cell, candidate)).collect()
}

#[cfg(test)]
mod tests {
    use super::{closest, distances};
    use crate::training::objective::views::Crop;

    const CROP: Crop = Crop { top: 10.0, left: 20.0, height: 70.0, width: 140.0, flipped: false };

    #[test]
    fn a_picture_and_its_mirror_image_match_cell_by_cell() {
        let (cells, flipped) = (CROP.cells(2, 3), Crop { flipped: true, ..CROP }.cells(2, 3));

        let found = closest(&distances(&cells, &flipped), 6, 6);

        assert_eq!(found, [(0, 2), (1, 1), (2, 0), (3, 5), (4, 4), (5, 3)]);
    }

    #[test]
    fn the_closest_pairs_are_kept_in_the_order_of_the_cells_and_the_first_of_equals() {
        let distances = [4.0, 3.0, 1.0, 1.0, 9.0, 9.0, 2.0, 1.0];

        assert_eq!(closest(&distances, 2, 4), [(0, 1), (1, 0), (2, 0), (3, 1)]);
        assert_eq!(closest(&distances, 2, 2), [(1, 0), (3, 1)]);
        assert_eq!(closest(&distances, 2, 1), [(1, 0)]);
    }

    #[test]
    fn distances_that_are_no_numbers_still_match_every_cell() {
        assert_eq!(closest(&[f64::NAN; 4], 2, 2), [(0, 0), (1, 0)]);
    }
}
