//! Folds for cross-validation that never separate one patient's images and never leave a class out
//! of what a fold is trained on.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// Most folds drawn.
const MOST: usize = 5;

/// A division of images into folds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folds {
    /// For each image the fold that holds it out, below `count`, or none when it is always trained
    /// on.
    pub held_out: Vec<Option<usize>>,
    /// The number of folds; zero when no patient can be held out.
    pub count: usize,
    /// The notices that a reader of the cross-validation should have.
    pub notices: Vec<String>,
}

/// Divides images, given as (class, patient), into at most five folds, stratified by class: as many
/// as the class with the fewest patients can fill.
///
/// A patient without whom some class could not be trained on, because it is the class's only one,
/// is never held out. The patients go from the largest to the smallest, equal ones in an order
/// drawn from `seed`, each into the fold that lacks its classes most; the result does not depend on
/// the order of the images.
pub fn divide(images: &[(usize, &str)], classes: usize, seed: u64) -> Folds {
    let mut patients = patients(images, classes);
    let mut notices = Vec::new();
    let alone = pin_only_patients(&mut patients, classes);
    if alone > 0 {
        notices.push(format!(
            "{alone} of {classes} classes have training images of one patient only; the \
             head was chosen without holding these patients out."
        ));
    }

    let mut count = fold_count(&patients, classes);
    if count >= 2 {
        spread(&mut patients, classes, count, seed);
        pin_where_a_class_would_vanish(&mut patients, classes);
        count = renumber(&mut patients);
    } else {
        count = 0;
    }
    if count == 0 {
        notices.push(
            "No patient could be held out of training: the head is a logistic regression with a \
             default penalty, not chosen by cross-validation."
                .to_owned(),
        );
    } else if count < MOST {
        notices.push(format!(
            "The head was chosen by {count}-fold cross-validation, since a class has few \
             training patients."
        ));
    }
    let held_out = images.iter().map(|(_, key)| patients[key].fold).collect();
    Folds { held_out, count, notices }
}

/// One patient: images of each class, and where it goes.
struct Patient {
    counts: Vec<usize>,
    fold: Option<usize>,
    /// Never held out.
    pinned: bool,
}

fn patients<'a>(images: &[(usize, &'a str)], classes: usize) -> BTreeMap<&'a str, Patient> {
    let mut patients = BTreeMap::new();
    for (label, key) in images {
        let new = || Patient { counts: vec![0; classes], fold: None, pinned: false };
        patients.entry(*key).or_insert_with(new).counts[*label] += 1;
    }
    patients
}

/// Pins the only patient of every class that has one only; returns how many such classes there are.
fn pin_only_patients(patients: &mut BTreeMap<&str, Patient>, classes: usize) -> usize {
    let mut alone = 0;
    for class in 0..classes {
        let mut of_class = patients.values_mut().filter(|patient| patient.counts[class] > 0);
        if let (Some(only), None) = (of_class.next(), of_class.next()) {
            only.pinned = true;
            alone += 1;
        }
    }
    alone
}

/// As many folds as the class with the fewest patients to hold out can fill; classes that a pinned
/// patient always keeps in training do not count.
fn fold_count(patients: &BTreeMap<&str, Patient>, classes: usize) -> usize {
    let of_class = |class: usize| patients.values().filter(move |p| p.counts[class] > 0);
    let smallest = (0..classes)
        .filter(|class| of_class(*class).count() > 0 && of_class(*class).all(|p| !p.pinned))
        .map(|class| of_class(class).count())
        .min();
    let free = patients.values().filter(|patient| !patient.pinned).count();
    smallest.unwrap_or(free).min(free).min(MOST)
}

fn spread(patients: &mut BTreeMap<&str, Patient>, classes: usize, count: usize, seed: u64) {
    let mut order: Vec<&mut Patient> = patients.values_mut().filter(|p| !p.pinned).collect();
    let total = |class| order.iter().map(|patient| patient.counts[class]).sum::<usize>().max(1);
    let totals: Vec<usize> = (0..classes).map(total).collect();
    order.shuffle(&mut StdRng::seed_from_u64(seed));
    order.sort_by_key(|patient| std::cmp::Reverse(patient.counts.iter().sum::<usize>()));

    let mut filled = vec![vec![0_usize; classes]; count];
    for patient in order {
        // How full a fold is of what this patient brings, and then how full it is.
        let fullness = |fold: &Vec<usize>| {
            let shares = patient.counts.iter().zip(fold).zip(&totals);
            let share: f64 =
                shares.map(|((brings, has), total)| (brings * has) as f64 / *total as f64).sum();
            (share, fold.iter().sum::<usize>())
        };
        let mut best = 0;
        for fold in 1..count {
            if fullness(&filled[fold]) < fullness(&filled[best]) {
                best = fold;
            }
        }
        for (has, brings) in filled[best].iter_mut().zip(&patient.counts) {
            *has += brings;
        }
        patient.fold = Some(best);
    }
}

/// Pins a patient of each class that would vanish: where patients of several classes drew all
/// patients of a class into one fold, takes the first of them out of it, to be trained on always.
fn pin_where_a_class_would_vanish(patients: &mut BTreeMap<&str, Patient>, classes: usize) {
    for class in 0..classes {
        let mut of_class = patients.values_mut().filter(|patient| patient.counts[class] > 0);
        let Some(first) = of_class.next() else { continue };
        if first.fold.is_some() && of_class.all(|patient| patient.fold == first.fold) {
            first.pinned = true;
            first.fold = None;
        }
    }
}

/// Closes the gaps that pinning left; returns the number of folds that hold somebody out.
fn renumber(patients: &mut BTreeMap<&str, Patient>) -> usize {
    let mut used: Vec<usize> = patients.values().filter_map(|patient| patient.fold).collect();
    used.sort_unstable();
    used.dedup();
    for patient in patients.values_mut() {
        patient.fold = patient.fold.and_then(|fold| used.binary_search(&fold).ok());
    }
    used.len()
}
