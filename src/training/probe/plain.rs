//! The rule of recipes that name no head, kept so that they can be replayed: the penalty with the lowest
//! raw loss of held-out images.

use super::head::{HeadFacts, Observe, Part, Probe, ProbeError, tell};
use super::logistic::softmax;
use super::regression::{DEFAULT, Path, penalties, solve};
use super::task::Task;

/// Standardises the features, chooses the penalty by the mean log loss of held-out patients' images,
/// refits on all images and folds the standardisation into the head. The lowest loss wins, a tie goes
/// to the stronger penalty.
pub(super) fn fit(task: &Task<'_>, observe: &mut Observe<'_>) -> Result<Probe, ProbeError> {
    let scale = task.scale();
    let lambdas = penalties(&scale);
    let tried = if task.division.count == 0 { 0 } else { lambdas.len() };
    let total = tried + 1;
    tell(observe, 0, total, None)?;
    let mut path = Path::new(task.folds(|scale| scale), task.classes);
    let held_out: usize = path.labels().map(<[usize]>::len).sum();
    let mut candidates = Vec::with_capacity(tried);
    for (at, lambda) in lambdas.into_iter().take(tried).enumerate() {
        let logits = path.logits(lambda);
        let losses = logits.into_iter().zip(path.labels()).map(|(logits, labels)| {
            logits.into_iter().zip(labels).map(|(row, label)| log_loss(row, *label)).sum::<f64>()
        });
        let loss = losses.sum::<f64>() / held_out as f64;
        candidates.push((lambda, loss));
        tell(observe, at + 1, total, Some(loss))?;
    }
    drop(path);
    let lowest = candidates.iter().min_by(|one, other| one.1.total_cmp(&other.1));
    let regularisation = lowest.map_or(lambdas[DEFAULT], |(lambda, _)| *lambda);
    let rows = scale.apply(task.features());
    let solution = solve(&rows, &task.labels, task.classes, regularisation);
    tell(observe, total, total, None)?;
    let facts = HeadFacts {
        rule: None,
        parts: vec![Part::logistic(regularisation, 1.0)],
        temperature: 1.0,
        folds: task.division.count,
        loss: None,
        auroc: None,
        notices: task.division.notices.clone(),
    };
    let head = task.head(&scale.fold_into(&solution));
    Ok(Probe { head, facts, candidates })
}

fn log_loss(mut logits: Vec<f64>, label: usize) -> f64 {
    let own = logits[label];
    softmax(&mut logits) - own
}
