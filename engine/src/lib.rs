//! The engine of lowland: the arithmetic of each stage, and the order of the stages.
//!
//! A [`Config`] holds the user's options. [`Config::plan`] turns it into a [`Plan`] for data of a given shape.
//! [`embed`] runs the plan's stages, reports progress to an [`Observer`], and returns a [`Report`]. The stages,
//! in order: [`scan`], [`index`], [`neighbors`], [`affinity`], [`init`], [`layout`], output, [`quality`].
//! [`evaluate`] scores any map.
//!
//! What must hold everywhere:
//! - One seed gives one map, for any number of threads, batch size, memory budget and interruptions.
//! - Nothing prints, reads the environment or handles signals.
//! - All memory that grows with the number of rows is counted by a `needs` function.

pub mod affinity;
pub mod all_pairs;
mod batch;
pub mod budget;
mod coded;
mod component_variance;
mod config;
#[cfg(any(test, feature = "cuda"))]
mod cuda;
mod decide;
mod device;
pub mod distances;
mod distinct;
mod error;
pub mod estimate;
pub mod evaluate;
#[cfg(test)]
mod fingerprints;
mod format;
pub mod index;
pub mod init;
mod inputs;
pub mod invalid;
pub mod layout;
mod memory_meter;
pub mod methods;
mod metric;
pub mod neighbors;
mod observe;
mod output;
mod pages;
pub mod pca;
mod plan;
pub mod positions;
mod precision;
pub mod quality;
pub mod random;
mod remark;
mod report;
mod run;
pub mod scan;
mod score;
mod session;
mod simd;
mod sum;
mod work;

pub use batch::prepared_loader;
pub use component_variance::{ComponentVariance, DominantComponent};
pub use config::{Config, Init, MatchLoss, Method, MethodOption, NamedAffinity, NamedMapAffinity, Optimizer, Settings};
pub use device::Device;
pub use error::{Error, Result, format_bytes, format_count};
pub use inputs::{GraphSink, GraphSource, Inputs, MapSink, PositionSource, PositionSummary};
pub use metric::Metric;
pub use observe::{Event, Observer, Progress, Stage, StageReport, Traffic};
pub use plan::{
    AffinityPlan, AllPairsPlan, BLOCK_ROWS, IndexPlan, LayoutPlan, NeighborsPlan, Plan, PlanInput, PortionSizes,
    StageGraph, StageNode, StagePlan,
};
pub use remark::{Level, Remark};
pub use report::{Report, Summary};
pub use run::{embed, knn};
pub use session::Session;
pub use work::{StageContext, StageFiles};
