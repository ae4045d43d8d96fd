//! The JSON of the commands: `docs/model-reports.md` lists every key, with the type that its value has, and no other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Table, fitted, json};
use crate::harness::home;

/// Keys whose values have a section of their own: the key, and the section.
const SHARED: [(&str, &str); 6] = [
    ("counts", "Counts"),
    ("measures", "Measures"),
    ("left_out", "Rows left out"),
    ("stages", "Stages"),
    ("warnings", "Warnings and notes"),
    ("notes", "Warnings and notes"),
];

/// The keys of the page: for each section the types by key.
fn documented() -> BTreeMap<String, BTreeMap<String, String>> {
    let page = std::fs::read_to_string(home().join("docs/model-reports.md")).expect("the page");
    let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for section in page.split("\n## ").skip(1) {
        let (title, text) = section.split_once('\n').expect("a heading");
        let keys = sections.entry(title.trim_matches('`').to_string()).or_default();
        for row in text.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 4, "{title}: a row has a key, a type, a unit and a meaning: {row}");
            let key = cells[0].trim_matches('`').to_string();
            assert!(!cells[3].is_empty(), "{title}: {key} has no meaning");
            assert!(keys.insert(key.clone(), cells[1].to_string()).is_none(), "{title}: {key} comes twice");
        }
    }
    sections
}

/// Whether a value is of a type as the page writes it.
fn is_of(value: &Value, kind: &str) -> bool {
    let (kind, may_be_null) = kind.strip_suffix(" or null").map_or((kind, false), |kind| (kind, true));
    let each = |is: fn(&Value) -> bool| value.as_array().is_some_and(|all| all.iter().all(is));
    value.is_null() && may_be_null
        || match kind {
            "integer" => value.is_u64(),
            "number" => value.is_number(),
            "text" => value.is_string(),
            "boolean" => value.is_boolean(),
            "object" => value.is_object(),
            "array of objects" => each(Value::is_object),
            "array of arrays" => each(Value::is_array),
            "array of integers" => each(Value::is_u64),
            "array of texts" => each(Value::is_string),
            other => panic!("\"{other}\" is no type"),
        }
}

/// What was found in reports, beside what the page says.
struct Check {
    pages: BTreeMap<String, BTreeMap<String, String>>,
    found: BTreeMap<String, BTreeSet<String>>,
    faults: Vec<String>,
}

impl Check {
    /// Looks at a value with the key `key` of a section, and at the values in it.
    fn look(&mut self, section: &str, key: &str, value: &Value) {
        if !key.is_empty() && !key.ends_with("[]") {
            self.found.entry(section.into()).or_default().insert(key.into());
            match self.pages.get(section).and_then(|keys| keys.get(key)) {
                None => self.faults.push(format!("{section}: the page does not have {key}: {value}")),
                Some(kind) if !is_of(value, kind) => {
                    self.faults.push(format!("{section}: {key} is no {kind}: {value}"))
                }
                Some(_) => {}
            }
        }
        let last = key.rsplit('.').next().unwrap_or_default();
        let (section, key) = match SHARED.iter().find(|(name, _)| *name == last) {
            Some((_, shared)) => (*shared, ""),
            None => (section, key),
        };
        self.values(section, key, value);
    }

    fn values(&mut self, section: &str, key: &str, value: &Value) {
        match value {
            Value::Object(fields) => {
                let dot = if key.is_empty() { "" } else { "." };
                fields.iter().for_each(|(name, value)| self.look(section, &format!("{key}{dot}{name}"), value));
            }
            // What a section of its own lists is one element, whether there are many or one.
            Value::Array(all) if SHARED.iter().any(|(_, shared)| *shared == section) && key.is_empty() => {
                all.iter().for_each(|value| self.values(section, "", value));
            }
            Value::Array(all) => all.iter().for_each(|value| self.values(section, &format!("{key}[]"), value)),
            _ => {}
        }
    }
}

#[test]
fn the_page_has_every_key_of_every_report() {
    let mut check = Check { pages: documented(), found: BTreeMap::new(), faults: Vec::new() };
    let (place, table) = fitted(0..600);
    let mut look = |command: &str, code: i32| {
        let told = place.run(command);
        assert_eq!(told.code, code, "{command}: {}", told.stderr);
        let words: Vec<&str> = command.split(' ').collect();
        check.look(&format!("lowland {} --json", words[0]), "", &json(&told));
    };
    // Updates with every outcome: rows that are left out, rows that move, gates with and without a measure.
    look("update m --source t.arrow --json --quiet", 0);
    let mut tonight = table.clone().without(0..5).and(Table::of(600..620));
    tonight.rows[7].1[3] = f32::INFINITY;
    tonight.write(&place, "t.arrow");
    let update = "update m --source t.arrow --run-id a --mode transform --move dirty --invalid drop --json --quiet";
    look(&format!("{update} --gate recall>=1.01"), 3);
    look(&format!("{update} --gate recall>=0.1,outliers<=1"), 0);
    look(update, 0);
    tonight.clone().without(20..30).write(&place, "t.arrow");
    look("update m --source t.arrow --mode refit --invalid drop --gate outliers<=1 --json --quiet", 0);
    // New rows of which some are far away, and one has no vector.
    let mut new = Table::of(700..740);
    new.rows.iter_mut().take(10).for_each(|(_, vector)| vector[0] = 1e4);
    new.rows[15].1 = vec![f32::NAN; 8];
    new.write(&place, "new.arrow");
    look("transform --model m new.arrow -o p.arrow --invalid null --json --quiet", 0);
    look("diff m 1 3 --json", 0);
    look("rollback m --to 1 --json --quiet", 0);
    look("tag m first 1 --json --quiet", 0);
    look("tag m none 1 --json --quiet", 0);
    look("tag m none --delete --json --quiet", 0);
    look("export m -o e.parquet --json --quiet", 0);
    look("gc m --keep 3 --dry-run --json", 0);
    look("verify m --json --quiet", 0);
    // A record that is damaged, and a file.
    std::fs::write(place.path("m/versions/000002.json"), "{}").expect("written");
    look("versions m --json", 0);
    look("verify m --json --quiet", 1);

    let Check { pages, found, mut faults } = check;
    for (section, keys) in &pages {
        let found = found.get(section);
        let missing = keys.keys().filter(|key| !found.is_some_and(|found| found.contains(*key)));
        faults.extend(missing.map(|key| format!("{section}: no report has {key}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(pages.len() > 10, "only {} sections", pages.len());
}
