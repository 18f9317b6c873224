//! Linear assignment by shortest augmenting paths with potentials (Jonker and Volgenant, 1987).
//!
//! Maximises `Σ c[i,a] v[i,a]` over injections of rows into columns, in `O(rows² · columns)`.
//! Optionally a row may stay alone at an affinity of 0, as if each row had a column of its own
//! for that. Ties are broken towards the lower column, and towards a partner over being alone, so
//! equal inputs always give equal answers. The potentials `u`, `v` of the optimum satisfy
//! `c[i,a] ≤ u[i] + v[a]`, with equality on the assignment.

/// No partner, in [`Assignment::partners`].
const FREE: usize = usize::MAX;

/// The choice whether rows may stay without a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Every row gets a column; there must be at least as many columns.
    All,
    /// A row may stay alone, at an affinity of 0.
    Some,
}

/// The workspace of the algorithm and its last answer; reused, it allocates nothing.
#[derive(Debug, Clone, Default)]
pub struct Assignment {
    columns: usize,
    /// Column of each row.
    partners: Vec<usize>,
    /// Row of each column.
    holders: Vec<usize>,
    /// Potentials of rows and columns, of costs (the negated affinities).
    row_costs: Vec<f64>,
    column_costs: Vec<f64>,
    /// Length of the shortest path to each column, and the row before it.
    distances: Vec<f64>,
    before: Vec<usize>,
    scanned: Vec<bool>,
    /// Columns in the order in which they were scanned.
    order: Vec<usize>,
}

impl Assignment {
    /// Solves for `affinities`, `[rows, columns]` by rows with `stride` numbers from one row to
    /// the next; gives the optimum. An affinity of negative infinity forbids its pair; where no
    /// assignment is allowed the answer is negative infinity, and partners mean nothing.
    ///
    /// # Panics
    /// Where every row must have a column and there are fewer columns than rows.
    pub fn maximise(
        &mut self,
        affinities: &[f64],
        [rows, columns, stride]: [usize; 3],
        which: Rows,
    ) -> f64 {
        assert!(
            which == Rows::Some || rows <= columns,
            "{rows} rows cannot have one of {columns} columns each"
        );
        self.columns = columns;
        reset(&mut self.partners, rows, FREE);
        reset(&mut self.holders, columns, FREE);
        reset(&mut self.row_costs, rows, 0.0);
        reset(&mut self.column_costs, columns, 0.0);
        reset(&mut self.distances, columns, 0.0);
        reset(&mut self.before, columns, FREE);
        reset(&mut self.scanned, columns, false);
        self.order.clear();
        self.order.reserve(columns);
        let row = |i: usize| &affinities[i * stride..i * stride + columns];
        for start in 0..rows {
            if !self.augment(start, row, which) {
                return f64::NEG_INFINITY;
            }
        }
        let mut value = 0.0;
        for (i, partner) in self.partners.iter().enumerate() {
            if *partner != FREE {
                value += affinities[i * stride + partner];
            }
        }
        value
    }

    /// The column of a row in the last answer, if it has one.
    pub fn partner(&self, row: usize) -> Option<usize> {
        self.partners.get(row).copied().filter(|partner| *partner != FREE)
    }

    /// The potential `u` of a row: what the optimum would lose without it, columns' shares apart.
    pub fn row_potential(&self, row: usize) -> f64 {
        -self.row_costs[row]
    }

    /// The potential `v` of a column.
    pub fn column_potential(&self, column: usize) -> f64 {
        -self.column_costs[column]
    }

    /// Gives row `start` a column by a shortest path over reduced costs; says whether one is there.
    fn augment<'a>(&mut self, start: usize, row: impl Fn(usize) -> &'a [f64], which: Rows) -> bool {
        self.distances.fill(f64::INFINITY);
        self.scanned.fill(false);
        self.order.clear();
        let (mut from, mut length) = (start, 0.0);
        // The shortest path that ends with a row of the tree being alone.
        let (mut lonely, mut alone) = (FREE, f64::INFINITY);
        let end = loop {
            let base = length - self.row_costs[from];
            if which == Rows::Some && base < alone {
                (lonely, alone) = (from, base);
            }
            let (mut nearest, mut least) = (FREE, f64::INFINITY);
            for (a, affinity) in row(from).iter().enumerate() {
                if self.scanned[a] {
                    continue;
                }
                let through = base - affinity - self.column_costs[a];
                if through < self.distances[a] {
                    self.distances[a] = through;
                    self.before[a] = from;
                }
                // Of equally near columns a free one ends the search.
                let here = self.distances[a];
                if here < least || (here == least && self.is_better(a, nearest)) {
                    (nearest, least) = (a, here);
                }
            }
            if alone < least {
                length = alone;
                break None;
            }
            if nearest == FREE {
                return false;
            }
            length = least;
            if self.holders[nearest] == FREE {
                break Some(nearest);
            }
            self.scanned[nearest] = true;
            self.order.push(nearest);
            from = self.holders[nearest];
        };
        // Potentials first: they need the old holders.
        self.row_costs[start] += length;
        for at in 0..self.order.len() {
            let a = self.order[at];
            let slack = length - self.distances[a];
            self.column_costs[a] -= slack;
            self.row_costs[self.holders[a]] += slack;
        }
        self.exchange(start, end, lonely);
        true
    }

    fn is_better(&self, column: usize, than: usize) -> bool {
        than != FREE && self.holders[column] == FREE && self.holders[than] != FREE
    }

    /// Turns the path's pairs over, from its end to its start.
    fn exchange(&mut self, start: usize, end: Option<usize>, lonely: usize) {
        let mut column = match end {
            Some(column) => column,
            None => std::mem::replace(&mut self.partners[lonely], FREE),
        };
        if end.is_none() && lonely == start {
            return;
        }
        loop {
            let row = self.before[column];
            self.holders[column] = row;
            column = std::mem::replace(&mut self.partners[row], column);
            if row == start {
                return;
            }
        }
    }
}

/// Makes a vector this long and this full, in the memory it has.
fn reset<T: Copy>(vector: &mut Vec<T>, length: usize, value: T) {
    vector.clear();
    vector.resize(length, value);
}
