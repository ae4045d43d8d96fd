//! Commands that change a model, ended by SIGKILL at moments spread over all that they do: the model is that of before
//! or that of after, whole, and the same command ends as one that was never killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{FIT, Table, copy, current_of, files, objects, update};
use crate::harness::{Lcg, TestDir, note};

/// A command that changes the model `M`, how often it is killed among eleven, and whether it begins the model.
const COMMANDS: [(&str, &str, usize); 7] = [
    ("update", "update M --source t.arrow --mode transform --run-id tonight --threads 1 --quiet", 3),
    ("move", "update M --source t.arrow --mode transform --move dirty --run-id tonight --threads 1 --quiet", 1),
    ("refit", "update M --source t.arrow --mode refit --run-id tonight --threads 1 --quiet", 1),
    ("rollback", "rollback M --to 2 --quiet", 2),
    ("gc", "gc M --keep 1", 2),
    ("tag", "tag M good 2 --quiet", 1),
    ("fit", "", 1),
];

/// A model to be changed, and what each command makes of it when it is left alone.
struct Prey {
    place: TestDir,
    whole: BTreeMap<&'static str, Whole>,
}

/// A command that was not killed.
struct Whole {
    arguments: String,
    seconds: f64,
    /// How often the names in the model's directory changed.
    changes: usize,
    /// The objects of the current version, before and after.
    before: Option<Value>,
    after: Value,
    /// The numbers of all versions, and the names of the data, once what nobody names is removed.
    versions: Vec<String>,
    data: Vec<String>,
}

/// How a command ended.
struct Outcome {
    killed: bool,
    changes: usize,
    seconds: f64,
}

impl Prey {
    fn new() -> Self {
        let place = TestDir::new();
        let table = Table::of(0..700);
        table.write(&place, "t.arrow");
        place.ok(&format!("embed t.arrow --model m --keep label {FIT}"));
        let table = table.without(0..10).changing(30..35).and(Table::of(700..720));
        update(&place, &table, "--run-id one");
        let table = table.without(10..20).and(Table::of(720..740));
        update(&place, &table, "--run-id two");
        let table = table.without(20..30).changing(100..105).and(Table::of(740..760));
        table.write(&place, "t.arrow");
        std::fs::rename(place.path("m"), place.path("first")).expect("renamed");
        let mut prey = Prey { place, whole: BTreeMap::new() };
        for (name, arguments, _) in COMMANDS {
            let arguments = match arguments {
                "" => format!("embed t.arrow --model M --keep label {}", FIT.replace("--threads 2", "--threads 1")),
                given => given.to_string(),
            };
            let model = prey.begin(name, "whole");
            let before = current_of(&model).map(|number| objects(&model, number));
            let ended = prey.run(&arguments, "whole", None);
            let after = objects(&model, current_of(&model).expect("a version"));
            prey.place.ok("gc whole --keep 99");
            let whole = Whole {
                arguments,
                seconds: ended.seconds,
                changes: ended.changes,
                before,
                after,
                versions: names(&model, "versions"),
                data: names(&model, "data"),
            };
            prey.whole.insert(name, whole);
            std::fs::remove_dir_all(model).expect("removed");
        }
        prey
    }

    /// The model as it is before the command, as `model`; none before a fit.
    fn begin(&self, command: &str, model: &str) -> std::path::PathBuf {
        let path = self.place.path(model);
        if command != "fit" {
            copy(&self.place.path("first"), &path);
        }
        path
    }

