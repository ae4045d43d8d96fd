//! The one integration binary: the command line as its users meet it (`embed`, `inputs`,
//! `evaluate`, `plan`, `pca`, `picture`, `others`, `resume`, `runs`, `memory`, `bad_input`, `kept`), the stages through
//! the library (`stages`), the methods beside UMAP (`methods`, and `all_pairs` for the exact ones), what they leave unfinished (`units`), damage, full
//! disks and other faults (`faults`), few rows and ties (`few_rows`), SIGKILL anywhere (`killer`), run
//! directories that were made before (`golden`), where the layout runs (`device`), what stays until it is `durable`, and both against other
//! programs (`oracle`; `exact` for the methods of all pairs); the guide's table of tests (`conformance`); the documentation (`docs`); the library without files (`library`). Data are small and generated, or the fixtures of `tests/data`.

mod all_pairs;
mod bad_input;
mod cgroup;
mod conformance;
mod device;
mod docs;
mod doors;
mod durable;
mod embed;
mod evaluate;
mod exact;
mod faults;
mod few_rows;
mod golden;
mod inputs;
mod invalid;
mod kept;
mod killer;
mod kit;
mod library;
mod memory;
mod methods;
mod oracle;
mod others;
mod pca;
mod picture;
mod plan;
mod resume;
mod runs;
mod shapes;
mod stages;
mod units;
