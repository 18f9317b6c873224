//! One head of one window, forward and backward, a few queries at a time.

use super::inputs::Inputs;
use super::windows::Windows;
use crate::nn::kernel::gemm::{Into, Matrix, Target, Threads, multiply};
use crate::nn::kernel::real::{Real, vectorised};

/// Weights held at a time: those of so many queries as stay in the cache.
const WEIGHTS: usize = 1 << 18;

/// One head of one window.
pub(super) struct Head<'a, T> {
    windows: &'a Windows,
    inputs: Inputs<'a, T>,
    /// Its number.
    number: usize,
    /// Row and column in the window, and number, of each query.
    queries: Vec<(usize, usize, usize)>,
}

/// Matrices that are used again from head to head.
pub(super) struct Scratch<T> {
    /// `[q, q · down, q · across]` of each query.
    queries: Vec<T>,
    /// `[k / √size, one at its row, one at its column]` of each key of the window.
    keys: Vec<T>,
    values: Vec<T>,
    weights: Vec<T>,
    slopes: Vec<T>,
    /// Both position tables, from furthest after to furthest before.
    tables: Vec<T>,
    products: Vec<T>,
    grads: Vec<T>,
    extended: Vec<T>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self {
            queries: Vec::new(),
            keys: Vec::new(),
            values: Vec::new(),
            weights: Vec::new(),
            slopes: Vec::new(),
            tables: Vec::new(),
            products: Vec::new(),
            grads: Vec::new(),
            extended: Vec::new(),
        }
    }
}

/// Gradients of one head of one window.
pub(super) struct Gradients<T> {
    /// Of queries, keys and values of the window's tokens, `[tokens, size]` each.
    pub(super) rows: [Vec<T>; 3],
    /// Of the key that fills up the window.
    pub(super) padding_key: Vec<T>,
    /// Of the value that fills up the window.
    pub(super) padding_value: Vec<T>,
    /// Of both tables, from furthest before to furthest after.
    pub(super) positions: Vec<T>,
}

impl<'a, T: Real> Head<'a, T> {
    pub(super) fn new(windows: &'a Windows, task: usize, inputs: Inputs<'a, T>) -> Self {
        let (window, number) = (task / windows.heads, task % windows.heads);
        Self { windows, inputs, number, queries: windows.tokens_of(window) }
    }

    fn size(&self) -> usize {
        self.windows.head_size
    }

    /// Length of an extended query or key.
    fn extended(&self) -> usize {
        self.size() + self.windows.height + self.windows.width
    }

    /// `1 / √size`.
    fn scale(&self) -> T {
        T::from_f64(1.0 / (self.size() as f64).sqrt())
    }

