//! `--keep-stages`: which finished stages stay, as people write it.

use lowland::Stage;

/// The stages that leave files in the run directory, in order.
const STAGES: [Stage; 6] = [Stage::Scan, Stage::Index, Stage::Neighbors, Stage::Affinity, Stage::Init, Stage::Layout];

/// Stages that stay, each once, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept(pub(super) Vec<Stage>);

/// Reads names with commas between them.
pub(super) fn parse_kept(text: &str) -> Result<Kept, String> {
    let mut kept = Vec::new();
    for name in text.split(',').map(str::trim) {
        kept.extend(match name {
            "all" => STAGES.to_vec(),
            "none" => Vec::new(),
            "graph" => vec![Stage::Neighbors, Stage::Affinity],
            "map" => vec![Stage::Layout],
            name => match STAGES.iter().find(|stage| stage.name() == name) {
                Some(&stage) => vec![stage],
                None => {
                    let known = STAGES.map(Stage::name).join(", ");
                    return Err(format!(
                        "\"{name}\" is no stage that can stay; known are {known}, graph, map, all, none"
                    ));
                }
            },
        });
    }
    Ok(Kept(STAGES.into_iter().filter(|stage| kept.contains(stage)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_what_stands_for_several() {
        for (text, stages) in [
            ("index", &[Stage::Index][..]),
            ("map, index", &[Stage::Index, Stage::Layout]),
            ("graph,affinity", &[Stage::Neighbors, Stage::Affinity]),
            ("all", &STAGES),
            ("all,scan", &STAGES),
            ("none", &[]),
        ] {
            assert_eq!(parse_kept(text), Ok(Kept(stages.to_vec())), "{text}");
        }
        for text in ["", "index,", "output", "Index", "quality"] {
            assert!(parse_kept(text).is_err_and(|why| why.contains("scan, index, neighbors")), "{text}");
        }
    }
}
