//! The temperature of logits: how sure they may be, by images that were not learnt from.

use super::logistic::softmax;

/// Images of every class, evenly unsure, that are counted in beside the real ones: a handful that happens
/// to be all right would otherwise ask for endless certainty, as Platt (1999, section 2.2) saw.
const UNSURE: f64 = 2.0;
/// The least height of the mean probability of the likeliest class above guessing, as a share of the
/// way to certainty: where so few images were held out that their ranking came out by bad luck, the
/// logits are worth more than a head that says nothing.
const LEAST: f64 = 0.1;
/// Bounds of the factor, for logits of unit spread.
const RANGE: (f64, f64) = (1e-4, 1e4);
/// Halvings of an interval of its logarithm: to 1e-13 of it.
const HALVINGS: u32 = 47;

/// The scaling of logits, and their mean log loss then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tempered {
    /// `a = 1/T`, by which logits are multiplied; above 0.
    pub factor: f64,
    /// Mean of `-log softmax(a z)[y]` in nats, the unsure images counted in.
    pub loss: f64,
}

/// The temperature of logits `[N][K]` of images that the classifier did not learn from, whose classes
/// are `labels` (Guo et al. 2017, section 4.2, with `a = 1/T`).
///
/// The loss is that of `N` labels of which the share `2K / (N + 2K)` is spread over all classes; from
/// below the factor is bounded by a mean top probability a tenth of the way from `1/K` to 1.
pub fn temper(logits: &[Vec<f64>], labels: &[usize]) -> Tempered {
    let classes = logits.first().map_or(1, Vec::len) as f64;
    let smoothing = UNSURE * classes / (logits.len() as f64 + UNSURE * classes);
    let spread = spread(logits);
    if spread == 0.0 {
        return Tempered { factor: 1.0, loss: classes.ln() };
    }
    let (low, high) = (RANGE.0 / spread, RANGE.1 / spread);
    // The loss is convex in the factor, and the mean top probability grows with it.
    let best = rise(low, high, |factor| slope(logits, labels, smoothing, factor) >= 0.0);
    let least = 1.0 / classes + LEAST * (1.0 - 1.0 / classes);
    let factor = if sureness(logits, best) < least {
        rise(best, high, |factor| sureness(logits, factor) >= least)
    } else {
        best
    };
    Tempered { factor, loss: loss(logits, labels, smoothing, factor) }
}

/// The factor at which `is_past` begins to hold between `low` and `high`, found by halving the
/// logarithm.
fn rise(low: f64, high: f64, is_past: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (low.ln(), high.ln());
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if is_past(middle.exp()) { high = middle } else { low = middle }
    }
    high.exp()
}

/// Root mean square of the logits about their mean over the classes.
fn spread(logits: &[Vec<f64>]) -> f64 {
    let of = |row: &Vec<f64>| {
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        row.iter().map(|logit| (logit - mean).powi(2)).sum::<f64>() / row.len() as f64
    };
    (logits.iter().map(of).sum::<f64>() / logits.len().max(1) as f64).sqrt()
}

/// Mean probability of the likeliest class.
fn sureness(logits: &[Vec<f64>], factor: f64) -> f64 {
    let top = |row: &Vec<f64>| {
        let mut scaled: Vec<f64> = row.iter().map(|logit| factor * logit).collect();
        softmax(&mut scaled);
        scaled.into_iter().fold(0.0, f64::max)
    };
    logits.iter().map(top).sum::<f64>() / logits.len().max(1) as f64
}

fn loss(logits: &[Vec<f64>], labels: &[usize], smoothing: f64, factor: f64) -> f64 {
    let of = |(row, label): (&Vec<f64>, &usize)| {
        let mut scaled: Vec<f64> = row.iter().map(|logit| factor * logit).collect();
        let own = scaled[*label];
        let mean = scaled.iter().sum::<f64>() / scaled.len() as f64;
        softmax(&mut scaled) - (1.0 - smoothing) * own - smoothing * mean
    };
    logits.iter().zip(labels).map(of).sum::<f64>() / labels.len().max(1) as f64
}

/// The growth of [`loss`] with the factor, times the number of images.
fn slope(logits: &[Vec<f64>], labels: &[usize], smoothing: f64, factor: f64) -> f64 {
    let of = |(row, label): (&Vec<f64>, &usize)| {
        let mut probabilities: Vec<f64> = row.iter().map(|logit| factor * logit).collect();
        softmax(&mut probabilities);
        let expected: f64 = probabilities.iter().zip(row).map(|(p, logit)| p * logit).sum();
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        expected - (1.0 - smoothing) * row[*label] - smoothing * mean
    };
    logits.iter().zip(labels).map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::{loss, sureness, temper};

    /// Logits of which every third is wrong, `scale` times too sure.
    fn noisy(scale: f64) -> (Vec<Vec<f64>>, Vec<usize>) {
        let row = |at: u32| {
            let t = f64::from(at);
            vec![3.0 * scale * t.sin(), 2.0 * scale * (1.7 * t).cos(), scale * (0.3 * t).sin()]
        };
        let logits: Vec<Vec<f64>> = (0..30).map(row).collect();
        let best = |row: &[f64]| (0..3).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(0);
        let pairs = logits.iter().enumerate();
        let labels = pairs.map(|(at, row)| (best(row) + usize::from(at % 3 == 0)) % 3).collect();
        (logits, labels)
    }

    #[test]
    fn the_factor_has_the_least_loss_of_a_fine_grid_whatever_the_unit_of_the_logits() {
        let (logits, labels) = noisy(1.0);
        let smoothing = 6.0 / 36.0;

        let found = temper(&logits, &labels);
        let large = temper(&noisy(1e6).0, &labels);

        let grid = (-400..400).map(|step| (f64::from(step) / 100.0).exp());
        let least =
            grid.map(|a| loss(&logits, &labels, smoothing, a)).fold(f64::INFINITY, f64::min);
        assert!(found.loss <= least + 1e-12, "{found:?} {least}");
        assert!((found.factor / large.factor / 1e6 - 1.0).abs() < 1e-9, "{found:?} {large:?}");
    }

    #[test]
    fn images_that_are_all_right_do_not_ask_for_endless_certainty() {
        let found = temper(&[vec![1.0, -1.0], vec![-1.0, 1.0]], &[0, 1]);

        // Two images and four unsure ones: softmax(a z) is then 2/3 to 1/3, a = ln(2) / 2.
        assert!((found.factor - 2.0_f64.ln() / 2.0).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn images_that_are_all_wrong_leave_a_head_that_still_says_something() {
        let logits = vec![vec![1.0, -1.0], vec![-1.0, 1.0]];

        let found = temper(&logits, &[1, 0]);

        assert!((sureness(&logits, found.factor) - 0.55).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn logits_that_say_nothing_stay_as_they_are() {
        let found = temper(&[vec![0.0, 0.0], vec![0.0, 0.0]], &[0, 1]);

        assert!((found.factor - 1.0).abs() < 1e-12 && (found.loss - 2.0_f64.ln()).abs() < 1e-12);
    }
}
