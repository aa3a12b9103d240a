//! Any bytes as an export stream, full or delta, compressed or encrypted, as a part of one that was cut, as a raw delta, and as a token: a
//! typed error or a store that is what the stream says, and no more memory than that takes.
//!
//! The first byte chooses between checksums as they are and checksums that are ignored, which leads to what is behind them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vellum::{
    Error, ExportOptions, ExportToken, ImportOptions, Inbox, Options, ResumePoint, Store, StreamKey, fold_as, fuzzing,
    resume_point, verify_patch, verify_stream_as,
};

fn is_expected(error: &Error) -> bool {
    matches!(
        error,
        Error::BadStream { .. } | Error::Unsupported { .. } | Error::InvalidOption { .. } | Error::WrongKey { .. }
    )
}

/// The key of the seeds.
fn reading() -> ImportOptions {
    ImportOptions::new().key(StreamKey::new([7; 32]))
}

fuzz_target!(|input: &[u8]| {
    let Some((first, stream)) = input.split_first() else { return };
    fuzzing::ignore_checksums(first % 2 == 1);
    let verified = verify_stream_as(&mut &stream[..], &reading(), &mut ());
    if let Err(error) = &verified {
        assert!(is_expected(error), "{error:?}");
    }
    if let Ok(summary) = &verified {
        let mut folded = Vec::new();
        let packed = ExportOptions::new().compress(1).mark_every(4096);
        fold_as(&mut [&mut &stream[..]], &mut folded, &reading(), &packed, &mut ()).expect("a stream that verifies folds");
        let again = verify_stream_as(&mut &folded[..], &reading(), &mut ()).expect("what was folded verifies");
        assert_eq!((again.fingerprint, again.base, again.pages), (summary.fingerprint, summary.base, summary.pages));
    }
    parts(stream, verified.is_ok());
    if verified.as_ref().map_or(first % 16 == 4, |summary| summary.base.is_some()) {
        apply(stream);
    // An import reads the same bytes by another path. It takes files, so only some of them are tried.
    } else if verified.is_ok() || first % 16 == 2 {
        let home = tempdir();
        let options = Options::new();
        let imported = Store::import_as(&mut &stream[..], home.join("store"), options, &reading(), &mut ());
        match (&verified, &imported) {
            (Ok(summary), Ok(store)) => {
                let snapshot = store.snapshot();
                assert_eq!(snapshot.version(), summary.version);
                assert_eq!(snapshot.fingerprint(), summary.fingerprint);
            }
            // A delta that is damaged further on is refused for being one.
            (Err(_), Err(Error::WrongBase { .. })) => {}
            (_, Err(error)) => assert!(is_expected(error) || matches!(error, Error::Corrupt { .. }), "{error:?}"),
            (Err(error), Ok(_)) => panic!("imported what doesn't verify: {error}"),
        }
        drop(imported);
        std::fs::remove_dir_all(&home).expect("a directory of ours");
    }
});

/// The same bytes as what arrived of a stream, as a raw delta, and as words.
fn parts(stream: &[u8], is_whole: bool) {
    match resume_point(&mut &stream[..], &reading(), &mut ()) {
        Ok(Some(point)) => {
            assert!(point.offset() <= stream.len() as u64);
            assert_eq!(point.to_string().parse::<ResumePoint>().expect("its own word"), point);
        }
        Ok(None) => {}
        Err(error) => assert!(is_expected(&error), "{error:?}"),
    }
    let inbox = Inbox::open_on(std::sync::Arc::new(vellum::storage::MemoryStorage::new())).expect("memory");
    assert_eq!(inbox.receive(&mut &stream[..], &reading(), &mut ()).is_ok(), is_whole);
    if let Err(error) = verify_patch(&mut &stream[..], &mut ()) {
        assert!(is_expected(&error), "{error:?}");
    }
    if let Ok(word) = std::str::from_utf8(stream) {
        let (token, point) = (word.parse::<ExportToken>(), word.parse::<ResumePoint>());
        for error in [token.err(), point.err()].into_iter().flatten() {
            assert!(matches!(error, Error::BadToken { .. } | Error::Unsupported { .. }), "{error:?}");
        }
    }
}

/// A delta is for another store, but for one from nothing; whatever it says, the store stays whole.
fn apply(stream: &[u8]) {
    let store = Store::in_memory(Options::new().page_size(512).segment_size(64 << 10).background(false)).expect("memory");
    let before = store.snapshot();
    match store.apply_as(&mut &stream[..], &reading(), &mut ()) {
        Ok(version) => assert_eq!(version, store.version()),
        Err(error) => {
            let is_refused = matches!(error, Error::WrongBase { .. } | Error::PageSizeMismatch { .. });
            assert!(is_expected(&error) || is_refused, "{error:?}");
            assert_eq!(store.snapshot().fingerprint(), before.fingerprint());
        }
    }
    store.audit().expect("a whole store");
}

fn tempdir() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("vellum-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("room for a directory");
    dir
}
