//! Datasets, their images and the backbones: counts, pages, and what may not be deleted.

use lvmed::domain::image::Image;
use lvmed::domain::receipt::{Capped, Refused};
use lvmed::domain::{BackboneId, DatasetId, ImageId, Preprocessing, Sha256, Task};
use lvmed::store::images::{self, Page};
use lvmed::store::queue::{Ending, end};
use lvmed::store::{StoreError, backbones, datasets, deletion, runs};

use super::{Lab, add, backbone, image, name};
use crate::database::Scratch;

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_counts_its_images_patients_classes_and_rejected_files() {
    let scratch = Scratch::new().await;
    let pool = &scratch.store.pool;
    let id = datasets::create(pool, &name("chest"), Task::default()).await.expect("created").id;
    datasets::create(pool, &name("another"), Task::default()).await.expect("created");
    let mut added = Vec::new();
    for (number, label) in [(0, Some("a")), (1, Some("a")), (2, Some("b")), (3, None)] {
        let image = image(id, number, label);
        assert!(add(pool, &image).await);
        added.push(image);
    }
    let mut same_patient = image(id, 4, Some("b"));
    same_patient.patient_key.clone_from(&added[0].patient_key);
    assert!(add(pool, &same_patient).await);
    let mut rejected = Capped::new(2);
    (1..=3).for_each(|entry| rejected.push(Refused::new("a name", entry, "it's \"broken\"")));
    for _ in 0..2 {
        // An upload that comes again is not counted again.
        datasets::reject(pool, id, "upload", &rejected).await.expect("recorded");
    }
    let nothing = Capped::new(2);
    datasets::reject(pool, id, "another", &nothing).await.expect("nothing is no error");

    assert!(deletion::image(&scratch.store, added[2].id).await.expect("answered"));

    assert!(
        !deletion::image(&scratch.store, added[2].id).await.expect("answered"),
        "deleted twice"
    );
    let found = datasets::one(pool, id).await.expect("answered").expect("there");
    assert_eq!((found.images, found.patients, found.rejected), (4, 3, 3));
    assert_eq!(found.classes, [("a".to_owned(), 2), ("b".to_owned(), 1)].into());
    let listed = datasets::list(pool).await.expect("answered");
    assert_eq!(listed[0], found);
    assert_eq!((listed[1].images, listed[1].classes.len(), listed.len()), (0, 0, 2));
    let listed = datasets::rejected(pool, id, 10).await.expect("answered");
    let told: Vec<_> = listed.iter().map(|one| (one.entry, one.reason.as_str())).collect();
    assert_eq!(told[..2], [(Some(1), "it's \"broken\""), (Some(2), "it's \"broken\"")]);
    assert!(told.len() == 3 && told[2].0.is_none() && told[2].1.contains("counted"), "{told:?}");
    assert_eq!(datasets::rejected(pool, id, 2).await.expect("answered"), listed[..2]);
    assert!(datasets::one(pool, DatasetId::new()).await.expect("answered").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_with_unfinished_runs_stays_and_a_deleted_one_frees_its_name() {
    let lab = Lab::new().await;
    let (pool, store) = (lab.pool(), &lab.scratch.store);
    let taken = datasets::create(pool, &name("lab"), Task::default()).await;
    assert!(matches!(taken, Err(StoreError::NameTaken(found)) if found == "lab"));
    let running = lab.running().await;
    let queued = lab.queue().await;

    let refused = deletion::dataset(store, lab.dataset).await;
    assert!(matches!(&refused, Err(StoreError::InUse { by, .. }) if by.starts_with("2 ")));
    let refused = deletion::backbone(store, lab.backbone).await;
    assert!(matches!(&refused, Err(StoreError::InUse { by, .. }) if by.starts_with("2 ")));
    end(pool, &running, &Ending::Failed("no".to_owned())).await.expect("ended");
    runs::cancel(pool, queued.id).await.expect("cancelled");

    assert!(deletion::dataset(store, lab.dataset).await.expect("answered"));
    assert!(!deletion::dataset(store, lab.dataset).await.expect("answered"), "deleted twice");
    assert!(datasets::one(pool, lab.dataset).await.expect("answered").is_none());
    assert!(datasets::list(pool).await.expect("answered").is_empty());
    assert!(images::one(pool, lab.images[0].image.id).await.expect("answered").is_none());
    datasets::create(pool, &name("lab"), Task::default()).await.expect("the name is free again");
    assert!(deletion::backbone(store, lab.backbone).await.expect("answered"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_reads_back_and_the_same_frame_of_the_same_file_is_added_once() {
    let scratch = Scratch::new().await;
    let pool = &scratch.store.pool;
    let id = datasets::create(pool, &name("chest"), Task::default()).await.expect("created").id;
    let other =
        datasets::create(pool, &name("abdomen"), Task::default()).await.expect("created").id;
    let add = async |image: Image| add(pool, &image).await;
    let original = image(id, 1, Some("a"));

    assert!(add(original.clone()).await);

    let mut found = images::one(pool, original.id).await.expect("answered").expect("there");
    (found.created_at, found.number) = (original.created_at, original.number);
    assert_eq!(found, original);
    let copies = (0..6).map(|_| add(image(id, 1, Some("b"))));
    assert_eq!(futures_util::future::join_all(copies).await, [false; 6]);
    let mut second_frame = image(id, 1, Some("a"));
    second_frame.frame = 1;
    assert!(add(second_frame).await);
    assert!(add(image(other, 1, None)).await, "another dataset may hold it too");
    assert!(deletion::image(&scratch.store, original.id).await.expect("answered"));
    assert!(images::one(pool, original.id).await.expect("answered").is_none());
    assert!(add(image(id, 1, Some("b"))).await, "it may come back after it was deleted");
    assert!(images::one(pool, ImageId::new()).await.expect("answered").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_numbered_in_the_order_of_upload_and_no_number_is_given_twice() {
    let scratch = Scratch::new().await;
    let pool = &scratch.store.pool;
    let id = datasets::create(pool, &name("chest"), Task::default()).await.expect("created").id;
    let other =
        datasets::create(pool, &name("abdomen"), Task::default()).await.expect("created").id;
    let number = async |image: &Image| {
        let found = images::one(pool, image.id).await.expect("answered");
        found.expect("there").number
    };
    let [first, second, elsewhere] =
        [image(id, 7, None), image(id, 3, None), image(other, 7, None)];
    for image in [&first, &second, &elsewhere] {
        assert!(add(pool, image).await);
    }
    let again = image(id, 7, Some("b"));
    assert!(!add(pool, &again).await);
    let mut frame = image(id, 3, None);
    frame.frame = 5;
    assert!(add(pool, &frame).await);
    assert_eq!([number(&first).await, number(&second).await, number(&elsewhere).await], [1, 2, 1]);
    assert_eq!(number(&frame).await, 2, "frames of a file share its number");

    assert!(deletion::image(&scratch.store, first.id).await.expect("answered"));
    let back = image(id, 7, None);
    assert!(add(pool, &back).await);
    assert_eq!(number(&back).await, 3, "a number that was given was given again");
    let together: Vec<Image> = (10..20).map(|file| image(id, file, None)).collect();
    futures_util::future::join_all(together.iter().map(|image| add(pool, image))).await;
    let mut numbers = Vec::new();
    for image in &together {
        numbers.push(number(image).await);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (4..14).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_found_by_each_file_that_it_came_from() {
    let scratch = Scratch::new().await;
    let pool = &scratch.store.pool;
    let id = datasets::create(pool, &name("chest"), Task::default()).await.expect("created").id;
    let (kept, other) = (image(id, 1, None), image(id, 2, None));
    let mut connection = pool.acquire().await.expect("a connection");
    for original in ["one", "two", "two"].into_iter().chain(["more"; 3]) {
        let added = images::add(&mut connection, std::slice::from_ref(&kept), original).await;
        assert_eq!(added.expect("added").number, 1);
    }
    add(pool, &other).await;
    let found = async |key: &str, blob: Sha256| {
        let page = Page { file: Some((key.to_owned(), blob)), limit: 10, ..Page::default() };
        let found = images::list(pool, id, &page).await.expect("answered");
        found.into_iter().map(|image| image.id).collect::<Vec<_>>()
    };
    let unknown = Sha256::of(b"unknown");

    assert_eq!(found("one", unknown).await, [kept.id]);
    assert_eq!(found("two", unknown).await, [kept.id]);
    assert_eq!(found("nothing", other.blob).await, [other.id]);
    assert!(found("nothing", unknown).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_listed_in_the_order_of_their_upload_by_class_and_page() {
    let scratch = Scratch::new().await;
    let pool = &scratch.store.pool;
    let id = datasets::create(pool, &name("chest"), Task::default()).await.expect("created").id;
    let mut ids = Vec::new();
    for (number, label) in [(5, Some("a")), (3, Some("b")), (4, Some("a")), (1, None)] {
        let image = image(id, number, label);
        add(pool, &image).await;
        ids.push(image.id);
    }
    let list = async |label: Option<&str>, after, limit| {
        let page = Page { label: label.map(str::to_owned), file: None, after, limit };
        let found = images::list(pool, id, &page).await.expect("answered");
        found.into_iter().map(|image| image.id).collect::<Vec<_>>()
    };

    assert_eq!(list(None, None, 10).await, ids);
    assert_eq!(list(None, None, 3).await, ids[..3]);
    assert_eq!(list(None, Some(ids[1]), 10).await, ids[2..]);
    assert_eq!(list(Some("a"), None, 10).await, [ids[0], ids[2]]);
    assert_eq!(list(Some("a"), Some(ids[0]), 10).await, [ids[2]]);
    assert!(list(Some("c"), None, 10).await.is_empty());
    let labelled = images::for_snapshot(pool, id, false).await.expect("answered");
    assert_eq!(labelled.len(), 3);
    let all = images::for_snapshot(pool, id, true).await.expect("answered");
    assert_eq!(all.len(), ids.len());
    assert!(all.iter().any(|image| image.label.is_none()), "a label was made up");
    assert!(labelled.is_sorted_by_key(|image| image.blob.to_string()), "not by content");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backbone_reads_back_is_found_by_its_equal_and_outlives_its_deletion_on_record() {
    let scratch = Scratch::new().await;
    let pool = &scratch.store.pool;
    let given = backbone("lvmed");

    let kept = backbones::insert(pool, &given).await.expect("inserted");

    assert!(kept.created_at > given.created_at, "the clock is the database's");
    assert_eq!(lvmed::domain::Backbone { created_at: given.created_at, ..kept.clone() }, given);
    assert_eq!(backbones::one(pool, given.id).await.expect("answered"), Some(kept.clone()));
    assert_eq!(backbones::list(pool).await.expect("answered"), std::slice::from_ref(&kept));
    let same = async |name: &str, weights: &[u8], size| {
        let preprocessing = Preprocessing { size, ..Preprocessing::imagenet() };
        let found = backbones::same(pool, name, &Sha256::of(weights), &preprocessing).await;
        found.expect("answered").map(|found| found.id)
    };
    assert_eq!(same("lvmed", b"weights", 224).await, Some(given.id));
    assert_eq!(same("other", b"weights", 224).await, None);
    assert_eq!(same("lvmed", b"others", 224).await, None);
    assert_eq!(same("lvmed", b"weights", 256).await, None);
    assert!(deletion::backbone(&scratch.store, given.id).await.expect("answered"));
    assert!(
        !deletion::backbone(&scratch.store, given.id).await.expect("answered"),
        "deleted twice"
    );
    assert_eq!(same("lvmed", b"weights", 224).await, None);
    assert_eq!(backbones::one(pool, given.id).await.expect("answered"), None);
    assert!(backbones::list(pool).await.expect("answered").is_empty());
    assert_eq!(backbones::even_deleted(pool, given.id).await.expect("answered"), Some(kept));
    assert_eq!(backbones::even_deleted(pool, BackboneId::new()).await.expect("answered"), None);
}
