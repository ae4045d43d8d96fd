//! The one integration binary. `harness` has what the tests share. Data are small and generated, or the fixtures of
//! `tests/data`.
//!
//! - The command line as its users meet it: `embed`, `inputs`, `evaluate`, `plan`, `pca`, `picture`, `others`, `runs`,
//!   `memory` (and `cgroup`, `shapes`), `bad_input`, `invalid`, `kept`, `device`; the library: `doors`, `library`.
//! - What each stage promises, against plain computations: `loader`, `index`, `graph`, `edges`, `init`, `quality`; data
//!   without structure: `degenerate`, `few_rows`; what must not change a map: `invariance`.
//! - The methods beside UMAP: `methods`, `all_pairs`.
//! - Stored maps: `models` (the command line), `model` (placement, updates, versions, damage, kills).
//! - What stops a run, and what remains: `resume`, `units`, `killer`, `golden` (run directories of earlier versions),
//!   `durable`, `run_dir`, `damage`, `full_disk`, `changed_source`; sources in object stores: `remote`.
//! - Other programs: `oracle`, `exact`. What the texts say: `docs` (README and `docs/`), `conformance`
//!   (`tests/CONFORMANCE.md`).

mod all_pairs;
mod bad_input;
mod cgroup;
mod changed_source;
mod conformance;
mod damage;
mod degenerate;
mod device;
mod docs;
mod doors;
mod durable;
mod edges;
mod embed;
mod evaluate;
mod exact;
mod few_rows;
mod full_disk;
mod golden;
mod graph;
mod harness;
mod index;
mod init;
mod inputs;
mod invalid;
mod invariance;
mod kept;
mod killer;
mod library;
mod loader;
mod memory;
mod methods;
mod model;
mod models;
mod oracle;
mod others;
mod pca;
mod picture;
mod plan;
mod quality;
#[cfg(feature = "object-store")]
mod remote;
mod resume;
mod run_dir;
mod runs;
mod shapes;
mod units;
