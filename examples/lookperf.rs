use std::time::Instant;
use vellum::*;
fn rng(x: &mut u64) -> u64 { *x ^= *x << 13; *x ^= *x >> 7; *x ^= *x << 17; *x }
fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let store = Store::open(&dir, Options::new()).unwrap();
    let n: u64 = 65536;
    let s = store.snapshot();
    let v = s.view();
    let mut x = 88172645463325252u64;
    let m = 8_000_000u64;
    let all: Vec<&[u8]> = (0..n).map(|i| v.page(PageId(i)).unwrap().unwrap()).collect();
    for _ in 0..3 {
        let mut sum = 0u64;
        let t = Instant::now();
        for _ in 0..m { let p = v.page(PageId(rng(&mut x) % n)).unwrap().unwrap(); sum = sum.wrapping_add(p.as_ptr() as u64); }
        println!("table only {:.1} ns", t.elapsed().as_nanos() as f64 / m as f64);
        let t = Instant::now();
        for _ in 0..m { let p = v.page(PageId(rng(&mut x) % n)).unwrap().unwrap(); sum = sum.wrapping_add(u64::from_le_bytes(p[..8].try_into().unwrap())); }
        println!("lookup {:.1} ns", t.elapsed().as_nanos() as f64 / m as f64);
        let t = Instant::now();
        for _ in 0..m { let p = all[(rng(&mut x) % n) as usize]; sum = sum.wrapping_add(u64::from_le_bytes(p[..8].try_into().unwrap())); }
        println!("array of pointers {:.1} ns", t.elapsed().as_nanos() as f64 / m as f64);
        let t = Instant::now();
        for _ in 0..m / 8 { let mut ps = [&[][..]; 8]; for p in &mut ps { *p = v.page(PageId(rng(&mut x) % n)).unwrap().unwrap(); } for p in ps { sum = sum.wrapping_add(u64::from_le_bytes(p[..8].try_into().unwrap())); } }
        println!("batch of 8 {:.1} ns {sum}", t.elapsed().as_nanos() as f64 / m as f64);
    }
}
