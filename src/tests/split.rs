//! The split of a dataset version: honest whatever the patients look like.

use std::collections::{BTreeMap, BTreeSet};

use lvmed::domain::Split;
use lvmed::domain::split::{Item, Shares, SplitError, assign};
use proptest::prelude::*;

const SHARES: Shares = Shares { validation: 0.15, test: 0.25 };

fn free(label: usize, patient: &str) -> Item<'_> {
    Item { label, patient, given: None }
}

fn marked(label: usize, patient: &str, split: Split) -> Item<'_> {
    Item { label, patient, given: Some(split) }
}

#[test]
fn shares_are_met_within_one_patient_of_each_class() {
    let names: Vec<String> = (0..80).map(|patient| format!("p{patient}")).collect();
    let items: Vec<Item> = names.iter().enumerate().map(|(at, name)| free(at % 2, name)).collect();

    let splits = assign(&items, SHARES, 7).expect("a split exists").splits;

    for label in 0..2 {
        let count = |split| {
            items
                .iter()
                .zip(&splits)
                .filter(|(item, s)| item.label == label && **s == split)
                .count()
        };
        assert_eq!(
            (count(Split::Train), count(Split::Validation), count(Split::Test)),
            (24, 6, 10)
        );
    }
}

#[test]
fn equal_seeds_split_alike_in_any_order_and_other_seeds_do_not() {
    let names: Vec<String> = (0..40).map(|patient| format!("p{patient}")).collect();
    let items: Vec<Item> = names.iter().enumerate().map(|(at, name)| free(at % 2, name)).collect();
    let reversed: Vec<Item> = items.iter().rev().copied().collect();
    let by_patient = |items: &[Item], seed| -> BTreeMap<String, Split> {
        let splits = assign(items, SHARES, seed).expect("a split exists").splits;
        items.iter().map(|item| item.patient.to_owned()).zip(splits).collect()
    };

    assert_eq!(by_patient(&items, 1), by_patient(&reversed, 1));
    assert_ne!(by_patient(&items, 1), by_patient(&items, 2));
}

#[test]
fn a_class_with_one_patient_is_learnt_from() {
    let items = [free(0, "a"), free(0, "b"), free(0, "c"), free(1, "d")];

    let splits = assign(&items, SHARES, 0).expect("a split exists").splits;

    assert_eq!(splits[3], Split::Train);
    assert!(splits.contains(&Split::Test));
}

#[test]
fn marked_splits_are_kept_and_a_missing_validation_is_drawn_from_training() {
    let names: Vec<String> = (0..20).map(|patient| format!("p{patient}")).collect();
    let mut items: Vec<Item> =
        names.iter().enumerate().map(|(at, name)| marked(at % 2, name, Split::Train)).collect();
    items.extend([marked(0, "t0", Split::Test), marked(1, "t1", Split::Test)]);

    let assignment = assign(&items, SHARES, 3).expect("a split exists");

    assert_eq!(assignment.splits[20..], [Split::Test, Split::Test]);
    assert!(assignment.splits[..20].contains(&Split::Validation));
    assert!(!assignment.splits[..20].contains(&Split::Test));
    assert_eq!(assignment.notices.len(), 1);
}

#[test]
fn validation_marked_without_test_is_the_held_out_set() {
    let items = [
        marked(0, "a", Split::Train),
        marked(1, "b", Split::Train),
        marked(0, "c", Split::Validation),
        marked(1, "d", Split::Validation),
    ];

    let assignment = assign(&items, SHARES, 0).expect("a split exists");

    assert_eq!(assignment.splits[2..], [Split::Test, Split::Test]);
    assert!(assignment.notices[0].contains("no test images"));
}

#[test]
fn a_patient_in_two_marked_splits_is_refused() {
    let items =
        [marked(0, "a", Split::Train), marked(1, "a", Split::Test), marked(1, "b", Split::Train)];

    assert_eq!(assign(&items, SHARES, 0), Err(SplitError::PatientLeak { patients: 1 }));
}

#[test]
fn impossible_datasets_are_refused_by_name() {
    let refused = |items: &[Item]| assign(items, SHARES, 0).expect_err("refused");

    assert_eq!(refused(&[]), SplitError::NoLabels);
    assert_eq!(refused(&[free(0, "a"), free(0, "b")]), SplitError::OneClass);
    assert_eq!(refused(&[free(0, "a"), free(1, "a")]), SplitError::OnePatient);
    assert_eq!(
        refused(&[free(0, "a"), free(1, "b")]),
        SplitError::EmptyTest { patients: 2, classes: 2 }
    );
    assert_eq!(
        refused(&[marked(0, "a", Split::Train), marked(1, "b", Split::Test)]),
        SplitError::ClassWithoutTraining { label: 1 }
    );
    let all = Shares { validation: 0.5, test: 0.5 };
    assert_eq!(
        assign(&[free(0, "a"), free(1, "b")], all, 0),
        Err(SplitError::BadShares { validation: 0.5, test: 0.5 })
    );
}

proptest! {
    #[test]
    fn no_patient_is_ever_in_two_splits(
        images in prop::collection::vec((0_usize..4, 0_usize..30), 2..200),
        seed: u64,
    ) {
        let names: Vec<String> = (0..30).map(|patient| format!("p{patient}")).collect();
        let items: Vec<Item> =
            images.iter().map(|(label, patient)| free(*label, &names[*patient])).collect();

        if let Ok(assignment) = assign(&items, SHARES, seed) {
            let mut splits: BTreeMap<&str, BTreeSet<Split>> = BTreeMap::new();
            for (item, split) in items.iter().zip(&assignment.splits) {
                splits.entry(item.patient).or_default().insert(*split);
            }
            prop_assert!(splits.values().all(|splits| splits.len() == 1));
            prop_assert!(assignment.splits.contains(&Split::Test));
        }
    }
}
