# The same words as in the docs; `just` lists them.

default:
    @just --list

# What CI runs first: format, lints, docs.
lint:
    cargo fmt --check
    cargo clippy --all-targets --all-features -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --all-features

test:
    cargo test --all-features

# The concurrent core under loom. LOOM_MAX_PREEMPTIONS=2 takes minutes, 3 hours.
loom:
    RUSTFLAGS="--cfg loom --cfg crossbeam_loom" \
        cargo test --lib --release --target-dir target/loom loom_tests -- --nocapture --test-threads=1

# Power cuts on the simulated disk; the long form.
crash seeds="200":
    VELLUM_CRASH_SEEDS={{seeds}} cargo test --release --features sim --test crash -- --nocapture

fuzz target seconds="1800":
    fuzz/run {{target}} {{seconds}}

bench:
    cargo bench --bench parts

figures:
    cargo bench --bench figures

tour:
    cargo run --example tour

# Each byte flipped, each length cut.
corrupt:
    VELLUM_FLIP_STEP=1 cargo test --release --test corrupt -- --nocapture