    /// Runs a command on `model`; kills it some time after so many changes of names in the model's directory.
    fn run(&self, arguments: &str, model: &str, kill: Option<(usize, Duration)>) -> Outcome {
        let began = Instant::now();
        let arguments =
            arguments.split(' ').map(|word| if word == "M" { model } else { word }).collect::<Vec<_>>().join(" ");
        let mut command = self.place.command(&arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let (mut seen, mut changes, mut deadline) = (listing(&self.place.path(model)), 0, None);
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break status;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{arguments} hangs");
            let now = listing(&self.place.path(model));
            changes += usize::from(now != seen);
            seen = now;
            if let Some((at, after)) = kill {
                if changes >= at {
                    deadline.get_or_insert_with(|| Instant::now() + after);
                }
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    child.kill().expect("killed");
                    break child.wait().expect("an end");
                }
            }
            // So that a command has a core of its own where there are two.
            std::thread::sleep(Duration::from_micros(50));
        };
        // Killed, or well: nothing else.
        let mut told = String::new();
        let _ = std::io::Read::read_to_string(&mut child.stderr.take().expect("piped"), &mut told);
        assert!(status.success() || status.code().is_none(), "{arguments}: {status}: {told}");
        Outcome { killed: status.code().is_none(), changes, seconds: began.elapsed().as_secs_f64() }
    }

    /// Kills a command one or more times, looks at what it left, and runs it to its end.
    fn hunt(&self, number: u64, tally: &Mutex<Tally>) {
        let mut draws = Lcg(number * 2 + 1);
        let mut turn = number as usize % COMMANDS.iter().map(|command| command.2).sum::<usize>();
        let at = COMMANDS.iter().position(|command| {
            let here = turn < command.2;
            turn = turn.saturating_sub(command.2);
            here
        });
        let name = COMMANDS[at.expect("a command")].0;
        let (whole, named) = (&self.whole[name], format!("model{number}"));
        let model = self.begin(name, &named);
        let mut published = false;
        for _ in 0..if number % 3 == 2 { 3 } else { 1 } {
            // Half of them at a change of the directory, the others at any time.
            let kill = match draws.below(2) {
                0 => (1 + draws.below(whole.changes.max(1)), Duration::from_micros(draws.below(2_000) as u64)),
                _ => (0, Duration::from_secs_f64(whole.seconds * draws.below(1000) as f64 / 1000.0)),
            };
            let ended = self.run(&whole.arguments, &named, Some(kill));
            if !ended.killed {
                tally.lock().expect("no panic").too_late += 1;
                published = true;
                break;
            }
            let after = self.check_left(name, whole, &model, &named);
            published = after && names(&model, "runs").iter().all(|name| name.starts_with(".ended"));
            let mut tally = tally.lock().expect("no panic");
            *tally.kills.entry(name).or_default() += 1;
            tally.new += usize::from(after);
            if name == "fit" && published {
                break;
            }
        }
        // A fit whose version is published is refused, as over any other model.
        if name != "fit" || !published {
            self.run(&whole.arguments, &named, None);
        }
        let current = current_of(&model).expect("a version");
        assert!(objects(&model, current) == whole.after, "{named}: {name} ends with another version");
        self.place.ok(&format!("gc {named} --keep 99"));
        self.place.ok(&format!("verify {named} --quiet"));
        assert_eq!(names(&model, "data"), whole.data, "{named}: {name}");
        assert!(names(&model, "runs").is_empty(), "{named}: {name}");
        // A rollback that was repeated is one more version of the same content.
        if name != "rollback" {
            assert_eq!(names(&model, "versions"), whole.versions, "{named}: {name}");
        }
        std::fs::remove_dir_all(model).expect("removed");
        tally.lock().expect("no panic").equal += 1;
    }

    /// Whether the model is that of after the command, which otherwise is that of before, whole in both cases.
    fn check_left(&self, name: &str, whole: &Whole, model: &Path, named: &str) -> bool {
        let Some(number) = current_of(model) else {
            assert_eq!(name, "fit", "{named}: there is no current version");
            return false;
        };
        self.place.ok(&format!("verify {named} --quiet"));
        let found = objects(model, number);
        assert!(found == whole.after || Some(&found) == whole.before.as_ref(), "{named}: {name}: neither old nor new");
        self.place.ok(&format!("export {named} -o {named}.arrow --force --quiet"));
        std::fs::remove_file(self.place.path(&format!("{named}.arrow"))).expect("removed");
        found == whole.after
    }
}

/// The names in the directories of a model, which change while it is changed.
fn listing(model: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![model.to_path_buf()];
    while let Some(next) = left.pop() {
        // What was there may be gone.
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(entry.path());
            }
            found.push(entry.path().to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}

fn names(model: &Path, folder: &str) -> Vec<String> {
    files(&model.join(folder)).into_keys().collect()
}

#[derive(Default)]
struct Tally {
    kills: BTreeMap<&'static str, usize>,
    /// Kills after which the model was that of after the command.
    new: usize,
    too_late: usize,
    equal: usize,
}

/// `LOWLAND_MODEL_KILLS=200` makes it what it is meant for (`-- model::killed --nocapture` shows what it came to).
#[test]
fn a_command_killed_anywhere_leaves_a_whole_version_and_goes_on() {
    let given = std::env::var("LOWLAND_MODEL_KILLS").ok();
    let wanted = given.map_or(20, |text| text.parse::<u64>().unwrap_or_else(|e| panic!("{text}: {e}")));
    let prey = Prey::new();
    let (tally, next) = (Mutex::new(Tally::default()), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let done: usize = tally.lock().expect("no panic").kills.values().sum();
                    if done as u64 >= wanted || number > 10 * wanted {
                        return;
                    }
                    prey.hunt(number, &tally);
                }
            });
        }
    });
    let tally = tally.into_inner().expect("no panic");
    let total: usize = tally.kills.values().sum();
    note(&format!(
        "{total} kills ({}), {} of them left the new version, {} too late; {} models equal",
        tally.kills.iter().map(|(name, kills)| format!("{name} {kills}")).collect::<Vec<_>>().join(", "),
        tally.new,
        tally.too_late,
        tally.equal
    ));
    assert!(total as u64 >= wanted, "{total} kills");
    for (name, _, _) in COMMANDS.iter().filter(|_| wanted >= 200) {
        assert!(tally.kills.contains_key(name), "no kill of {name}");
    }
}
