//! The place of the cells of a view's feature map in the picture that it was cut from.

use super::views::Crop;

impl Crop {
    /// Centres of the cells of a map of `rows` by `columns` cells, row by row, each as row and column
    /// in pixels of the picture (VICRegL, section 3.1): `top + (r + ½) height / rows`, and likewise
    /// across. In a mirrored crop the first column of the map is the last of the crop.
    pub fn cells(&self, rows: usize, columns: usize) -> Vec<[f32; 2]> {
        let (down, across) = (self.height / rows as f32, self.width / columns as f32);
        let centre = |at: usize| {
            let (row, column) = (at / columns, at % columns);
            let column = if self.flipped { columns - 1 - column } else { column };
            [self.top + (row as f32 + 0.5) * down, self.left + (column as f32 + 0.5) * across]
        };
        (0..rows * columns).map(centre).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Crop;

    const CROP: Crop = Crop { top: 10.0, left: 20.0, height: 70.0, width: 140.0, flipped: false };

    #[test]
    fn centres_are_those_of_the_worked_example() {
        let cells = CROP.cells(7, 7);

        assert_eq!([cells[0], cells[6]], [[15.0, 30.0], [15.0, 150.0]]);
        assert_eq!([cells[42], cells[48]], [[75.0, 30.0], [75.0, 150.0]]);
    }

    #[test]
    fn a_mirrored_crop_has_its_first_column_on_the_right() {
        let cells = Crop { flipped: true, ..CROP }.cells(7, 7);

        assert_eq!([cells[0], cells[6]], [[15.0, 150.0], [15.0, 30.0]]);
        assert_eq!(cells[3], CROP.cells(7, 7)[3]);
    }

    #[test]
    fn maps_need_not_be_square() {
        assert_eq!(CROP.cells(1, 2), [[45.0, 55.0], [45.0, 125.0]]);
    }
}
