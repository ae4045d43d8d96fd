//! Memory budgets as people write them: `600MiB`, `4GiB`, `1.5g`, `1000000`, and shares such as `50%`
//! of what the machine grants.
//!
//! Sizes and shares:
//!
//! ```
//! use lowland::budget::Memory;
//! use lowland::machine::Machine;
//!
//! assert_eq!("1.5g".parse(), Ok(Memory::Bytes(3 << 29)));
//! assert_eq!("25%".parse(), Ok(Memory::Share(0.25)));
//! assert_eq!(Memory::Bytes(1 << 30).bytes(&Machine::detect()), Some(1 << 30));
//! assert!("much".parse::<Memory>().is_err());
//! ```

use crate::machine::Machine;

/// Parses a size in bytes. Units are binary with and without the i, in upper and lower case: 4G and
/// 4GB mean 4 GiB.
///
/// # Errors
/// A sentence that says how sizes are written.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("\"{text}\" is not a size; write a size such as 600MiB, 4GiB, 1.5g or plain bytes");
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let power = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(wrong()),
    };
    let bytes = number * 1024f64.powi(power);
    // Not every number above 2^53 bytes (8 PiB) is exact, and no memory is so large.
    if bytes >= 1.0 && bytes <= (1u64 << 53) as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// A memory budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Memory {
    /// A number of bytes.
    Bytes(u64),
    /// A share of the machine's limit, above 0 and at most 1.
    Share(f64),
}

impl Memory {
    /// Half of the machine's limit: the default budget.
    pub const DEFAULT: Memory = Memory::Share(0.5);

    /// Returns the budget in bytes, for shares in whole MiB; `None` of a share if the machine's limit
    /// is unknown.
    pub fn bytes(self, machine: &Machine) -> Option<u64> {
        match self {
            Memory::Bytes(bytes) => Some(bytes),
            Memory::Share(share) => machine.share(share),
        }
    }
}

impl From<u64> for Memory {
    fn from(bytes: u64) -> Self {
        Memory::Bytes(bytes)
    }
}

impl std::str::FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_memory(text)
    }
}

/// Parses a size in bytes, or a share in percent.
///
/// # Errors
/// A sentence that says how sizes are written.
pub fn parse_memory(text: &str) -> Result<Memory, String> {
    let Some(percent) = text.trim().strip_suffix('%') else {
        return parse_size(text).map(Memory::Bytes).map_err(|why| format!("{why}, or a share such as 50%"));
    };
    match percent.trim().parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Memory::Share(percent / 100.0)),
        _ => Err(format!("\"{text}\" is not a share of memory; write a share above 0% and up to 100%")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Memory, parse_memory, parse_size};

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("1", 1),
            ("1000000", 1_000_000),
            ("512b", 512),
            ("600MiB", 600 << 20),
            ("600mb", 600 << 20),
            ("4GiB", 4 << 30),
            ("4 GiB", 4 << 30),
            ("1.5g", 3 << 29),
            (".5k", 512),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn no_sizes() {
        for text in ["", "GiB", "4 gigs", "-1", "0", "1e9", "1.2.3g", "nan", "9999999T", "4GiB4"] {
            assert!(parse_size(text).is_err_and(|why| why.contains("600MiB")), "{text}");
        }
    }
    #[test]
    fn shares() {
        for (text, share) in [("50%", 0.5), ("12.5 %", 0.125), (" 100% ", 1.0)] {
            assert_eq!(parse_memory(text), Ok(Memory::Share(share)), "{text}");
        }
        assert_eq!(parse_memory("1.5g"), Ok(Memory::Bytes(3 << 29)));
        for text in ["%", "0%", "-5%", "101%", "nan%", "inf%", "half%"] {
            assert!(parse_memory(text).is_err_and(|why| why.contains("up to 100%")), "{text}");
        }
        assert!(parse_memory("half").is_err_and(|why| why.contains("50%")));
    }
}
