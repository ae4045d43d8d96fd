//! Gates: conditions that the measures of a version must meet to become current.

use std::fmt;
use std::str::FromStr;

use lowland_model::update::Measures;
use serde::Serialize;

/// A condition on a measure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gate {
    /// The measure's name.
    pub measure: String,
    /// Whether the measure must be at least the value, rather than at most.
    pub at_least: bool,
    /// The value.
    pub value: f64,
}

/// A gate and the measure of a version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateResult {
    /// The gate.
    pub gate: Gate,
    /// The version's measure. `None` if the version has no such measure: then the gate is passed.
    pub measured: Option<f64>,
    /// Whether the version meets the condition.
    pub passed: bool,
}

impl Gate {
    /// Reads conditions separated by commas, such as `recall>=0.9, moved_p95<=0.02`.
    ///
    /// # Errors
    /// What is wrong with the first condition that cannot be read.
    pub fn parse_all(text: &str) -> Result<Vec<Gate>, String> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::parse).collect()
    }

    /// Checks that there is such a measure.
    ///
    /// # Errors
    /// Names the measures.
    pub fn check(&self) -> Result<(), String> {
        let names = Measures::names();
        match names.contains(&self.measure) {
            true => Ok(()),
            false => Err(format!("there is no measure \"{}\"; the measures are {}", self.measure, names.join(", "))),
        }
    }

    /// Compares the measure of a version with the condition.
    pub fn judge(&self, measures: Option<&Measures>) -> GateResult {
        let measured = measures.and_then(|measures| measures.get(&self.measure));
        let passed = measured.is_none_or(|x| if self.at_least { x >= self.value } else { x <= self.value });
        GateResult { gate: self.clone(), measured, passed }
    }
}

impl FromStr for Gate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at_least = text.contains(">=");
        let (measure, value) = text
            .split_once(if at_least { ">=" } else { "<=" })
            .ok_or_else(|| format!("\"{text}\" is not of the form recall>=0.9 or moved_p95<=0.02"))?;
        let value: f64 = value.trim().parse().map_err(|_| format!("\"{}\" is not a number", value.trim()))?;
        if !value.is_finite() {
            return Err(format!("{value} is not a finite number"));
        }
        let gate = Gate { measure: measure.trim().replace('-', "_"), at_least, value };
        gate.check()?;
        Ok(gate)
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.measure, if self.at_least { ">=" } else { "<=" }, self.value)
    }
}

impl fmt::Display for GateResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.measured {
            Some(measured) => write!(f, "{}: {measured:.4}", self.gate),
            None => write!(f, "{}: not measured", self.gate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read_and_judged() {
        let gates = Gate::parse_all("recall>=0.9, trustworthiness >= 0.93,moved-p95<=0.02,").expect("gates");
        assert_eq!(
            gates.iter().map(Gate::to_string).collect::<Vec<_>>(),
            ["recall>=0.9", "trustworthiness>=0.93", "moved_p95<=0.02"]
        );
        let measures = Measures { recall: 0.91, trustworthiness: 0.92, moved_p95: 0.02, ..Measures::default() };
        let passed: Vec<bool> = gates.iter().map(|gate| gate.judge(Some(&measures)).passed).collect();
        assert_eq!(passed, [true, false, true]);
        // New rows were not added, so there is no share of outliers.
        let gate: Gate = "outliers<=0.1".parse().expect("a gate");
        assert!(gate.judge(Some(&measures)).passed);
    }

    #[test]
    fn wrong_gates_say_what_is_right() {
        assert!("recall>0.9".parse::<Gate>().expect_err("refused").contains("recall>=0.9"));
        assert!("recal>=0.9".parse::<Gate>().expect_err("refused").contains("recall, "));
        assert!("recall>=high".parse::<Gate>().expect_err("refused").contains("not a number"));
        assert!("recall>=nan".parse::<Gate>().expect_err("refused").contains("finite"));
    }
}
