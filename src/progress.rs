//! Progress on standard error: bars on a terminal, otherwise one line for each stage, or JSON, one
//! object a line.
//!
//! Standard output is never written here. A failure to write to standard error is ignored, because
//! it could not be reported.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use lowland::{Event, Level, Observer, Plan, Remark, Stage, StageReport, format_bytes};
use lowland_engine::format_count;
use serde_json::{Value, json};

use crate::cli::flags::with_flags;
use crate::signal::Signals;

/// The least interval between two JSON progress events.
const JSON_INTERVAL: Duration = Duration::from_millis(500);

/// The format of progress and messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    // A `//` comment, because clap would show a `///` comment as help and choose the long help
    // format.
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConsoleMode {
    Quiet,
    Bars,
    Lines,
    Json,
}

/// The observer of the command line.
pub(crate) struct Console {
    mode: ConsoleMode,
    json: bool,
    signals: Signals,
    state: Mutex<ConsoleState>,
}

#[derive(Default)]
struct ConsoleState {
    bar: Option<ProgressBar>,
    unit: &'static str,
    total: u64,
    told: Option<Instant>,
    finished: Vec<&'static str>,
}

impl Console {
    pub(crate) fn new(format: LogFormat, quiet: bool, signals: Signals) -> Self {
        let json = format == LogFormat::Json;
        let mode = match (quiet, json) {
            (true, _) => ConsoleMode::Quiet,
            (false, true) => ConsoleMode::Json,
            (false, false) if std::io::stderr().is_terminal() => ConsoleMode::Bars,
            (false, false) => ConsoleMode::Lines,
        };
        Console { mode, json, signals, state: Mutex::default() }
    }

