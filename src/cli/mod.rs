//! The command line. Options are processed in two steps: the structs that clap fills hold the text
//! as typed, and each subcommand converts them to a [`lowland::Job`] or another job.
//!
//! What must hold: standard output has only results; every failure is one line on standard error
//! that names the place and the way out.

mod diff;
mod embed;
mod evaluate;
pub(crate) mod flags;
mod inspect;
mod keep;
mod knn;
mod map;
mod model;
mod names;
mod options;
mod pca;
mod plan;
mod plot;
mod report;
mod runs;
mod stopped;
mod stream;
mod transform;
mod update;

use std::io::Write;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use lowland::{Error, Method};

use self::flags::{is_option, with_flags};
use crate::progress::{Console, LogFormat};
use crate::signal::Signals;

const EXIT_CODES: &str = "\
Exit codes:
  0    done (also if the reader of standard output has closed it)
  1    failure of the machine or of lowland: no space left, a damaged run directory
  2    wrong usage or input: options, data, formats, an output that exists, a
       memory budget too small or a plan beyond what the machine grants
  3    embed --strict: done, outputs are written, but the run warned; update:
       a gate refused the version
  130  interrupted (SIGINT, Ctrl-C)  } embed, knn, transform and update keep finished
  143  ended (SIGTERM)               } work, and the same command continues from there";

/// Make maps of data larger than memory.
///
/// lowland embeds vectors that do not fit into memory into 2, 3 or more
/// dimensions (UMAP), within a memory budget that it states beforehand. The
/// same seed gives the same bytes, whatever the threads, the budget and the
/// interruptions.
#[derive(Debug, Parser)]
#[command(name = "lowland", version, arg_required_else_help = true, subcommand_required = true, max_term_width = 100)]
#[command(after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Embed(Box<embed::EmbedArgs>),
    Knn(Box<knn::KnnArgs>),
    Pca(Box<pca::PcaArgs>),
    Plan(Box<plan::PlanArgs>),
    Evaluate(Box<evaluate::EvaluateArgs>),
    Inspect(inspect::InspectArgs),
    Plot(plot::PlotArgs),
    Runs(runs::RunsArgs),
    Transform(Box<transform::TransformArgs>),
    Update(Box<update::UpdateArgs>),
    Versions(model::VersionsArgs),
    Diff(diff::DiffArgs),
    Rollback(model::RollbackArgs),
    Gc(model::GcArgs),
    Tag(model::TagArgs),
    Verify(model::VerifyArgs),
    Export(model::ExportArgs),
}

