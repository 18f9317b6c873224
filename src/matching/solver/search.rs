//! Tabu search over exchanges of partners, with the gain of every exchange kept at hand.
//!
//! Robust tabu search for quadratic assignment (Taillard, 1991), from many starts.
//! `gains[i, a] = c[i, a] + Σ_j θ_ij[a, label of j]` makes the change of an exchange a handful of
//! reads, and one exchange changes the gains of the two nodes' neighbours only.

use super::terms::Terms;

/// A run ends after this many steps for each source node without a new height.
const STALL_PER_NODE: usize = 4;
/// The search ends when so many runs have reached the best objective, none a better one.
const REACHED: usize = 5;
/// But not before this many steps: agreement among few nodes comes cheap.
const FEWEST_STEPS: usize = 600;

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
    /// `[rows]`: each node's gain at the label that it has.
    present: Vec<f64>,
    /// `[rows, rows]`: `θ_ik[a, b] + θ_ik[b, a]` at the labels that two nodes have: what an exchange
    /// adds to the changes of their gains, each of which takes the other to stay.
    mutual: Vec<f64>,
    /// Targets that nobody has and, where nodes may stay alone, that label.
    free: Vec<usize>,
    /// `[rows, labels]`: the step until which a node may not get a label back.
    tabu: Vec<u32>,
    taken: Vec<bool>,
    best: Vec<usize>,
    best_value: f64,
    start: Vec<usize>,
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

    /// Searches for a number of steps, until the objective is at least `enough`, or until run after
    /// run has ended at the same best: tabu search from the best labelling so far, then from random
    /// ones. Many short runs find more than a long one.
    pub(crate) fn wander(&mut self, terms: &Terms, steps: usize, enough: f64) {
        let mut start = std::mem::take(&mut self.start);
        start.clear();
        start.extend_from_slice(&self.best);
        let (mut left, mut reached, mut before) = (steps, 0, f64::NEG_INFINITY);
        while left > 0
            && self.best_value < enough
            && (reached < REACHED || steps - left < FEWEST_STEPS)
        {
            self.place(terms, start.iter().copied());
            let (taken, highest) = self.run(terms, left, enough);
            left -= taken;
            if self.best_value > before + self.tolerance() {
                (reached, before) = (0, self.best_value);
            }
            reached += usize::from(highest >= self.best_value - self.tolerance());
            for at in (1..start.len()).rev() {
                let other = (self.draw() % (at as u64 + 1)) as usize;
                start.swap(at, other);
            }
        }
        self.start = start;
    }

    /// Makes the best allowed move, for better or worse, until that has long brought nothing new; the
    /// number of steps and the highest objective.
    fn run(&mut self, terms: &Terms, steps: usize, enough: f64) -> (usize, f64) {
        self.tabu.clear();
        self.tabu.resize(terms.rows * terms.labels, 0);
        let (mut highest, mut risen) = (f64::NEG_INFINITY, 0);
        for step in 1..=steps {
            if let Some((change, delta)) = self.best_move(terms, step as u32) {
                self.forbid(terms, change, step as u32);
                self.make(terms, change, delta);
                self.keep();
            }
            if self.value > highest + self.tolerance() {
                (highest, risen) = (self.value, step);
            }
            if self.best_value >= enough || step - risen >= STALL_PER_NODE * terms.rows {
                return (step, highest);
            }
        }
        (steps, highest)
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
        self.mutual.clear();
        self.mutual.resize(terms.rows * terms.rows, 0.0);
        self.present.clear();
        for i in 0..terms.rows {
            self.meet(terms, i);
            self.present.push(self.gains[i * terms.labels + self.labels[i]]);
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
        let (rows, labels) = (terms.rows, terms.labels);
        let aspired = self.best_value - self.value + self.tolerance();
        let mut found: Option<(Move, f64)> = None;
        let mut most = f64::NEG_INFINITY;
        for i in 0..rows {
            let (a, stay) = (self.labels[i], self.present[i]);
            let own = &self.gains[i * labels..(i + 1) * labels];
            let mutual = &self.mutual[i * rows + i + 1..(i + 1) * rows];
            let others = self.gains[(i + 1) * labels..].chunks_exact(labels);
            let present = self.labels[i + 1..].iter().zip(&self.present[i + 1..]);
            for (at, (((b, has), mutual), other)) in present.zip(mutual).zip(others).enumerate() {
                let delta = own[*b] + other[a] + mutual - has - stay;
                if delta > most && a != *b {
                    let k = i + 1 + at;
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
        let rows = terms.rows as u64;
        for i in nodes {
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
                self.meet(terms, k);
                self.meet(terms, i);
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
                self.meet(terms, i);
            }
        }
        for (i, (present, label)) in self.present.iter_mut().zip(&self.labels).enumerate() {
            *present = self.gains[i * terms.labels + label];
        }
        self.value += delta;
    }

    /// Sets what a node and its neighbours add together.
    fn meet(&mut self, terms: &Terms, i: usize) {
        for at in terms.links_of(i) {
            let k = terms.links[at].other as usize;
            let mutual = terms.both_ways(at, self.labels[i], self.labels[k]);
            self.mutual[i * terms.rows + k] = mutual;
            self.mutual[k * terms.rows + i] = mutual;
        }
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
