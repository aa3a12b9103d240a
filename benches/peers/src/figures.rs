//! What the values of each work are called, and whether more of them is better.

use crate::record::Better;
use crate::work::{Choice, Look, Work};

/// One value of a work.
pub(crate) struct Metric {
    /// The value's name in the child's answer; `written_per_page` is made of two.
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
}

const fn metric(key: &'static str, title: &'static str, unit: &'static str, better: Better) -> Metric {
    Metric { key, title, unit, better }
}

use Better::{Less, More};

/// The values of a work, in the order in which they are shown.
pub(crate) fn metrics(work: &Work) -> &'static [Metric] {
    const PIN: &[Metric] = &[
        metric("view_ns", "pin and drop a view", "ns", Less),
        metric("snapshot_ns", "take and drop a snapshot that can be kept", "ns", Less),
    ];
    const READ: &[Metric] = &[metric("ns", "each", "ns", Less)];
    const READ_THREADS: &[Metric] = &[metric("reads_per_s", "together", "/s", More)];
    const COMMITS: Metric = metric("commits_per_s", "commits", "/s", More);
    const PAGES: Metric = metric("pages_per_s", "pages", "/s", More);
    const P50: Metric = metric("p50_us", "p50", "us", Less);
    const P99: Metric = metric("p99_us", "p99", "us", Less);
    const WRITTEN: Metric = metric("written_per_page", "written to disk a page", "KB", Less);
    // Of what is buffered, more is written by the system later, and some twice before that.
    const ONE: &[Metric] = &[COMMITS, P50, P99];
    const MANY: &[Metric] = &[PAGES, P50, P99];
    const ONE_DURABLE: &[Metric] = &[COMMITS, P50, P99, WRITTEN];
    const MANY_DURABLE: &[Metric] = &[PAGES, P50, P99, WRITTEN];
    const BESIDE: &[Metric] = &[
        metric("pages_per_s", "pages written", "/s", More),
        metric("reads_per_s", "pages read", "/s", More),
        metric("writer_kept", "the writer keeps", "", More),
        metric("reader_kept", "the reader keeps", "", More),
    ];
    const HELD: &[Metric] = &[
        metric("disk_copies", "disk grows by, in copies of what differs", "", Less),
        metric("disk_copies_after", "of that stays afterwards", "", Less),
        metric("memory_mib", "memory grows by", "MiB", Less),
        metric("memory_mib_after", "of that stays afterwards", "MiB", Less),
        metric("writer_kept", "the writer keeps", "", More),
    ];
    const EXPORT: &[Metric] =
        &[metric("seconds", "takes", "s", Less), metric("writer_kept", "the writer keeps", "", More)];
    const MILLIS: &[Metric] = &[metric("ms", "takes", "ms", Less)];
    const MICROS: &[Metric] = &[metric("us", "takes", "us", Less)];
    const MIX: &[Metric] = &[metric("ops_per_s", "operations", "/s", More)];
    match work {
        Work::Pin => PIN,
        Work::Read { threads: 1, .. } | Work::ReadTogether { .. } => READ,
        Work::Read { .. } => READ_THREADS,
        Work::Commit { is_durable: true, pages: 1, .. } => ONE_DURABLE,
        Work::Commit { is_durable: true, .. } => MANY_DURABLE,
        Work::Commit { pages: 1, .. } => ONE,
        Work::Commit { .. } => MANY,
        Work::Beside => BESIDE,
        Work::LongReader => HELD,
        Work::Export => EXPORT,
        Work::Delta | Work::Clone | Work::BeforeKill => MILLIS,
        Work::Fork => MICROS,
        Work::Mix(_) => MIX,
        Work::Hold { .. } | Work::Release | Work::Check | Work::Sync | Work::Exit => &[],
    }
}

fn name_of(look: Look) -> (&'static str, &'static str) {
    match look {
        Look::EightBytes => ("8", "8 bytes"),
        Look::WholePage => ("page", "the whole page"),
    }
}

/// A work's name in a figure's id, and for people.
pub(crate) fn name(work: &Work) -> (String, String) {
    match work {
        Work::Pin => ("pin".into(), "pins".into()),
        Work::Read { choice, look, threads } => {
            let (choice_id, choice) = match choice {
                Choice::Uniform => ("random", "random"),
                Choice::Zipfian => ("zipfian", "zipfian"),
            };
            let (look_id, look) = name_of(*look);
            let some = if *threads == 1 { String::new() } else { format!(", {threads} threads") };
            (format!("read-{choice_id}-{look_id}-{threads}"), format!("{choice} reads of {look}{some}"))
        }
        Work::ReadTogether { look } => {
            let (look_id, look) = name_of(*look);
            (format!("read-together-{look_id}"), format!("random reads of {look}, 64 ids at once"))
        }
        Work::Commit { is_durable, pages, writers } => {
            let promise = if *is_durable { "durable" } else { "buffered" };
            let size = if *pages == 1 { "1 page".to_owned() } else { format!("{pages} pages") };
            let who = if *writers == 1 { "1 writer".to_owned() } else { format!("{writers} writers") };
            (format!("{promise}-{pages}-{writers}"), format!("{promise} commits of {size}, {who}"))
        }
        Work::Beside => ("beside".into(), "one writer and one reader".into()),
        Work::LongReader => ("held".into(), "a reader that stays".into()),
        Work::Export => ("export".into(), "hot export beside a durable writer".into()),
        Work::Delta => ("delta".into(), "export of the 1% that changed".into()),
        Work::Clone => ("clone".into(), "durable clone".into()),
        Work::Fork => ("fork".into(), "fork in memory".into()),
        Work::Mix(mix) => (format!("mix-{mix:?}").to_lowercase(), format!("YCSB {mix:?}")),
        Work::BeforeKill => ("reopen".into(), "open after SIGKILL, with one page read".into()),
        Work::Hold { .. } | Work::Release | Work::Check | Work::Sync | Work::Exit => {
            (String::new(), String::new())
        }
    }
}
