//! Goal: what the example shows is so.
//!
//! Method: it is run; it checks each promise itself, and ends with an error if one isn't kept.

use std::process::Command;

#[test]
fn the_example_keeps_its_promises() {
    let done = Command::new(env!("CARGO_BIN_EXE_vellum-redb")).output().unwrap();
    print!("{}", String::from_utf8_lossy(&done.stdout));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
