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
        cargo test --lib --release --target-dir target/loom loom_tests -- --nocapture

# A whole store under shuttle, with eight threads: schedules for each model and scheduler, and histories of each sort.
shuttle schedules="20000" histories="100":
    RUSTFLAGS="--cfg shuttle" VELLUM_SHUTTLE={{schedules}} \
        cargo test --lib --target-dir target/shuttle shuttle_tests -- --nocapture --test-threads=1
    RUSTFLAGS="--cfg shuttle" VELLUM_HISTORIES={{histories}} \
        cargo test --features sim --test histories --target-dir target/shuttle -- --nocapture --test-threads=1

# The unsafe core under Miri, which finds undefined behaviour: rustup component add miri rust-src --toolchain nightly.
miri tests="storage::buffer storage::contract log::handover registry commit::queue table:: version::tests":
    MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-tree-borrows -Zmiri-ignore-leaks" \
        cargo +nightly miri test --lib --target-dir target/miri -- {{tests}}

# Power cuts on the simulated disk; the long form. 50 workloads and 200 small ones make more than a million recoveries.
crash seeds="200" small="200":
    VELLUM_CRASH_SEEDS={{seeds}} VELLUM_CRASH_SMALL={{small}} \
        cargo test --release --features sim --test crash -- --nocapture

# What clients see, checked for every anomaly; the long form.
histories count="100":
    VELLUM_HISTORIES={{count}} cargo test --release --features sim --test histories -- --nocapture

# Killed processes, power cuts under real file systems (root, xfsprogs), failing system calls; the long form.
kill kills="10000" cuts="200" faults="400":
    VELLUM_KILLS={{kills}} VELLUM_POWER_CUTS={{cuts}} VELLUM_SYNC_FAULTS={{faults}} \
        cargo test --release --test kill -- --nocapture

# Changes one thing in the core after another, and looks whether a test notices. A larger budget tries what was missed again.
mutants draw="420" seconds="30":
    cargo run --release --locked --manifest-path .ci/mutants/Cargo.toml -- build --draw {{draw}}
    cargo run --release --locked --manifest-path .ci/mutants/Cargo.toml -- run --budget {{seconds}}
    cargo run --release --locked --manifest-path .ci/mutants/Cargo.toml -- report

# Lines of the core that tests come by: rustup component add llvm-tools.
coverage:
    .ci/coverage

fuzz target seconds="1800":
    fuzz/run {{target}} {{seconds}}

bench:
    cargo bench --bench parts

figures:
    cargo bench --bench figures

# Instructions of a pin, a read and a commit, held against bounds; needs valgrind. Counts, so a busy machine doesn't matter.
instructions:
    cargo run --release --locked --manifest-path benches/instructions/Cargo.toml

tour:
    cargo run --example tour

# redb on vellum: its tests, and what it looks like. A package of its own, so that who tests vellum doesn't compile redb.
redb cuts="30" kills="4":
    VELLUM_REDB_CUTS={{cuts}} VELLUM_REDB_KILLS={{kills}} \
        cargo test --locked --manifest-path examples/redb/Cargo.toml -- --nocapture

# Each byte flipped, each length cut.
corrupt:
    VELLUM_FLIP_STEP=1 cargo test --release --test corrupt -- --nocapture

# Stores that `just peers` compiles only when it is told to; both need libclang, and RocksDB many minutes of C++.
peers_with := ""

# vellum beside other stores, in turn, every byte checked; writes benches/README.md. `just peers --quick` for the shape only.
# With all of them: `just peers_with=rocksdb,libmdbx peers`. RocksDB counts checksums slowly unless built for this processor.
peers *args:
    CXXFLAGS="${CXXFLAGS:--march=native}" cargo run --release --locked --manifest-path benches/peers/Cargo.toml \
        --features "{{peers_with}}" -- run --out target/peers.jsonl {{args}}
    CXXFLAGS="${CXXFLAGS:--march=native}" cargo run --release --locked --manifest-path benches/peers/Cargo.toml \
        --features "{{peers_with}}" -- plot target/peers.jsonl