    /// Part 0, 1 or 2 (query, key, value) of a token's row of `[.., 3 D]`.
    fn part<'b>(&self, row: &'b [T], part: usize) -> &'b [T] {
        &row[part * self.windows.channels() + self.number * self.size()..][..self.size()]
    }

    fn token(&self, number: usize) -> &'a [T] {
        let length = 3 * self.windows.channels();
        &self.inputs.qkv[number * length..][..length]
    }

    /// The places, in the reversed tables, where the entries for a query at `row` (or `column`)
    /// begin: key `j` lies at `i − j + side − 1` of a table, so at `side − 1 − i + j` of the reversed
    /// one.
    fn starts(&self, row: usize, column: usize) -> (usize, usize) {
        let Windows { height, width, .. } = *self.windows;
        (height - 1 - row, 2 * height - 1 + width - 1 - column)
    }

    /// Fills the scratch with extended queries and keys, and values.
    fn gather(&self, scratch: &mut Scratch<T>) {
        let (size, extended) = (self.size(), self.extended());
        let Windows { height, width, .. } = *self.windows;
        let (keys, positions) = (self.windows.keys(), self.windows.positions());
        let scale = self.scale();
        scratch.keys.clear();
        scratch.keys.resize(keys * extended, T::zero());
        scratch.values.resize(keys * size, T::zero());
        let mut put = |place: usize, row: &[T]| {
            let key = &mut scratch.keys[place * extended..][..extended];
            key[..size].iter_mut().zip(self.part(row, 1)).for_each(|(key, k)| *key = *k * scale);
            key[size + place / width] = T::one();
            key[size + height + place % width] = T::one();
            scratch.values[place * size..][..size].copy_from_slice(self.part(row, 2));
        };
        if self.queries.len() < keys {
            (0..keys).for_each(|place| put(place, self.inputs.padding));
        }
        for (row, column, token) in &self.queries {
            put(row * width + column, self.token(*token));
        }
        scratch.tables.clear();
        for table in [self.inputs.positions.0, self.inputs.positions.1] {
            table.chunks_exact(size).rev().for_each(|row| scratch.tables.extend_from_slice(row));
        }
        let count = self.queries.len();
        scratch.queries.resize(count * extended, T::zero());
        for (query, (_, _, token)) in scratch.queries.chunks_exact_mut(extended).zip(&self.queries)
        {
            query[..size].copy_from_slice(self.part(self.token(*token), 0));
        }
        scratch.products.resize(count * positions, T::zero());
        multiply(
            Target::new(&mut scratch.products, count, positions),
            Matrix::new(&scratch.queries, count, extended).columns(0..size),
            Matrix::new(&scratch.tables, positions, size).transposed(),
            Into::Replace,
            Threads::One,
        );
        let rows = scratch.queries.chunks_exact_mut(extended).zip(&self.queries);
        for ((query, (row, column, _)), products) in
            rows.zip(scratch.products.chunks_exact(positions))
        {
            let (down, across) = self.starts(*row, *column);
            query[size..][..height].copy_from_slice(&products[down..][..height]);
            query[size + height..].copy_from_slice(&products[across..][..width]);
        }
    }

    /// Queries that are worked on together.
    fn tile(&self) -> usize {
        (WEIGHTS / self.windows.keys()).max(16)
    }

    /// Scores of some queries over the scratch's weights.
    fn scores(&self, scratch: &mut Scratch<T>, tile: &std::ops::Range<usize>) {
        let (extended, keys) = (self.extended(), self.windows.keys());
        scratch.weights.resize(tile.len() * keys, T::zero());
        let queries = &scratch.queries[tile.start * extended..tile.end * extended];
        multiply(
            Target::new(&mut scratch.weights, tile.len(), keys),
            Matrix::new(queries, tile.len(), extended),
            Matrix::new(&scratch.keys, keys, extended).transposed(),
            Into::Replace,
            Threads::One,
        );
    }

    fn tiles(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<T> {
        let (tile, count) = (self.tile(), self.queries.len());
        (0..count).step_by(tile).map(move |start| start..(start + tile).min(count))
    }

    /// The weighed values `[queries, size]`, and the logarithm of each query's sum.
    pub(super) fn forward(&self, scratch: &mut Scratch<T>) -> (Vec<T>, Vec<T>) {
        self.gather(scratch);
        let (size, keys) = (self.size(), self.windows.keys());
        let mut out = vec![T::zero(); self.queries.len() * size];
        let mut sums = Vec::with_capacity(self.queries.len());
        for tile in self.tiles() {
            self.scores(scratch, &tile);
            sums.extend(scratch.weights.chunks_exact_mut(keys).map(softmax));
            multiply(
                Target::new(&mut out[tile.start * size..tile.end * size], tile.len(), size),
                Matrix::new(&scratch.weights, tile.len(), keys),
                Matrix::new(&scratch.values, keys, size),
                Into::Replace,
                Threads::One,
            );
        }
        (out, sums)
    }

    /// With weights `p`, values `v` and output `o`: `dv = pᵀ do`, and the gradient of the scores is
    /// `p (do vᵀ − do · o)`.
    pub(super) fn backward(
        &self,
        scratch: &mut Scratch<T>,
        out: &[T],
        sums: &[T],
        grad: &[T],
    ) -> Gradients<T> {
        self.gather(scratch);
        let (size, extended, keys) = (self.size(), self.extended(), self.windows.keys());
        let (count, channels) = (self.queries.len(), self.windows.channels());
        let row_of = |token: usize| token * channels + self.number * size;
        let mut grads = std::mem::take(&mut scratch.grads);
        grads.clear();
        let mut levels = Vec::with_capacity(count);
        for (_, _, token) in &self.queries {
            let (grad, out) = (&grad[row_of(*token)..][..size], &out[row_of(*token)..][..size]);
            grads.extend_from_slice(grad);
            levels.push(grad.iter().zip(out).fold(T::zero(), |sum, (g, o)| sum + *g * *o));
        }
        let (mut d_keys, mut d_values) =
            (vec![T::zero(); keys * size], vec![T::zero(); keys * size]);
        let mut d_extended = std::mem::take(&mut scratch.extended);
        d_extended.resize(count * extended, T::zero());
        for tile in self.tiles() {
            let queries = tile.len();
            self.scores(scratch, &tile);
            scratch.slopes.resize(queries * keys, T::zero());
            let grads = Matrix::new(&grads[tile.start * size..tile.end * size], queries, size);
            multiply(
                Target::new(&mut scratch.slopes, queries, keys),
                grads,
                Matrix::new(&scratch.values, keys, size).transposed(),
                Into::Replace,
                Threads::One,
            );
            let rows = scratch.weights.chunks_exact_mut(keys);
            for (at, (weights, slopes)) in
                rows.zip(scratch.slopes.chunks_exact_mut(keys)).enumerate()
            {
                softmax_backward(weights, slopes, sums[tile.start + at], levels[tile.start + at]);
            }
            let slopes = Matrix::new(&scratch.slopes, queries, keys);
            multiply(
                Target::new(&mut d_values, keys, size),
                Matrix::new(&scratch.weights, queries, keys).transposed(),
                grads,
                Into::Add,
                Threads::One,
            );
            let own = &scratch.queries[tile.start * extended..tile.end * extended];
            multiply(
                Target::new(&mut d_keys, keys, size),
                slopes.transposed(),
                Matrix::new(own, queries, extended).columns(0..size),
                Into::Add,
                Threads::One,
            );
            let own = &mut d_extended[tile.start * extended..tile.end * extended];
            multiply(
                Target::new(own, queries, extended),
                slopes,
                Matrix::new(&scratch.keys, keys, extended),
                Into::Replace,
                Threads::One,
            );
        }
        let (d_queries, positions) = self.through_tables(scratch, &d_extended);
        scratch.grads = grads;
        scratch.extended = d_extended;
        self.sort(d_queries, &d_keys, &d_values, positions)
    }

    /// From the gradient of extended queries to those of the queries and of the tables.
    fn through_tables(&self, scratch: &mut Scratch<T>, d_extended: &[T]) -> (Vec<T>, Vec<T>) {
        let (size, extended) = (self.size(), self.extended());
        let Windows { height, width, .. } = *self.windows;
        let (count, positions) = (self.queries.len(), self.windows.positions());
        let mut d_queries = Vec::with_capacity(count * size);
        scratch.products.fill(T::zero());
        let rows = d_extended.chunks_exact(extended).zip(&self.queries);
        for ((d_query, (row, column, _)), products) in
            rows.zip(scratch.products.chunks_exact_mut(positions))
        {
            d_queries.extend_from_slice(&d_query[..size]);
            let (down, across) = self.starts(*row, *column);
            products[down..][..height].copy_from_slice(&d_query[size..][..height]);
            products[across..][..width].copy_from_slice(&d_query[size + height..]);
        }
        let products = Matrix::new(&scratch.products, count, positions);
        multiply(
            Target::new(&mut d_queries, count, size),
            products,
            Matrix::new(&scratch.tables, positions, size),
            Into::Add,
            Threads::One,
        );
        let mut reversed = vec![T::zero(); positions * size];
        multiply(
            Target::new(&mut reversed, positions, size),
            products.transposed(),
            Matrix::new(&scratch.queries, count, extended).columns(0..size),
            Into::Replace,
            Threads::One,
        );
        let mut tables = Vec::with_capacity(reversed.len());
        let (down, across) = reversed.split_at((2 * height - 1) * size);
        for table in [down, across] {
            table.chunks_exact(size).rev().for_each(|row| tables.extend_from_slice(row));
        }
        (d_queries, tables)
    }

    /// Parts the gradients of tokens from those of what fills up the window.
    fn sort(
        &self,
        d_queries: Vec<T>,
        d_keys: &[T],
        d_values: &[T],
        positions: Vec<T>,
    ) -> Gradients<T> {
        let (size, width, scale) = (self.size(), self.windows.width, self.scale());
        let mut is_token = vec![false; self.windows.keys()];
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (row, column, _) in &self.queries {
            let place = row * width + column;
            is_token[place] = true;
            keys.extend(d_keys[place * size..][..size].iter().map(|d| *d * scale));
            values.extend_from_slice(&d_values[place * size..][..size]);
        }
        let (mut padding_key, mut padding_value) = (vec![T::zero(); size], vec![T::zero(); size]);
        for place in (0..is_token.len()).filter(|place| !is_token[*place]) {
            for at in 0..size {
                padding_key[at] += d_keys[place * size + at] * scale;
                padding_value[at] += d_values[place * size + at];
            }
        }
        Gradients { rows: [d_queries, keys, values], padding_key, padding_value, positions }
    }
}