/// Runs the command line `args`, whose first is the program's name, and returns the exit code.
/// Listens to SIGINT and SIGTERM of the process from then on.
pub fn command_line(args: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>) -> u8 {
    let args: Vec<std::ffi::OsString> = args.into_iter().map(Into::into).collect();
    let matches = command().long_version(version()).try_get_matches_from(&args);
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(told) if method_of(&told).is_some() => {
            let method = method_of(&told).map_or("", Method::name);
            eprintln_line(&format!("error: '{method}' is a method, not a command: lowland embed --method {method} …"));
            return told.exit_code() as u8;
        }
        Err(told) if told.kind() == ErrorKind::InvalidUtf8 => {
            let wrong: Vec<String> =
                args.iter().filter(|arg| arg.to_str().is_none()).map(|arg| format!("{arg:?}")).collect();
            eprintln_line(&format!(
                "error: not UTF-8: {}; rename what has this name, or give another",
                wrong.join(", ")
            ));
            return told.exit_code() as u8;
        }
        Err(told) => {
            // Help and version are reported as such "errors" too. A failure to print is ignored.
            let _ = told.print();
            return told.exit_code() as u8;
        }
    };
    let (format, quiet) = match &cli.command {
        Command::Embed(args) => args.progress.mode(),
        Command::Knn(args) => args.progress.mode(),
        Command::Pca(args) => args.progress.mode(),
        Command::Plan(args) => args.progress.mode(),
        Command::Evaluate(args) => args.progress.mode(),
        Command::Plot(args) => args.progress.mode(),
        Command::Transform(args) => args.progress.mode(),
        Command::Update(args) => args.progress.mode(),
        Command::Export(args) => args.progress.mode(),
        Command::Versions(args) => args.progress.mode(),
        Command::Diff(args) => args.progress.mode(),
        Command::Rollback(args) => args.progress.mode(),
        Command::Gc(args) => args.progress.mode(),
        Command::Tag(args) => args.progress.mode(),
        Command::Verify(args) => args.progress.mode(),
        Command::Inspect(_) | Command::Runs(_) => (LogFormat::Text, false),
    };
    let signals = Signals::listen();
    let console = Console::new(format, quiet, signals.as_ref().cloned().unwrap_or_default());
    if let Err(error) = signals {
        console.note("signals", format!("cannot handle signals ({error}): an interruption ends the process at once"));
    }
    let result = match cli.command {
        Command::Embed(args) => embed::run(&args, &console).map(done),
        Command::Knn(args) => knn::run(&args, &console).map(done),
        Command::Pca(args) => pca::run(&args, &console).map(done),
        Command::Plan(args) => plan::run(&args, &console).map(done),
        Command::Evaluate(args) => evaluate::run(&args, &console).map(done),
        Command::Inspect(args) => inspect::run(&args, &console).map(done),
        Command::Plot(args) => plot::run(&args, &console).map(done),
        Command::Runs(args) => runs::run(&args, &console).map(done),
        Command::Transform(args) => transform::run(&args, &console).map(done),
        Command::Update(args) => update::run(&args, &console),
        Command::Versions(args) => model::versions(&args, &console).map(done),
        Command::Diff(args) => diff::diff(&args, &console).map(done),
        Command::Rollback(args) => model::rollback(&args, &console).map(done),
        Command::Gc(args) => model::gc(&args, &console).map(done),
        Command::Tag(args) => model::tag(&args, &console).map(done),
        Command::Verify(args) => model::verify(&args, &console),
        Command::Export(args) => model::export(&args, &console).map(done),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            let code = failure.exit_code(&console);
            console.error(&failure.message(), code);
            code
        }
    }
}

/// Returns the exit code of a command that is done.
fn done((): ()) -> u8 {
    0
}

/// Returns the command line as it is parsed and as help describes it.
fn command() -> clap::Command {
    Cli::command()
        .mut_subcommand("knn", knn::command_alone)
        .mut_subcommand("embed", map::with_graph)
        .mut_subcommand("plan", map::with_graph)
        .mut_subcommand("transform", transform::with_model)
        .mut_subcommand("update", update::with_table)
}

/// Returns the method whose name was typed in place of a command.
fn method_of(told: &clap::Error) -> Option<Method> {
    match told.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(name)) => {
            let name = name.to_ascii_lowercase();
            let plain = |name: &str| name.replace(['-', '_'], "");
            Method::from_name(&name).or_else(|| Method::all().find(|method| plain(method.name()) == plain(&name)))
        }
        _ => None,
    }
}

/// Prints a line on standard error, before there is a console.
fn eprintln_line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn version() -> String {
    let faiss = lowland_engine::index::faiss::initialize();
    let faiss = faiss.map_or_else(|e| e.to_string(), |options| format!("FAISS 1.12, {options}"));
    format!("{}\n{faiss}", env!("CARGO_PKG_VERSION"))
}

/// A failed command: the error, and a remark about what is left of the run.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Boxed, because every function of the command line returns it.
    error: Box<Error>,
    left: Option<String>,
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure { error: Box::new(error.into()), left: None }
    }
}

impl Failure {
    fn leaving(error: Error, left: String) -> Self {
        Failure { error: Box::new(error), left: Some(left) }
    }

    /// Returns the failure of a command that cannot be done as given.
    fn usage(what: impl Into<String>) -> Self {
        Error::Job { what: what.into() }.into()
    }

