//! Any bytes as an export stream: a typed error or a store that is what the stream says, and no more memory than that takes.
//!
//! The first byte chooses between checksums as they are and checksums that are ignored, which leads to what is behind them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vellum::{Error, Store, fuzzing, verify_stream};

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
    // An import reads the same bytes by another path. It takes files, so only some of them are tried.
    if verified.is_ok() || first % 16 == 2 {
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

fn tempdir() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("vellum-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("room for a directory");
    dir
}
