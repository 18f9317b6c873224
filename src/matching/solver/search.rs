//! Tabu search over exchanges of partners, with the gain of every exchange kept at hand.
//!
//! `gains[i, a] = c[i, a] + Σ_j θ_ij[a, label of j]` makes the change of an exchange a handful of
//! reads, and one exchange changes the gains of the two nodes' neighbours only (Taillard, 1991:
//! robust tabu search for the quadratic assignment problem).

use super::terms::Terms;

/// A change of a labelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    /// Two nodes exchange their labels.
    Exchange(usize, usize),
    /// A node takes a label that nobody has: its place in the list of free ones.
    Take(usize, usize),
}

/// A labelling under change, and the best one seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Search {
    labels: Vec<usize>,
    value: f64,
    gains: Vec<f64>,
    /// Targets that nobody has and, where nodes may stay alone, that label.
    free: Vec<usize>,
    /// `[rows, labels]`: the step until which a node may not get a label back.
    tabu: Vec<u32>,
    taken: Vec<bool>,
    best: Vec<usize>,
    best_value: f64,
    random: u64,
}

impl Search {
    /// Forgets the labelling of the problem before.
    pub(crate) fn begin(&mut self) {
        self.best.clear();
        self.best_value = f64::NEG_INFINITY;
        self.random = 0x9E37_79B9_7F4A_7C15;
    }

    /// The best labelling that was seen, and its objective.
    pub(crate) fn best(&self) -> (&[usize], f64) {
        (&self.best, self.best_value)
    }

    /// Climbs from a labelling to a local optimum.
    pub(crate) fn climb(&mut self, terms: &Terms, start: impl Iterator<Item = usize>) {
        self.place(terms, start);
        while let Some((change, delta)) = self.best_move(terms, 0) {
            if delta <= self.tolerance() {
                break;
            }
            self.make(terms, change, delta);
        }
        self.keep();
    }

    /// Searches on from the best labelling for a number of steps, or until the objective is at
    /// least `enough`.
    pub(crate) fn wander(&mut self, terms: &Terms, steps: usize, enough: f64) {
        let best = std::mem::take(&mut self.best);
        self.place(terms, best.iter().copied());
        self.best = best;
        self.tabu.clear();
        self.tabu.resize(terms.rows * terms.labels, 0);
        for step in 1..=steps as u32 {
            if self.best_value >= enough {
                return;
            }
            let Some((change, delta)) = self.best_move(terms, step) else { continue };
            self.forbid(terms, change, step);
            self.make(terms, change, delta);
            self.keep();
        }
    }

    fn tolerance(&self) -> f64 {
        1e-12 * self.value.abs().max(1.0)
    }

    fn keep(&mut self) {
        if self.best.is_empty() || self.value > self.best_value + self.tolerance() {
            self.best.clear();
            self.best.extend_from_slice(&self.labels);
            self.best_value = self.value;
        }
    }

    /// Starts from a labelling: its objective, gains and free labels.
    fn place(&mut self, terms: &Terms, start: impl Iterator<Item = usize>) {
        self.labels.clear();
        self.labels.extend(start);
        self.taken.clear();
        self.taken.resize(terms.labels, false);
        self.value = terms.value(&self.labels);
        self.gains.clear();
        self.gains.extend_from_slice(&terms.nodes);
        for i in 0..terms.rows {
            self.taken[self.labels[i]] = true;
            self.spread(terms, i, self.labels[i], 1.0);
        }
        if terms.may_be_alone() {
            self.taken[terms.columns] = false;
        }
        self.free.clear();
        self.free.reserve(terms.labels + 1);
        self.free.extend((0..terms.labels).filter(|label| !self.taken[*label]));
    }

    /// Adds what node `i` with label `a` gives its neighbours, `sign` times.
    fn spread(&mut self, terms: &Terms, i: usize, a: usize, sign: f64) {
        for at in terms.links_of(i) {
            let other = terms.links[at].other as usize;
            let gains = &mut self.gains[other * terms.labels..(other + 1) * terms.labels];
            let (near, values) = terms.row(at, a);
            for (b, value) in near.iter().zip(values) {
                gains[*b as usize] += sign * value;
            }
        }
    }

    /// The best move that is not forbidden at a step, or that leads to a new best.
    fn best_move(&self, terms: &Terms, step: u32) -> Option<(Move, f64)> {
        let labels = terms.labels;
        let aspired = self.best_value - self.value + self.tolerance();
        let mut found: Option<(Move, f64)> = None;
        let mut most = f64::NEG_INFINITY;
        for i in 0..terms.rows {
            let a = self.labels[i];
            let own = &self.gains[i * labels..(i + 1) * labels];
            let stay = own[a];
            for k in i + 1..terms.rows {
                let b = self.labels[k];
                let other = &self.gains[k * labels..(k + 1) * labels];
                let delta = own[b] - stay + other[a] - other[b] + terms.both_ways([i, k], [a, b]);
                if delta > most && a != b {
                    let forbidden = step > 0
                        && self.tabu[i * labels + b] >= step
                        && self.tabu[k * labels + a] >= step
                        && delta <= aspired;
                    if !forbidden {
                        most = delta;
                        found = Some((Move::Exchange(i, k), delta));
                    }
                }
            }
            for (at, b) in self.free.iter().enumerate() {
                let delta = own[*b] - stay;
                if delta > most && a != *b {
                    let forbidden =
                        step > 0 && self.tabu[i * labels + b] >= step && delta <= aspired;
                    if !forbidden {
                        most = delta;
                        found = Some((Move::Take(i, at), delta));
                    }
                }
            }
        }
        found
    }

    fn forbid(&mut self, terms: &Terms, change: Move, step: u32) {
        let nodes: [usize; 2] = match change {
            Move::Exchange(i, k) => [i, k],
            Move::Take(i, _) => [i, i],
        };
        for i in nodes {
            let rows = terms.rows as u64;
            let tenure = rows + self.draw() % (rows + 1);
            self.tabu[i * terms.labels + self.labels[i]] = step + tenure as u32;
        }
    }

    fn make(&mut self, terms: &Terms, change: Move, delta: f64) {
        match change {
            Move::Exchange(i, k) => {
                let (a, b) = (self.labels[i], self.labels[k]);
                self.relabel(terms, i, b);
                self.relabel(terms, k, a);
            }
            Move::Take(i, at) => {
                let b = self.free[at];
                let a = self.labels[i];
                let alone = terms.may_be_alone().then_some(terms.columns);
                match (alone == Some(a), alone == Some(b)) {
                    (false, false) => self.free[at] = a,
                    (false, true) => self.free.insert(0, a),
                    (true, _) => {
                        self.free.remove(at);
                    }
                }
                self.relabel(terms, i, b);
            }
        }
        self.value += delta;
    }

    fn relabel(&mut self, terms: &Terms, i: usize, label: usize) {
        self.spread(terms, i, self.labels[i], -1.0);
        self.labels[i] = label;
        self.spread(terms, i, label, 1.0);
    }

    /// A number of a fixed sequence (xorshift, Marsaglia 2003).
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }
}
