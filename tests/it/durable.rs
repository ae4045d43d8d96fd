//! What a map or graph is made from stays until it is durable: an end of the
//! process between the two would lose what took hours.

use lowland_engine::{Config, Error, GraphSink, MapSink, Result, Stage, embed, knn};

use crate::harness::{inputs_of, mixture, open_run, plan_of, quick};

/// Takes everything, and cannot make it durable.
struct FullDisk;

fn full() -> Result<()> {
    Err(Error::Data { what: "no space is left".into() })
}

impl MapSink for FullDisk {
    fn write(&mut self, _: u64, _: &[f32]) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        full()
    }
}

impl GraphSink for FullDisk {
    fn write(&mut self, _: u64, _: &[u32], _: &[f32]) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        full()
    }
}

#[test]
fn outputs_are_durable_before_stages_are_released() {
    let table = mixture(600, 6);
    let config = Config { keep_stages: Some(Vec::new()), ..quick() };
    let plan = plan_of(&config, &table);
    for (graph, last) in [(false, Stage::Layout), (true, Stage::Neighbors)] {
        let place = tempfile::tempdir().expect("a directory");
        let dir = open_run(place.path(), &plan);
        let result = match graph {
            true => knn(&plan, &inputs_of(&table), &dir, &mut FullDisk, &()),
            false => embed(&plan, &inputs_of(&table), &dir, &mut FullDisk, &()),
        };
        assert!(result.expect_err("no space").to_string().contains("no space is left"));
        for stage in [last, Stage::Index] {
            let record = dir.stage(stage.name()).expect("a stage");
            assert!(record.done && !record.released, "{} was given back", stage.name());
        }
    }
}
