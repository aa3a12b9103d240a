use std::time::Instant;
use vellum::*;
fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let _ = std::fs::remove_dir_all(&dir);
    let store = Store::open(&dir, Options::new()).unwrap();
    let n: u64 = 65536;
    let t = Instant::now();
    let mut txn = store.begin().unwrap();
    txn.truncate(n).unwrap();
    txn.commit_with(Durability::Buffered).unwrap();
    for c in 0..n / 64 {
        let mut txn = store.begin().unwrap();
        for i in 0..64 { txn.write(PageId(c * 64 + i), &[i as u8; 4096]).unwrap(); }
        txn.commit_with(Durability::Buffered).unwrap();
    }
    println!("load 64-page: {:.0} pages/s", n as f64 / t.elapsed().as_secs_f64());
    store.sync().unwrap();
    for _ in 0..2 {
    let m = 10_000_000u32;
    let t = Instant::now();
    for _ in 0..m { std::hint::black_box(store.view()); }
    println!("view {:.1} ns", t.elapsed().as_nanos() as f64 / m as f64);
    let t = Instant::now();
    for _ in 0..m { std::hint::black_box(store.snapshot()); }
    println!("snapshot {:.1} ns", t.elapsed().as_nanos() as f64 / m as f64);
    let s = store.snapshot();
    let v = s.view();
    let mut x = 88172645463325252u64;
    let mut sum = 0u64;
    let t = Instant::now();
    for _ in 0..m { x ^= x << 13; x ^= x >> 7; x ^= x << 17; let p = v.page(PageId(x % n)).unwrap().unwrap(); sum = sum.wrapping_add(u64::from_le_bytes(p[..8].try_into().unwrap())); }
    println!("lookup {:.1} ns ({sum})", t.elapsed().as_nanos() as f64 / m as f64);
    drop(v); drop(s);
    let m = 50_000u64;
    let t = Instant::now();
    for _ in 0..m { x ^= x << 13; x ^= x >> 7; x ^= x << 17; let mut txn = store.begin().unwrap(); txn.write(PageId(x % n), &[7; 4096]).unwrap(); txn.commit_with(Durability::Buffered).unwrap(); }
    println!("buffered 1-page {:.0}/s", m as f64 / t.elapsed().as_secs_f64());
    store.sync().unwrap();
    let m = 2000u64;
    let t = Instant::now();
    for _ in 0..m { x ^= x << 13; x ^= x >> 7; x ^= x << 17; let mut txn = store.begin().unwrap(); txn.write(PageId(x % n), &[7; 4096]).unwrap(); txn.commit().unwrap(); }
    println!("durable 1-page {:.0}/s", m as f64 / t.elapsed().as_secs_f64());
    let t = Instant::now();
    std::thread::scope(|sc| for k in 0..8u64 { let store = &store; sc.spawn(move || { for i in 0..1000u64 { let mut txn = store.begin().unwrap(); txn.write(PageId(k * 1000 + i), &[7; 4096]).unwrap(); txn.commit().unwrap(); } }); });
    println!("durable 8 threads {:.0}/s", 8000.0 / t.elapsed().as_secs_f64());
    }
    println!("{:?}", store.stats());
    let t = Instant::now();
    drop(store);
    println!("close {:?}", t.elapsed());
    let store = Store::open(&dir, Options::new()).unwrap();
    println!("{:?}", store.recovery());
}
