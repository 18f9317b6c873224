//! Multi-head attention with decomposed relative positions, in windows or over the whole map.
//!
//! The product of queries and keys and both position terms come out of one matrix product: a query
//! carries `q · R` for every row and column of its window beside its own numbers, a key carries
//! ones at its row and column. Weights are never stored for more than a few queries of one head at
//! a time; going backwards they are computed again from the logarithm of their sum.

mod head;
mod inputs;
mod operator;
mod tables;
mod windows;

use rayon::prelude::*;

pub(in crate::nn) use inputs::Inputs;
pub use operator::attention;
pub(in crate::nn) use operator::{composed, offsets};
pub(in crate::nn) use tables::Resize;
pub(in crate::nn) use windows::Windows;

use crate::nn::kernel::columns;
use crate::nn::kernel::real::Real;
use head::{Head, Scratch};

/// The values of the forward pass that the backward pass needs.
pub(in crate::nn) struct Kept<T> {
    /// Values weighed and added up, heads side by side: `[tokens, D]`.
    pub(in crate::nn) out: Vec<T>,
    /// Logarithm of the sum of the exponentials of each query, window after window, head after head.
    sums: Vec<Vec<T>>,
}

/// Gradients of everything in [`Inputs`].
pub(in crate::nn) struct Gradients<T> {
    pub(in crate::nn) qkv: Vec<T>,
    pub(in crate::nn) padding: Vec<T>,
    pub(in crate::nn) positions: (Vec<T>, Vec<T>),
}

/// Attends from every token to the tokens of its window.
pub(in crate::nn) fn forward<T: Real>(windows: &Windows, inputs: Inputs<'_, T>) -> Kept<T> {
    let work =
        |scratch: &mut Scratch<T>, task: usize| Head::new(windows, task, inputs).forward(scratch);
    let heads: Vec<(Vec<T>, Vec<T>)> =
        (0..windows.tasks()).into_par_iter().map_init(Scratch::default, work).collect();
    let (values, sums): (Vec<Vec<T>>, Vec<Vec<T>>) = heads.into_iter().unzip();
    let mut out = vec![T::zero(); windows.tokens() * windows.channels()];
    let size = windows.head_size;
    out.par_chunks_exact_mut(windows.channels()).enumerate().for_each(|(token, row)| {
        let (window, place) = windows.place(token);
        for (head, part) in row.chunks_exact_mut(size).enumerate() {
            let values = &values[window * windows.heads + head];
            part.copy_from_slice(&values[place * size..][..size]);
        }
    });
    Kept { out, sums }
}

/// The backward pass from `grad` `[tokens, D]`.
pub(in crate::nn) fn backward<T: Real>(
    windows: &Windows,
    inputs: Inputs<'_, T>,
    kept: &Kept<T>,
    grad: &[T],
) -> Gradients<T> {
    let work = |scratch: &mut Scratch<T>, task: usize| {
        Head::new(windows, task, inputs).backward(scratch, &kept.out, &kept.sums[task], grad)
    };
    let heads: Vec<head::Gradients<T>> =
        (0..windows.tasks()).into_par_iter().map_init(Scratch::default, work).collect();
    let (channels, size) = (windows.channels(), windows.head_size);
    let mut qkv = vec![T::zero(); windows.tokens() * 3 * channels];
    qkv.par_chunks_exact_mut(3 * channels).enumerate().for_each(|(token, row)| {
        let (window, place) = windows.place(token);
        for (part, rest) in row.chunks_exact_mut(channels).enumerate() {
            for (head, rest) in rest.chunks_exact_mut(size).enumerate() {
                let grads = &heads[window * windows.heads + head];
                rest.copy_from_slice(&grads.rows[part][place * size..][..size]);
            }
        }
    });
    let mut padding = vec![T::zero(); 3 * channels];
    for (task, grads) in heads.iter().enumerate() {
        let at = task % windows.heads * size;
        for (part, sums) in [(1, &grads.padding_key), (2, &grads.padding_value)] {
            let target = &mut padding[part * channels + at..][..size];
            target.iter_mut().zip(sums).for_each(|(target, sum)| *target += *sum);
        }
    }
    let tables: Vec<Vec<T>> = heads.into_iter().map(|grads| grads.positions).collect();
    let mut down = columns::add_up(&tables, windows.positions() * size);
    let across = down.split_off((2 * windows.height - 1) * size);
    Gradients { qkv, padding, positions: (down, across) }
}