/// Makes weights of scores; the logarithm of their sum.
fn softmax<T: Real>(row: &mut [T]) -> T {
    vectorised(
        #[inline(always)]
        || {
            let top = largest(row);
            let mut lanes = [T::zero(); LANES];
            for chunk in row.chunks_mut(LANES) {
                for (lane, value) in lanes.iter_mut().zip(chunk) {
                    *value = (*value - top).exponential();
                    *lane += *value;
                }
            }
            let sum = lanes.into_iter().fold(T::zero(), |sum, lane| sum + lane);
            let share = T::one() / sum;
            row.iter_mut().for_each(|value| *value *= share);
            top + T::from_f64(sum.to_f64().ln())
        },
    )
}

const LANES: usize = 16;

#[inline]
fn largest<T: Real>(row: &[T]) -> T {
    let mut lanes = [T::from_f64(f64::from(f32::MIN)); LANES];
    for chunk in row.chunks(LANES) {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes.into_iter().fold(lanes[0], |top, lane| if lane > top { lane } else { top })
}

/// Makes weights of scores again, and of the gradient of the weights that of the scores.
fn softmax_backward<T: Real>(row: &mut [T], slopes: &mut [T], sum: T, level: T) {
    vectorised(
        #[inline(always)]
        || {
            for (value, slope) in row.iter_mut().zip(slopes) {
                *value = (*value - sum).exponential();
                *slope = *value * (*slope - level);
            }
        },
    );
}
