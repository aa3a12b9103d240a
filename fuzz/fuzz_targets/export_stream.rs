//! Any bytes as an export stream, full or delta: a typed error or a store that is what the stream says, and no more memory than
//! that takes.
//!
//! The first byte chooses between checksums as they are and checksums that are ignored, which leads to what is behind them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vellum::{Error, Options, Store, fold, fuzzing, verify_stream};

fn is_expected(error: &Error) -> bool {
    matches!(error, Error::BadStream { .. } | Error::Unsupported { .. } | Error::InvalidOption { .. })
}

fuzz_target!(|input: &[u8]| {
    let Some((first, stream)) = input.split_first() else { return };
    fuzzing::ignore_checksums(first % 2 == 1);
    let verified = verify_stream(&mut &stream[..], &mut ());
    if let Err(error) = &verified {
        assert!(is_expected(error), "{error:?}");
    }
    if let Ok(summary) = &verified {
        let mut folded = Vec::new();
        fold(&mut [&mut &stream[..]], &mut folded, &mut ()).expect("a stream that verifies folds");
        let again = verify_stream(&mut &folded[..], &mut ()).expect("what was folded verifies");
        assert_eq!((again.fingerprint, again.base, again.pages), (summary.fingerprint, summary.base, summary.pages));
    }
    if verified.as_ref().map_or(first % 16 == 4, |summary| summary.base.is_some()) {
        apply(stream);
    // An import reads the same bytes by another path. It takes files, so only some of them are tried.
    } else if verified.is_ok() || first % 16 == 2 {
        let home = tempdir();
        let imported = Store::import(&mut &stream[..], home.join("store"));
        match (&verified, &imported) {
            (Ok(summary), Ok(store)) => {
                let snapshot = store.snapshot();
                assert_eq!(snapshot.version(), summary.version);
                assert_eq!(snapshot.fingerprint(), summary.fingerprint);
            }
            (_, Err(error)) => assert!(is_expected(error) || matches!(error, Error::Corrupt { .. }), "{error:?}"),
            (Err(error), Ok(_)) => panic!("imported what doesn't verify: {error}"),
        }
        drop(imported);
        std::fs::remove_dir_all(&home).expect("a directory of ours");
    }
});

/// A delta is for another store, but for one from nothing; whatever it says, the store stays whole.
fn apply(stream: &[u8]) {
    let store = Store::in_memory(Options::new().page_size(512).segment_size(64 << 10).background(false)).expect("memory");
    let before = store.snapshot();
    match store.apply(&mut &stream[..]) {
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
