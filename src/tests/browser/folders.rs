//! Folders given to the page, by drop and by choice, and the archives that it makes of them.

use std::io::{Cursor, Read};
use std::path::Path;

use serde_json::{Value, json};
use zip::ZipArchive;

use super::driver::Browser;
use crate::pictures::png;
use crate::server::Server;

/// Pictures of each class; enough that the server takes longer than the page waits before it asks.
const EACH: u32 = 150;

/// Two folders of pictures with what lies about in folders: hidden files, notes, a file that is no
/// picture, and a name in another script.
fn study(folder: &Path) {
    for (class, name) in ["left", "right"].into_iter().enumerate() {
        let inner = folder.join(name);
        std::fs::create_dir_all(&inner).expect("a folder");
        for number in 0..EACH {
            let picture = png(class, number + 1000 * class as u32, 32);
            std::fs::write(inner.join(format!("{number}.png")), picture).expect("written");
        }
    }
    for (name, content) in [
        (".DS_Store", "left behind"),
        ("left/.hidden.png", "left behind"),
        ("notes.txt", "for people"),
        ("right/Größe.png", "no picture"),
    ] {
        std::fs::write(folder.join(name), content).expect("written");
    }
}

/// Keeps each text that says how far an upload is.
const LISTEN: &str = "window.stages = new Set();
    new MutationObserver(() => {
        const stage = document.querySelector('[data-testid=upload-stage]');
        if (stage) window.stages.add(stage.innerText);
    }).observe(document.body, { childList: true, subtree: true, characterData: true });";

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_taken_by_drop_and_by_choice_and_tells_how_far_it_is() {
    let Some(browser) = Browser::start().await else { return };
    let server = Server::start_with(&[("LVMED_WORKERS", "0")]);
    let files = tempfile::tempdir().expect("a temporary folder");
    let folder = files.path().join("study");
    study(&folder);

    let dropped = server.empty_dataset("dropped").await;
    browser.open(&server.address, &format!("#/datasets/{dropped}")).await;
    browser.drop_on("upload-file-drop", &[&folder]).await;
    browser.wait_for_text("upload-ask", "left, right").await;
    browser.screenshot("40-folder-asked").await;
    let asked = browser.text("upload-ask").await;
    browser.execute(LISTEN).await;
    browser.click("upload-start").await;
    browser.wait_for_text("report-images", &(2 * EACH).to_string()).await;
    browser.screenshot("41-folder-uploaded").await;
    let stages = browser.execute("return [...window.stages].join('; ')").await;
    let rejected = browser.text("rejected-row").await;

    let chosen = server.empty_dataset("chosen").await;
    browser.open(&server.address, &format!("#/datasets/{chosen}")).await;
    browser.choose_file("upload-folder", &folder).await;
    browser.click("upload-start").await;
    browser.wait_for_text("report-images", &(2 * EACH).to_string()).await;

    assert!(asked.contains("301 files chosen") && asked.contains("3 hidden files"), "{asked}");
    let stages = stages.as_str().expect("text");
    assert!(stages.contains("Sending") || stages.contains("Looking"), "{stages}");
    assert!(stages.contains("The server is reading and checking: "), "{stages}");
    assert!(stages.contains("of 301 files"), "{stages}");
    assert!(
        rejected.contains("right/Größe.png") && rejected.contains("is not a PNG"),
        "{rejected}"
    );
    for dataset in [dropped, chosen] {
        let found = server.get(&format!("/api/v1/datasets/{dataset}")).await;
        assert_eq!(found["classes"], json!({"left": EACH, "right": EACH}), "{found:#}");
    }
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.stop().await;
}

/// The archives that the page makes of 3 files, and of more than the original format can count.
const PACK: &str = "return import('/static/js/zip.js').then(async ({ zip }) => {
    const file = (path, ...content) => ({ path, file: new File(content, 'x') });
    const few = [file('a/Größe.txt', 'hello'), file('b/empty'), file('c/big', new Uint8Array(9 << 20).fill(7))];
    const many = Array.from({ length: 66000 }, (_, n) => file(`f/${n}`, n % 100 === 0 ? String(n) : ''));
    const text = async (blob) => {
        const bytes = new Uint8Array(await blob.arrayBuffer());
        let told = '';
        for (let at = 0; at < bytes.length; at += 8192) told += String.fromCharCode(...bytes.subarray(at, at + 8192));
        return told;
    };
    return [await text(await zip(few)), await text(await zip(many))];
})";

/// The uploads that the page makes of sets that are too large for one.
const PLAN: &str = "return import('/static/js/parts.js').then(({ uploads }) => {
    const file = (path, size = 10) => ({ path, file: { name: path.split('/').at(-1), size } });
    const names = (files, most) => uploads(files, most).map((one) => (one.entries ?? []).map(({ path }) => path));
    return [
        names([file('s/a/1'), file('s/a/2'), file('s/b/3')], { bytes: 25, files: 9 }),
        names([file('a/1'), file('a/2'), file('b/3')], { bytes: 25, files: 9 }),
        names([file('s/a/1'), file('s/labels.csv'), file('s/b/3')], { bytes: 5, files: 1 }),
        names([file('1'), file('2'), file('3')], { bytes: 1000, files: 2 }),
    ];
})";

fn opened(text: &Value) -> ZipArchive<Cursor<Vec<u8>>> {
    let bytes: Vec<u8> = text.as_str().expect("text").chars().map(|c| c as u8).collect();
    ZipArchive::new(Cursor::new(bytes)).expect("an archive")
}

fn content(archive: &mut ZipArchive<Cursor<Vec<u8>>>, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    // The reader compares the checksum when it comes to the end.
    archive.by_name(name).expect("an entry").read_to_end(&mut bytes).expect("it is whole");
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_made_in_the_browser_are_whole_and_large_sets_are_sent_in_parts() {
    let Some(browser) = Browser::start().await else { return };
    let server = Server::start_with(&[("LVMED_WORKERS", "0")]);
    browser.open(&server.address, "").await;

    let made = browser.execute(PACK).await;
    let plans = browser.execute(PLAN).await;

    let (mut few, mut many) = (opened(&made[0]), opened(&made[1]));
    assert_eq!(few.len(), 3);
    assert_eq!(content(&mut few, "a/Größe.txt"), b"hello");
    assert_eq!(content(&mut few, "b/empty"), b"");
    assert_eq!(content(&mut few, "c/big"), vec![7; 9 << 20]);
    assert_eq!(many.len(), 66_000);
    assert_eq!(content(&mut many, "f/65900"), b"65900");
    // Each part keeps its files' folders whatever else it holds; a table keeps all files together.
    assert_eq!(plans[0], json!([["s/a/1", "s/a/2"], ["s/b/3"]]));
    assert_eq!(plans[1], json!([["files/a/1", "files/a/2"], ["files/b/3"]]));
    assert_eq!(plans[2], json!([["s/a/1", "s/labels.csv", "s/b/3"]]));
    assert_eq!(plans[3], json!([["1", "2"], ["3"]]));
    browser.stop().await;
}
