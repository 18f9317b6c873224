//! Draws the training images of a few-shot run: so many a class, from as many patients as possible.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::domain::Target;

/// One training image, as the draw sees it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The answer that a model is to give for it.
    pub target: Target,
    /// Key of its patient.
    pub patient: &'a str,
}

/// A class has fewer training images than asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("class {label:?} has {found} training image(s); {asked} were asked for")]
pub struct TooFewImages {
    /// The class.
    pub label: String,
    /// Training images it has.
    pub found: usize,
    /// Images asked for.
    pub asked: u32,
}

/// Chooses `shots` images of every class, or all images when `shots` is absent, and returns their
/// indices in ascending order.
///
/// Within a class the draw goes round its patients in an order drawn from `seed`, one image of each
/// at a time: five shots are five patients where there are five. A larger draw with the same seed
/// contains the smaller one. The patients drawn do not depend on the order of the candidates; which
/// of a patient's images is taken first does, so callers list images in the order of the version.
pub fn choose(
    candidates: &[Candidate<'_>],
    classes: &[String],
    shots: Option<u32>,
    seed: u64,
) -> Result<Vec<usize>, TooFewImages> {
    let Some(asked) = shots else {
        return Ok((0..candidates.len()).collect());
    };
    let mut rng = StdRng::seed_from_u64(seed);
    let mut chosen = Vec::new();
    for (class, label) in classes.iter().enumerate() {
        // Each class has a generator of its own, so that a class is drawn alike whatever the size
        // of those before it.
        let mut own = StdRng::from_rng(&mut rng);
        let order = rounds(candidates, class, &mut own);
        let Some(drawn) = order.get(..asked as usize) else {
            return Err(TooFewImages { label: label.clone(), found: order.len(), asked });
        };
        chosen.extend_from_slice(drawn);
    }
    chosen.sort_unstable();
    Ok(chosen)
}

/// Chooses all images but those of a fifth of each class's patients, drawn from `seed`; of a class with
/// fewer than five patients all of them.
pub(in crate::training) fn most(
    candidates: &[Candidate<'_>],
    classes: usize,
    seed: u64,
) -> Vec<usize> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut chosen = Vec::new();
    for class in 0..classes {
        let mut own = StdRng::from_rng(&mut rng);
        let mut patients: Vec<Vec<usize>> = by_patient(candidates, class).into_values().collect();
        patients.shuffle(&mut own);
        patients.truncate(patients.len() - patients.len() / 5);
        chosen.extend(patients.into_iter().flatten());
    }
    chosen.sort_unstable();
    chosen
}

/// Every image of a class: one of each patient, then a second of each that has one, and so on.
fn rounds(candidates: &[Candidate<'_>], class: usize, rng: &mut StdRng) -> Vec<usize> {
    let mut patients: Vec<Vec<usize>> = by_patient(candidates, class).into_values().collect();
    patients.shuffle(rng);
    patients.iter_mut().for_each(|images| images.shuffle(rng));
    let most = patients.iter().map(Vec::len).max().unwrap_or(0);
    (0..most)
        .flat_map(|round| patients.iter().filter_map(move |images| images.get(round)))
        .copied()
        .collect()
}

/// The images of a class by patient.
fn by_patient<'a>(candidates: &[Candidate<'a>], class: usize) -> BTreeMap<&'a str, Vec<usize>> {
    let mut found: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, candidate) in candidates.iter().enumerate() {
        if candidate.target.class() == class {
            found.entry(candidate.patient).or_default().push(at);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Candidate, Target, TooFewImages, choose, most};

    /// Class 0 has four images of each of three patients; class 1 has one of each of five.
    const PATIENTS: [&str; 17] =
        ["a", "a", "a", "a", "b", "b", "b", "b", "c", "c", "c", "c", "p", "q", "r", "s", "t"];

    fn candidates() -> Vec<Candidate<'static>> {
        let target = |at| Target::Class(usize::from(at >= 12));
        let patients = PATIENTS.into_iter().enumerate();
        patients.map(|(at, patient)| Candidate { target: target(at), patient }).collect()
    }

    fn classes() -> Vec<String> {
        vec!["benign".to_owned(), "malignant".to_owned()]
    }

    #[test]
    fn most_leaves_out_a_fifth_of_a_classs_patients_with_all_their_images() {
        let mut left_out = BTreeSet::new();
        for seed in 0..20 {
            let chosen = most(&candidates(), 2, seed);

            // Three patients are fewer than five: all of class 0. Of class 1 one patient is missing.
            assert_eq!(chosen.iter().filter(|at| **at < 12).count(), 12);
            assert_eq!(chosen.len(), 16);
            left_out.extend((12..17).filter(|at| !chosen.contains(at)));
        }
        assert_eq!(left_out.len(), 5, "each is left out by some seed: {left_out:?}");
    }

    #[test]
    fn shots_are_exact_and_cover_as_many_patients_as_they_can() {
        for seed in 0..50 {
            let chosen = choose(&candidates(), &classes(), Some(5), seed).expect("enough images");

            let first: Vec<&str> =
                chosen.iter().filter(|at| **at < 12).map(|at| PATIENTS[*at]).collect();
            assert_eq!(chosen.len(), 10);
            assert_eq!(first.len(), 5);
            assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3);
            assert!(first.iter().all(|p| first.iter().filter(|q| *q == p).count() <= 2));
        }
    }

    #[test]
    fn equal_seeds_choose_alike_others_do_not_and_more_shots_contain_fewer() {
        let chosen = |shots, seed| choose(&candidates(), &classes(), Some(shots), seed);
        let small: BTreeSet<usize> = chosen(2, 1).expect("enough").into_iter().collect();
        let large: BTreeSet<usize> = chosen(4, 1).expect("enough").into_iter().collect();

        assert_eq!(chosen(3, 1), chosen(3, 1));
        assert!((2..9).any(|seed| chosen(3, 1) != chosen(3, seed)));
        assert!(small.is_subset(&large));
    }

    #[test]
    fn every_patient_has_a_chance_to_be_drawn() {
        let single = |seed| choose(&candidates(), &classes(), Some(1), seed).expect("enough");
        let drawn: BTreeSet<&str> = (0..100).flat_map(single).map(|at| PATIENTS[at]).collect();

        assert_eq!(drawn, BTreeSet::from(PATIENTS));
    }

    #[test]
    fn no_limit_takes_every_image() {
        let chosen = choose(&candidates(), &classes(), None, 0);

        assert_eq!(chosen, Ok((0..17).collect()));
    }

    #[test]
    fn a_class_with_too_few_images_is_named() {
        let refused = choose(&candidates(), &classes(), Some(6), 0);

        let expected = TooFewImages { label: "malignant".to_owned(), found: 5, asked: 6 };
        assert_eq!(refused, Err(expected));
    }
}
