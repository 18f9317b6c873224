//! The windows that the tokens of a map fall into; windows at the border are filled up.

/// Tokens of a batch of maps in windows, and their channels in heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::nn) struct Windows {
    /// Maps.
    pub(in crate::nn) images: usize,
    /// Rows of a map.
    pub(in crate::nn) rows: usize,
    /// Columns of a map.
    pub(in crate::nn) columns: usize,
    /// Rows of a window.
    pub(in crate::nn) height: usize,
    /// Columns of a window.
    pub(in crate::nn) width: usize,
    /// Heads.
    pub(in crate::nn) heads: usize,
    /// Channels of a head.
    pub(in crate::nn) head_size: usize,
}

impl Windows {
    pub(in crate::nn) fn tokens(&self) -> usize {
        self.images * self.rows * self.columns
    }

    pub(in crate::nn) fn channels(&self) -> usize {
        self.heads * self.head_size
    }

    /// Heads of all windows of all images.
    pub(super) fn tasks(&self) -> usize {
        let (down, across) = self.grid();
        self.images * down * across * self.heads
    }

    /// Keys of a window, those that fill it up included.
    pub(super) fn keys(&self) -> usize {
        self.height * self.width
    }

    /// Rows of both position tables.
    pub(super) fn positions(&self) -> usize {
        2 * self.height - 1 + 2 * self.width - 1
    }

    /// Windows of a map, down and across.
    fn grid(&self) -> (usize, usize) {
        (self.rows.div_ceil(self.height), self.columns.div_ceil(self.width))
    }

    /// The window of a token, and its number among the tokens of that window.
    pub(super) fn place(&self, token: usize) -> (usize, usize) {
        let (column, row) = (token % self.columns, token / self.columns % self.rows);
        let image = token / (self.columns * self.rows);
        let (down, across) = self.grid();
        let (window_row, window_column) = (row / self.height, column / self.width);
        let window = (image * down + window_row) * across + window_column;
        let (_, width) = self.extent(window_row, window_column);
        (window, row % self.height * width + column % self.width)
    }

    /// Rows and columns of a window that are on the map.
    fn extent(&self, window_row: usize, window_column: usize) -> (usize, usize) {
        let height = self.height.min(self.rows - window_row * self.height);
        let width = self.width.min(self.columns - window_column * self.width);
        (height, width)
    }

    /// The tokens of a window in order: row and column within it, and number in the batch.
    pub(super) fn tokens_of(&self, window: usize) -> Vec<(usize, usize, usize)> {
        let (down, across) = self.grid();
        let (window_column, window_row) = (window % across, window / across % down);
        let image = window / (across * down);
        let (height, width) = self.extent(window_row, window_column);
        let token = |row: usize, column: usize| {
            let (y, x) = (window_row * self.height + row, window_column * self.width + column);
            (row, column, (image * self.rows + y) * self.columns + x)
        };
        (0..height).flat_map(|row| (0..width).map(move |column| token(row, column))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Windows;

    #[test]
    fn every_token_has_one_place_in_one_window() {
        let windows =
            Windows { images: 2, rows: 5, columns: 7, height: 3, width: 4, heads: 2, head_size: 8 };

        let mut seen = vec![0; windows.tokens()];
        for window in 0..windows.tasks() / windows.heads {
            for (place, (_, _, token)) in windows.tokens_of(window).into_iter().enumerate() {
                assert_eq!(windows.place(token), (window, place));
                seen[token] += 1;
            }
        }

        assert!(seen.iter().all(|count| *count == 1));
        assert_eq!(windows.tasks(), 2 * 2 * 2 * 2);
    }
}