    fn exit_code(&self, console: &Console) -> u8 {
        match self.error.as_ref() {
            error if error.is_cancelled() => console.signals().exit_code(),
            error if error.is_bad_input() => 2,
            Error::Warned { .. } => 3,
            _ => 1,
        }
    }

    fn message(&self) -> String {
        use lowland_engine::Error as Engine;
        // The option is named as it is typed, and not as the field is named, if there is such an option.
        let named = |field: &str| match field.replace('_', "-") {
            option if is_option(&option) => format!("--{option}"),
            _ => field.to_string(),
        };
        let mut text = match self.error.as_ref() {
            Error::Engine(Engine::Config { why, .. }) => why.clone(),
            Error::Engine(Engine::Cancelled { stage }) => format!("stopped in the {stage} stage"),
            error => error.to_string(),
        };
        if let Some(field) = self.error.option() {
            text = format!("{}: {text}", named(field));
        }
        // `evaluate` and `update` say themselves how such rows are left out.
        let is_said = matches!(self.error.as_ref(), Error::Engine(Engine::Invalid { .. })) && self.left.is_some();
        if let Some(advice) = self.error.advice(|field, value| format!("{} {value}", named(field))).filter(|_| !is_said)
        {
            text = format!("{text}; {advice}");
        }
        if let Some(left) = &self.left {
            text = format!("{text}; {left}");
        }
        // Parts of the text may contain line breaks, but a failure must be one line.
        with_flags(&text).replace(['\n', '\r'], " ")
    }
}

/// Writes a result to standard output. A closed pipe counts as success.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(lowland_io::Error::io("standard output", "write", e).into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_definition_is_valid() {
        command().debug_assert();
    }

    #[test]
    fn only_options_that_are_there_are_named_as_options() {
        let told = |field| Failure::from(lowland_engine::Error::Config { field, why: "no".into() }).message();
        assert_eq!(told("n_neighbors"), "--n-neighbors: no");
        assert_eq!(told("k"), "k: no");
    }

    #[test]
    fn help_shows_every_option_that_is_taken() {
        let command = command();
        for subcommand in command.get_subcommands() {
            let hidden = subcommand.get_arguments().find(|argument| argument.is_hide_set());
            assert!(hidden.is_none(), "{} hides {hidden:?}", subcommand.get_name());
        }
        let knn = command.find_subcommand("knn").expect("knn");
        assert!(knn.get_arguments().all(|argument| argument.get_id() != "checkpoint"), "a graph has no layout");
    }

    #[test]
    fn help_of_invalid_rows_names_a_graph_only_where_one_is_read() {
        let help = |name: &str| {
            let command = command();
            let subcommand = command.find_subcommand(name).expect("a subcommand");
            let invalid = subcommand.get_arguments().find(|argument| argument.get_id() == "invalid").expect("invalid");
            invalid.get_help().expect("a help text").to_string()
        };
        for name in ["embed", "plan"] {
            let text = help(name);
            let words =
                ["of a graph without SOURCE, rows without neighbours", "[default: error; without SOURCE: null]"];
            assert!(words.iter().all(|word| text.contains(word)), "{name}: {text}");
        }
        for name in ["knn", "pca"] {
            let text = help(name);
            assert!(text.contains("null keeps them") && text.ends_with("[default: error]"), "{name}: {text}");
            assert!(!text.contains("neighbours"), "{name}: {text}");
        }
        let evaluate = help("evaluate");
        assert!(
            evaluate.contains("drop leaves them out of all tables") && !evaluate.contains("null keeps"),
            "{evaluate}"
        );
    }

    #[test]
    fn help_of_the_graph_alone_is_about_the_graph() {
        let mut command = command();
        let knn = command.find_subcommand_mut("knn").expect("knn").render_long_help().to_string();
        for word in ["pacmap", "affinity", "exact method", "layout", "checkpoint", "map:", "tsne"] {
            assert!(!knn.to_lowercase().contains(word), "{word} in\n{knn}");
        }
        assert!(knn.contains("--n-neighbors") && knn.contains(".parquet"), "{knn}");
    }
}
