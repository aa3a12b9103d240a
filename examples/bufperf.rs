use std::time::Instant;
use vellum::*;
fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let cp: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    let _ = std::fs::remove_dir_all(&dir);
    let store = Store::open(&dir, Options::new().checkpoint_bytes(cp << 20)).unwrap();
    let n: u64 = 65536;
    let mut txn = store.begin().unwrap();
    txn.truncate(n).unwrap();
    txn.commit_with(Durability::Buffered).unwrap();
    for c in 0..n / 64 {
        let mut txn = store.begin().unwrap();
        for i in 0..64 { txn.write(PageId(c * 64 + i), &[i as u8; 4096]).unwrap(); }
        txn.commit_with(Durability::Buffered).unwrap();
    }
    store.sync().unwrap();
    let mut x = 88172645463325252u64;
    for _ in 0..3 {
    let m = 50_000u64;
    let t = Instant::now();
    for _ in 0..m { x ^= x << 13; x ^= x >> 7; x ^= x << 17; let mut txn = store.begin().unwrap(); txn.write(PageId(x % n), &[7; 4096]).unwrap(); txn.commit_with(Durability::Buffered).unwrap(); }
    println!("buffered 1-page {:.0}/s", m as f64 / t.elapsed().as_secs_f64());
    }
}
