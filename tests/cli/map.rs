//! The picture of a store: that it is well formed, says what the store says of itself, and stays small.

use std::fs;

use roxmltree::{Document, Node};
use vellum::{Durability, Options, PageId, Store};

use crate::bench::{Bench, PAGE};

/// The part of the picture of that name.
fn part<'a>(picture: &'a Document<'_>, id: &str) -> Node<'a, 'a> {
    let found = picture.descendants().find(|node| node.attribute("id") == Some(id));
    found.unwrap_or_else(|| panic!("no part {id}"))
}

/// What is told of each element of a class in a part of the picture.
fn told(picture: &Document<'_>, id: &str, class: &str) -> Vec<String> {
    let of_class = part(picture, id).descendants().filter(|node| node.attribute("class") == Some(class));
    let title = |node: Node<'_, '_>| {
        let title = node.children().find(|child| child.has_tag_name("title")).unwrap();
        title.text().unwrap().to_owned()
    };
    of_class.map(title).collect()
}

/// All text that is to be read in a part of the picture.
fn texts(picture: &Document<'_>, id: &str) -> String {
    let texts = part(picture, id).descendants().filter(|node| node.has_tag_name("text"));
    texts.filter_map(|node| node.text()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_picture_says_what_the_store_says() {
    let (bench, mut bytes) = Bench::loaded(400);
    bench.ok(&["snapshot", "create", "s", "<b>\"monday\" & more"]);
    bytes[3 * PAGE..103 * PAGE].fill(0xEE);
    bench.write("g", &bytes);
    bench.ok(&["load", "s", "g"]);
    bench.ok(&["hold", "add", "s", "<b>\"monday\" & more", "auditor"]);
    let made = bench.json(&["map", "s", "s.svg"]);
    assert_eq!(
        (&made["page_count"], &made["pages_per_cell"], &made["snapshots"]),
        (&400.into(), &1.into(), &1.into())
    );
    let text = fs::read_to_string(bench.path("s.svg")).unwrap();
    assert_eq!(made["bytes"], text.len());
    let picture = Document::parse(&text).unwrap();
    assert!(picture.root_element().has_tag_name(("http://www.w3.org/2000/svg", "svg")));

    let cells = told(&picture, "pages", "cell");
    assert_eq!(cells.len(), 400);
    // Taking a name and holding it were commits too.
    assert_eq!(cells[2], "page 2: 1 hold bytes, most 3 versions ago");
    assert_eq!(cells[3], "page 3: 1 hold bytes, most 1 version ago");
    let legend = texts(&picture, "pages");
    for part in [
        "1 version ago: 100 pages",
        "3 versions ago: 300 pages",
        "current version: 0 pages",
        "holds nothing: 0 ids",
    ] {
        assert!(legend.contains(part), "{part:?} in {legend}");
    }

    let stat = bench.json(&["stat", "s"]);
    let bars = told(&picture, "segments", "bar");
    assert!(bars.len() as u64 <= stat["segments"].as_u64().unwrap() && bars.len() > 3, "{bars:?}");
    let live = kib(stat["live_bytes"].as_u64().unwrap());
    let legend = texts(&picture, "segments");
    assert!(legend.contains(&format!("current version: {live}")), "{live} in {legend}");
    assert_eq!(bars.iter().filter(|bar| bar.ends_with("the log goes on here")).count(), 1);

    let lines = told(&picture, "snapshots", "snapshot");
    assert_eq!(lines, ["<b>\"monday\" & more: version 2, 200.00 KiB of pages"]);
    let space = bench.json(&["snapshot", "space", "s"]);
    let unique = kib(space["snapshots"][0]["unique_bytes"].as_u64().unwrap());
    let lines = texts(&picture, "snapshots");
    assert!(lines.contains(&format!("{unique} of 200.00 KiB, held")), "{unique} in {lines}");
    assert!(lines.contains(&format!("dropping all of them: {unique}")), "{lines}");

    // Nothing in it is left to chance, and it comes through a pipe as well.
    assert_eq!(bench.run(&["map", "s", "-"]).stdout, text.as_bytes());
    bench.fails(&["map", "s", "s.svg"], 1, "already_exists");
    bench.ok(&["map", "s", "s.svg", "--force"]);
    bench.fails(&["map", "s", "no/s.svg"], 5, "io");
    assert_eq!(bench.refused(&["map", "s"], 2, "usage")["exit_code"], 2);
}

/// As people are told, to the hundredth of a KiB.
#[expect(clippy::cast_precision_loss, reason = "a few pages")]
fn kib(bytes: u64) -> String {
    format!("{:.2} KiB", bytes as f64 / 1024.0)
}

#[test]
fn the_picture_of_an_empty_store_is_one() {
    let bench = Bench::new();
    bench.ok(&["init", "s"]);
    let text = bench.ok(&["map", "s", "-"]);
    let picture = Document::parse(&text).unwrap();
    assert_eq!(told(&picture, "pages", "cell").len(), 0);
    assert_eq!(told(&picture, "segments", "bar").len(), 1);
    assert!(texts(&picture, "snapshots").contains("there are none"));
}

#[test]
fn the_picture_of_a_large_store_is_no_larger() {
    let bench = Bench::new();
    let options = Options::new().page_size(512).segment_size(65_536).durability(Durability::Buffered);
    let store = Store::open(bench.path("s"), options).unwrap();
    let count = 300 * 128;
    let mut txn = store.begin().unwrap();
    // Most ids hold nothing.
    txn.truncate(1 << 40).unwrap();
    for id in 0..count {
        txn.write(PageId(id), &[1; 512]).unwrap();
    }
    txn.commit().unwrap();
    for index in 0..50u8 {
        store.create_snapshot(&format!("snapshot {index}")).unwrap();
        let mut txn = store.begin().unwrap();
        for id in 0..=u64::from(index) {
            txn.write(PageId(id), &[index; 512]).unwrap();
        }
        txn.commit().unwrap();
    }
    store.close().unwrap();
    let made = bench.json(&["map", "s", "s.svg"]);
    assert_eq!(made["pages_per_cell"], 1u64 << 29);
    assert!(
        made["segments_per_bar"].as_u64().unwrap() > 1 && made["bytes"].as_u64().unwrap() < 1 << 20,
        "{made}"
    );
    let text = fs::read_to_string(bench.path("s.svg")).unwrap();
    let picture = Document::parse(&text).unwrap();
    let cells = told(&picture, "pages", "cell");
    assert_eq!(cells.len(), 1 << 11);
    assert!(
        cells[0].starts_with(&format!("pages 0 to {}: {count} hold bytes", (1 << 29) - 1)),
        "{}",
        cells[0]
    );
    assert!(cells[1].ends_with(": nothing"));
    assert!(told(&picture, "segments", "bar").len() <= 160);
    assert_eq!(told(&picture, "snapshots", "snapshot").len(), 39);
    assert!(texts(&picture, "snapshots").contains("11 more, which keep less"));
    let height: f64 = picture.root_element().attribute("height").unwrap().parse().unwrap();
    assert!(height < 2000.0);
}
