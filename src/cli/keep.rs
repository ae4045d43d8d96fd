//! `--keep-stages`: the stages whose files stay, as the user writes them.

use lowland::Stage;

/// Returns the stages that leave files, in order.
fn stages() -> Vec<Stage> {
    Stage::ALL.into_iter().filter(|stage| stage.leaves_files()).collect()
}

/// The stages whose files stay, each once, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptStages(pub(super) Vec<Stage>);

/// Parses names separated by commas.
pub(super) fn parse_kept(text: &str) -> Result<KeptStages, String> {
    let mut kept = Vec::new();
    for name in text.split(',').map(str::trim) {
        kept.extend(match name {
            "all" => stages(),
            "none" => Vec::new(),
            "graph" => vec![Stage::Neighbors, Stage::Affinity],
            "map" => vec![Stage::Layout],
            name => match stages().into_iter().find(|stage| stage.name() == name) {
                Some(stage) => vec![stage],
                None => {
                    let known = stages().into_iter().map(Stage::name).collect::<Vec<_>>().join(", ");
                    return Err(format!(
                        "\"{name}\" is not a stage that leaves files; the choices are {known}, graph, map, all and none"
                    ));
                }
            },
        });
    }
    Ok(KeptStages(stages().into_iter().filter(|stage| kept.contains(stage)).collect()))
}

/// Parses the same for a graph without a map, which has fewer stages.
pub(super) fn parse_kept_of_graph(text: &str) -> Result<KeptStages, String> {
    let of_graph = [Stage::Scan, Stage::Index, Stage::Neighbors];
    for name in text.split(',').map(str::trim) {
        let known = matches!(name, "all" | "none") || of_graph.iter().any(|stage| stage.name() == name);
        if !known {
            let known = of_graph.map(Stage::name).join(", ");
            return Err(format!("\"{name}\" is not a stage of a graph; the choices are {known}, all and none"));
        }
    }
    parse_kept(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_alone_has_no_stages_of_a_map() {
        assert_eq!(parse_kept_of_graph("neighbors, scan"), Ok(KeptStages(vec![Stage::Scan, Stage::Neighbors])));
        assert!(parse_kept_of_graph("all").is_ok() && parse_kept_of_graph("none").is_ok());
        for text in ["layout", "graph", "map", "index,init"] {
            assert!(parse_kept_of_graph(text).is_err_and(|why| why.contains("scan, index, neighbors, all")), "{text}");
        }
    }

    #[test]
    fn stage_names_and_groups() {
        for (text, stages) in [
            ("index", &[Stage::Index][..]),
            ("map, index", &[Stage::Index, Stage::Layout]),
            ("graph,affinity", &[Stage::Neighbors, Stage::Affinity]),
            ("all", &stages()),
            ("all,scan", &stages()),
            ("none", &[]),
        ] {
            assert_eq!(parse_kept(text), Ok(KeptStages(stages.to_vec())), "{text}");
        }
        for text in ["", "index,", "output", "Index", "quality"] {
            assert!(parse_kept(text).is_err_and(|why| why.contains("scan, index, neighbors")), "{text}");
        }
    }
}
