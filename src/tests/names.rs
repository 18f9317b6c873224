//! No name of a file is kept: what the receipt says, how pictures are found again, what old rows become.

use crate::app::App;
use crate::database::{Scratch, dump};
use crate::dicoms::ct;
use crate::pictures::{png, zip};
use lvmed::domain::image::Image;
use lvmed::domain::{ImageId, Sha256};
use lvmed::store::images::{self, Page};
use lvmed::store::{MIGRATIONS, datasets, versions};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

fn entry(name: &str, bytes: Vec<u8>) -> (String, Vec<u8>) {
    (name.to_owned(), bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receipt_maps_paths_to_numbers_and_a_file_finds_its_picture() {
    let server = App::start().await;
    let scan = ct(0, 1, "NOBODY");
    // The same picture with another header: stored once, and found by either file.
    let copy = ct(0, 1, "SOMEBODY");
    let picture = png(1, 2, 32);
    let archive = zip(&[
        entry("left/scan one.dcm", scan.clone()),
        entry("right/=2+3.png", picture.clone()),
        entry("left/broken.dcm", b"no picture".to_vec()),
        entry("left/copy.dcm", copy.clone()),
    ]);
    let dataset = server.empty_dataset("numbered").await;
    let send = || server.expect(server.upload(&dataset, "a.zip", archive.clone()), StatusCode::OK);

    let report = send().await;
    let again = send().await;

    let line = |file: &str, number: u64, name: &str, added: u32| json!({"file": file, "number": number, "name": name, "images": 1, "added": added});
    let first = [
        line("left/scan one.dcm", 1, "1.dcm", 1),
        line("right/=2+3.png", 2, "2.png", 1),
        line("left/copy.dcm", 1, "1.dcm", 0),
    ];
    assert_eq!(report["receipt"], json!(first), "{report:#}");
    assert_eq!(
        (&report["rejected_total"], &report["rejected"][0]["entry"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(again["receipt"][1], line("right/=2+3.png", 2, "2.png", 0), "{again:#}");
    let found = server.get(&format!("/api/v1/datasets/{dataset}")).await;
    assert_eq!((&found["images"], &found["rejected"]), (&json!(2), &json!(1)), "{found:#}");
    let rejected = server.get(&format!("/api/v1/datasets/{dataset}/rejected")).await;
    assert_eq!(rejected["items"].as_array().map(Vec::len), Some(1), "{rejected:#}");

    let path = |digest: &str| format!("/api/v1/datasets/{dataset}/images?sha256={digest}");
    for (file, number) in [(&scan, 1), (&copy, 1), (&picture, 2)] {
        let digest = Sha256::of(file).to_string();
        let found = server.get(&path(&digest.to_uppercase())).await;
        let numbers: Vec<_> = found["items"].as_array().into_iter().flatten().collect();
        assert_eq!((numbers.len(), &numbers[0]["number"]), (1, &json!(number)), "{found:#}");
        let stored = numbers[0]["blob"].as_str().expect("a digest");
        let by_stored = server.get(&path(stored)).await;
        assert_eq!(by_stored["items"][0]["number"], json!(number), "{by_stored:#}");
    }
    let nothing = server.get(&path(&Sha256::of(b"unknown").to_string())).await;
    assert_eq!(nothing["items"], json!([]), "{nothing:#}");
    let invalid = (StatusCode::UNPROCESSABLE_ENTITY, "invalid");
    server.refused(server.request(Method::GET, &path("12")), invalid, &["sha256"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_in_answers_are_cut_and_counted_and_counts_are_of_what_was_kept() {
    let server = App::start_with(&[("LVMED_LIMIT_LISTED_FILES", "3")]).await;
    let rows: String = (0..40).map(|row| format!("absent-{row}.png,left\n")).collect();
    let mut entries = vec![entry("labels.csv", format!("file,label\n{rows}").into_bytes())];
    entries.extend((0..6).map(|number| entry(&format!("{number}.png"), png(0, number, 16))));
    entries.push(entry("broken.png", b"no picture".to_vec()));
    let dataset = server.empty_dataset("counted").await;

    let report =
        server.expect(server.upload(&dataset, "a.zip", zip(&entries)), StatusCode::OK).await;
    let alone = server.upload(&dataset, "alone.png", png(1, 7, 16));
    let alone = server.expect(alone, StatusCode::OK).await;

    let length = |list: &str| report[list].as_array().map(Vec::len);
    assert_eq!((length("receipt"), length("rejected")), (Some(3), Some(3)), "{report:#}");
    assert_eq!((&report["files"], &report["rejected_total"]), (&json!(6), &json!(41)));
    let counts = |report: &Value| {
        (report["files_without_label"].clone(), report["files_without_patient"].clone())
    };
    assert_eq!(counts(&report), (json!(6), json!(6)));
    assert_eq!(counts(&alone), (json!(1), json!(1)));
    let told = report["notices"].to_string();
    assert!(told.contains("6 files have no label") && told.contains("6 files name no patient"));
    let told = alone["notices"].to_string();
    assert!(told.contains("1 file has no label") && told.contains("1 file names no patient"));
    let found = server.get(&format!("/api/v1/datasets/{dataset}")).await;
    assert_eq!(found["rejected"], 41, "{found:#}");
    let kept = server.get(&format!("/api/v1/datasets/{dataset}/rejected")).await;
    assert_eq!(kept["items"].as_array().map(Vec::len), Some(3), "{kept:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_tells_its_patient_is_refused_and_the_other_files_go_on() {
    let server = App::start().await;
    // PatientID is CANARY01N1 and so on: the folders of one class are named after patients.
    let archive = zip(&[
        entry("CANARY01N1/1.dcm", ct(0, 1, "CANARY")),
        entry("canary-00-n-2/2.dcm", ct(0, 2, "CANARY")),
        entry("born 13.02.1937/3.dcm", ct(0, 3, "CANARY")),
        entry("left/4.dcm", ct(0, 4, "CANARY")),
    ]);
    let table = "file,label,patient\n5.png,Mu\u{308}ller_A,Müller\n6.png,left,Müller\n";
    let tabled = zip(&[
        entry("labels.csv", table.as_bytes().to_vec()),
        entry("5.png", png(0, 5, 16)),
        entry("6.png", png(0, 6, 16)),
    ]);
    let dataset = server.empty_dataset("telling").await;
    let send = async |query: &str, body: Vec<u8>| {
        let path = format!("/api/v1/datasets/{dataset}/uploads{query}");
        server.expect(server.request(Method::POST, &path).body(body), StatusCode::OK).await
    };

    let folders = send("", archive).await;
    let rows = send("", tabled).await;
    let asked = send("?label=CANARY05N7", ct(0, 7, "CANARY")).await;
    let named = send("?label=Doe_2&patient=Doe%5EJane", png(1, 8, 16)).await;

    for (report, images, rejected) in [(folders, 1, 3), (rows, 1, 1), (asked, 0, 1), (named, 0, 1)]
    {
        assert_eq!(
            (&report["images"], &report["rejected_total"]),
            (&json!(images), &json!(rejected))
        );
        for refused in report["rejected"].as_array().expect("a list") {
            let reason = refused["reason"].as_str().expect("a reason");
            assert!(
                reason.contains("its label holds a name, a number or the birth date"),
                "{reason}"
            );
            assert!(reason.contains("labels.csv") && !reason.contains("CANARY"), "{reason}");
        }
    }
    let found = server.get(&format!("/api/v1/datasets/{dataset}")).await;
    assert_eq!(found["classes"], json!({"left": 2}), "{found:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_takes_each_file_for_a_patient_keeps_the_classes_of_its_folders() {
    let server = App::start().await;
    let table = "file,label,patient\nno/a.png,no,no/a.png\nno/b.png,no,no\\b.png\nmeyer/c.png,meyer,meyer\n";
    let archive = zip(&[
        entry("labels.csv", table.as_bytes().to_vec()),
        entry("no/a.png", png(0, 5, 16)),
        entry("no/b.png", png(0, 6, 16)),
        entry("meyer/c.png", png(0, 7, 16)),
    ]);
    let dataset = server.empty_dataset("paths").await;
    let path = format!("/api/v1/datasets/{dataset}/uploads");

    let report =
        server.expect(server.request(Method::POST, &path).body(archive), StatusCode::OK).await;

    assert_eq!(
        (&report["images"], &report["rejected_total"]),
        (&json!(2), &json!(1)),
        "{report:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_and_names_that_look_the_same_are_the_same() {
    let server = App::start().await;
    let archive = zip(&[
        entry("Entzündung/1.png", png(0, 1, 16)),
        entry("Entzu\u{308}ndung/2.png", png(0, 2, 16)),
        entry("nor\u{200B}mal/3.png", png(0, 3, 16)),
        entry("nor\u{202E}mal/4.png", png(0, 4, 16)),
    ]);
    let dataset = server.empty_dataset("Entzu\u{308}ndung").await;
    let path = format!("/api/v1/datasets/{dataset}/uploads");
    let asked = |label: &str| {
        server.request(Method::POST, &format!("{path}?label={label}")).body(png(0, 5, 16))
    };

    let report = server.expect(server.upload(&dataset, "a.zip", archive), StatusCode::OK).await;

    assert_eq!(
        (&report["images"], &report["rejected_total"]),
        (&json!(2), &json!(2)),
        "{report:#}"
    );
    assert!(report["rejected"][0]["reason"].to_string().contains("U+200B"), "{report:#}");
    let found = server.get(&format!("/api/v1/datasets/{dataset}")).await;
    assert_eq!(found["classes"], json!({"Entzündung": 2}), "{found:#}");
    let of_class = format!("/api/v1/datasets/{dataset}/images?label=Entzu%CC%88ndung");
    assert_eq!(server.get(&of_class).await["items"].as_array().map(Vec::len), Some(2));
    let invalid = (StatusCode::UNPROCESSABLE_ENTITY, "invalid");
    let long = "x".repeat(121);
    for (label, told) in [(long.as_str(), "120"), ("a%E2%81%A6b", "U+2066"), ("a%0Ab", "control")] {
        server.refused(asked(label), invalid, &["label", told]).await;
    }
    let create =
        |name: &str| server.request(Method::POST, "/api/v1/datasets").json(&json!({"name": name}));
    server.refused(create("Entzündung"), (StatusCode::CONFLICT, "conflict"), &[]).await;
    server.refused(create("a\u{200D}b"), invalid, &["U+200D"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_get_numbers_in_the_order_of_their_ids_and_lose_their_names() {
    let scratch = Scratch::as_of(3).await;
    let pool = &scratch.store.pool;
    sqlx::raw_sql(OLD_ROWS).execute(pool).await.expect("old rows");

    MIGRATIONS.run(pool).await.expect("migrated");

    let dataset = "00000000-0000-7000-8000-0000000000d1".parse().expect("an id");
    let page = Page { limit: 10, ..Page::default() };
    let listed = images::list(pool, dataset, &page).await.expect("read");
    let names: Vec<String> = listed.iter().map(Image::shown).collect();
    // 2 was deleted and came again as 4; 3 has two frames.
    assert_eq!(names, ["1.png", "3.dcm", "3.dcm frame 2", "4.png"]);
    assert_eq!(listed[0].label.as_deref(), Some("Entzündung"));
    let rejected = datasets::rejected(pool, dataset, 10).await.expect("read");
    assert!(rejected.len() == 2 && rejected.iter().all(|file| file.entry.is_none()));
    let found = datasets::one(pool, dataset).await.expect("read").expect("there");
    assert_eq!((found.images, found.rejected), (4, 2));
    let version = "00000000-0000-7000-8000-0000000000e1".parse().expect("an id");
    let frozen = versions::images(pool, version, None).await.expect("read");
    assert_eq!(frozen.iter().map(|entry| entry.image.number).collect::<Vec<_>>(), [2]);
    let dump = dump(pool).await;
    assert!(dump.len() > 10 && !dump.iter().any(|row| row.contains("MEYER")), "{dump:#?}");
    let next = Image { id: ImageId::new(), blob: Sha256::of(b"new"), ..listed[0].clone() };
    let mut connection = pool.acquire().await.expect("a connection");
    let added = images::add(&mut connection, &[next], "original").await;
    assert_eq!(added.expect("added").number, 5);
}

/// The rows that a server of before wrote: names of files, a file that was deleted and came again,
/// one of two frames, a decomposed label, reasons that quote.
const OLD_ROWS: &str = "
    insert into datasets (id, name) values
        ('00000000-0000-7000-8000-0000000000d1', 'chest'),
        ('00000000-0000-7000-8000-0000000000d2', 'empty');
    insert into images (id, dataset_id, file, frame, label, patient_key, format, width, height, blob,
        size_bytes, deleted_at)
    select ('00000000-0000-7000-8000-0000000000' || id)::uuid,
        '00000000-0000-7000-8000-0000000000d1', file, frame, label, 'key', format, 8, 8,
        encode(sha256(blob::bytea), 'hex'), 1, deleted_at
    from (values
        ('01', 'MEYER_ANNA.png', 0, U&'Entzu\\0308ndung', 'png', 'a', null),
        ('02', 'left/MEYER.png', 0, 'left', 'png', 'b', now()),
        ('03', 'MEYER.dcm', 0, null, 'dicom', 'c', null),
        ('04', 'MEYER.dcm', 1, null, 'dicom', 'c', null),
        ('05', 'MEYER2.png', 0, null, 'png', 'b', null)
    ) as old (id, file, frame, label, format, blob, deleted_at);
    insert into rejected_files (dataset_id, file, reason) values
        ('00000000-0000-7000-8000-0000000000d1', 'MEYER.txt', 'is not a picture'),
        ('00000000-0000-7000-8000-0000000000d1', 'x', 'uses transfer syntax MEYER');
    insert into dataset_versions (id, dataset_id, number, digest, seed, labels, splits, notices)
    values ('00000000-0000-7000-8000-0000000000e1', '00000000-0000-7000-8000-0000000000d1', 1,
        encode(sha256('x'), 'hex'), 0, '[\"left\"]', '{}', '[]');
    insert into version_images (version_id, image_id, label, patient_key, split)
    values ('00000000-0000-7000-8000-0000000000e1', '00000000-0000-7000-8000-000000000002', 'left',
        'key', 'train');
";