    pub(crate) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Returns the stages that were finished by this or an earlier process.
    pub(crate) fn finished(&self) -> Vec<&'static str> {
        self.state().finished.clone()
    }

    /// Prints a note for the user. `kind` identifies the note for programs.
    pub(crate) fn note(&self, kind: &'static str, text: impl Into<String>) {
        self.remark(&Remark::note(kind, text));
    }

    /// Prints a note or a warning. Warnings are also printed with --quiet.
    pub(crate) fn remark(&self, remark: &Remark) {
        let (event, before) = match remark.level {
            Level::Note if self.mode == ConsoleMode::Quiet => return,
            Level::Note => ("note", ""),
            Level::Warning => ("warning", "warning: "),
        };
        let text = with_flags(&remark.text);
        match self.json {
            true => line(&json!({"event": event, "kind": remark.kind, "text": text}).to_string()),
            false => self.say(&format!("lowland: {before}{text}")),
        }
    }

    /// Prints the plan.
    pub(crate) fn plan(&self, plan: &Plan) {
        self.planned(plan, || json!(plan));
    }

    /// Prints a plan of another type, with its JSON form.
    pub(crate) fn planned(&self, plan: &impl Display, full: impl FnOnce() -> Value) {
        match self.mode {
            ConsoleMode::Quiet => {}
            ConsoleMode::Json => line(&json!({"event": "plan", "plan": full()}).to_string()),
            // The memory of each stage is printed only on request (inspect, --report).
            ConsoleMode::Bars | ConsoleMode::Lines => {
                plan.to_string().lines().take_while(|l| !l.starts_with("memory")).for_each(|l| self.say(l));
            }
        }
    }

    /// Prints the report, without the notes printed earlier, and the output files.
    pub(crate) fn done(&self, report: &impl Display, full: &Value, files: &[(&str, &Path)]) {
        match self.mode {
            ConsoleMode::Quiet => {}
            ConsoleMode::Json => line(&json!({"event": "report", "report": full}).to_string()),
            ConsoleMode::Bars | ConsoleMode::Lines => {
                self.say(&format!("\n{report}"));
                files.iter().for_each(|(_, path)| self.say(&format!("{:<10} {}", "wrote", path.display())));
            }
        }
    }

    /// Prints an error, as one line.
    pub(crate) fn error(&self, message: &str, exit_code: u8) {
        if let Some(bar) = self.state().bar.take() {
            bar.finish_and_clear();
        }
        if self.json {
            line(&json!({"event": "error", "message": message, "exit_code": exit_code}).to_string());
        } else {
            line(&format!("lowland: error: {message}"));
        }
    }

    fn state(&self) -> MutexGuard<'_, ConsoleState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, text: &str) {
        match &self.state().bar {
            Some(bar) => bar.suspend(|| line(text)),
            None => line(text),
        }
    }

    fn start(&self, stage: Stage, total: u64, unit: &'static str) {
        let mut state = self.state();
        (state.total, state.unit, state.told) = (total, unit, None);
        match self.mode {
            ConsoleMode::Bars => state.bar = Some(bar(stage, total, unit)),
            ConsoleMode::Json => {
                line(&json!({"event": "start", "stage": stage.name(), "total": total, "unit": unit}).to_string());
            }
            ConsoleMode::Quiet | ConsoleMode::Lines => {}
        }
    }

    fn advance(&self, stage: Stage, done: u64) {
        match self.mode {
            ConsoleMode::Bars => {
                if let Some(bar) = &self.state().bar {
                    // Several threads report progress, so a smaller number may arrive later.
                    bar.set_position(bar.position().max(done));
                }
            }
            ConsoleMode::Json => {
                let mut state = self.state();
                if state.told.is_none_or(|at| at.elapsed() >= JSON_INTERVAL) {
                    state.told = Some(Instant::now());
                    let (total, unit) = (state.total, state.unit);
                    let object =
                        json!({"event": "advance", "stage": stage.name(), "done": done, "total": total, "unit": unit});
                    line(&object.to_string());
                }
            }
            ConsoleMode::Quiet | ConsoleMode::Lines => {}
        }
    }

    /// Reports a finished unit, only in JSON: the progress bar already shows the progress.
    fn unit(&self, stage: Stage, unit: &str, reused: bool) {
        if self.mode == ConsoleMode::Json {
            line(&json!({"event": "unit", "stage": stage.name(), "unit": unit, "reused": reused}).to_string());
        }
    }

    fn end(&self, report: &StageReport, reused: bool) {
        let mut state = self.state();
        state.finished.push(report.stage.name());
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
        let stage = report.stage.name();
        match self.mode {
            ConsoleMode::Quiet => {}
            ConsoleMode::Json => line(&json!({"event": "end", "reused": reused, "report": report}).to_string()),
            ConsoleMode::Bars | ConsoleMode::Lines if reused => {
                line(&format!("{stage:<10}     kept from an earlier run"))
            }
            ConsoleMode::Bars | ConsoleMode::Lines => {
                // A count of 1 ("1 passes") would not be informative.
                let done = if state.total > 1 {
                    format!("{} {}, ", format_count(state.total), state.unit)
                } else {
                    String::new()
                };
                let (peak, read, written) =
                    (format_bytes(report.peak_memory), format_bytes(report.read), format_bytes(report.written));
                line(&format!(
                    "{stage:<10} {:>8.2} s   {done}peak {peak}, read {read}, wrote {written}",
                    report.seconds
                ));
            }
        }
    }
}

impl Observer for Console {
    fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
        match *event {
            Event::Start { stage, total, unit } => self.start(stage, total, unit),
            Event::Advance { stage, done } => self.advance(stage, done),
            Event::End { report, reused } => {
                crate::allocator::trim();
                self.end(report, reused);
            }
            Event::Unit { stage, unit, reused } => self.unit(stage, unit, reused),
            Event::Note { remark } => self.remark(remark),
            _ => {}
        }
        if self.signals.came() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn bar(stage: Stage, total: u64, unit: &'static str) -> ProgressBar {
    let template = "{prefix:10} {wide_bar} {human_pos}/{human_len} {msg}  {rate:>11}  {eta:>4} left";
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(8))
        .with_prefix(stage.name())
        .with_message(unit);
    if let Ok(style) = ProgressStyle::with_template(template) {
        let rate = |state: &ProgressState, to: &mut dyn std::fmt::Write| {
            // A failure to draw the bar is ignored.
            let _ = match state.per_sec() {
                rate if rate >= 100.0 => write!(to, "{}/s", format_count(rate as u64)),
                rate => write!(to, "{rate:.1}/s"),
            };
        };
        bar.set_style(style.with_key("rate", rate).progress_chars("━╸ "));
    }
    bar
}

fn line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
