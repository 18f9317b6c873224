//! Position tables at the size that a map needs, interpolated as PyTorch does.

use crate::nn::kernel::real::Real;

/// `F.interpolate(mode="linear", align_corners=False)` along the rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::nn) struct Resize {
    /// Rows of the table.
    pub(in crate::nn) from: usize,
    /// Rows wanted.
    pub(in crate::nn) to: usize,
}

impl Resize {
    /// The two rows that a row is made of, and the share of the second: its centre falls at
    /// `(row + ½) from / to − ½`, or on the first row if that lies before it.
    pub(in crate::nn) fn taps(self, row: usize) -> (usize, usize, f64) {
        let center = (row as f64 + 0.5) * self.from as f64 / self.to as f64 - 0.5;
        let center = center.max(0.0);
        let first = (center as usize).min(self.from - 1);
        (first, (first + 1).min(self.from - 1), center - first as f64)
    }

    /// The table with the wanted number of rows of `size` values.
    pub(in crate::nn) fn forward<T: Real>(self, table: &[T], size: usize) -> Vec<T> {
        if self.from == self.to {
            return table.to_vec();
        }
        let mut out = Vec::with_capacity(self.to * size);
        for row in 0..self.to {
            let (first, second, share) = self.taps(row);
            let (near, far) = (T::from_f64(1.0 - share), T::from_f64(share));
            let rows = table[first * size..][..size].iter().zip(&table[second * size..][..size]);
            out.extend(rows.map(|(one, other)| near * *one + far * *other));
        }
        out
    }

    /// The gradient of the table from that of the interpolated one.
    pub(in crate::nn) fn backward<T: Real>(self, grad: Vec<T>, size: usize) -> Vec<T> {
        if self.from == self.to {
            return grad;
        }
        let mut out = vec![T::zero(); self.from * size];
        for (row, grad) in grad.chunks_exact(size).enumerate() {
            let (first, second, share) = self.taps(row);
            for (row, share) in [(first, 1.0 - share), (second, share)] {
                let share = T::from_f64(share);
                let target = &mut out[row * size..][..size];
                target.iter_mut().zip(grad).for_each(|(target, grad)| *target += share * *grad);
            }
        }
        out
    }
}
