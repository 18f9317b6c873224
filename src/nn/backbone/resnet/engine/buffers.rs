//! Memory that is used again: what one layer frees the next one takes.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::WithDType;

/// Freed blocks, shared by all who hold a clone.
#[derive(Debug, Clone)]
pub(in crate::nn) struct Buffers<T>(Arc<Mutex<Vec<Vec<T>>>>);

/// A block over that many values that is larger than this many times the need is not taken.
const WASTE: usize = 2;

impl<T> Default for Buffers<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: WithDType> Buffers<T> {
    /// `len` values of no particular content.
    pub(super) fn take(&self, len: usize) -> Buffer<T> {
        let mut values = {
            let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let fits = |block: &Vec<T>| block.len() >= len && block.len() <= WASTE * len;
            let smallest =
                (0..free.len()).filter(|at| fits(&free[*at])).min_by_key(|at| free[*at].len());
            smallest.map(|at| free.swap_remove(at)).unwrap_or_default()
        };
        if values.is_empty() {
            values = vec![T::zero(); len];
        }
        Buffer { values, len, home: self.clone() }
    }

    /// `len` zeros.
    pub(super) fn zeros(&self, len: usize) -> Buffer<T> {
        let mut buffer = self.take(len);
        buffer.fill(T::zero());
        buffer
    }
}

/// A block in use; dropped, it is free again.
#[derive(Debug)]
pub(in crate::nn) struct Buffer<T> {
    values: Vec<T>,
    len: usize,
    home: Buffers<T>,
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[..self.len]
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[..self.len]
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        self.home.0.lock().unwrap_or_else(PoisonError::into_inner).push(values);
    }
}

/// Freed blocks of either type.
#[derive(Debug, Clone, Default)]
pub(in crate::nn) struct Pools {
    single: Buffers<f32>,
    double: Buffers<f64>,
}

/// The types that the engine computes in.
pub(in crate::nn) trait Pooled: WithDType {
    /// The freed blocks of this type.
    fn buffers(pools: &Pools) -> &Buffers<Self>;
}

impl Pooled for f32 {
    fn buffers(pools: &Pools) -> &Buffers<Self> {
        &pools.single
    }
}

impl Pooled for f64 {
    fn buffers(pools: &Pools) -> &Buffers<Self> {
        &pools.double
    }
}
