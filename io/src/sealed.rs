//! JSON texts that end in their own checksum, so that a damaged file is told from a file of a newer version.
//!
//! A sealed text is one JSON object in UTF-8, indented by two spaces. Its last field is `"xxh3"`: the 64-bit xxh3, in
//! 16 hexadecimal digits, of every byte before the comma that ends the field before it. Run manifests and the records
//! of models are sealed texts, in every format version.

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

/// The bytes around the checksum.
const TAIL: (&str, &str) = (",\n  \"xxh3\": \"", "\"\n}\n");
const DIGITS: usize = 16;

/// Returns `value` as a sealed text.
///
/// # Panics
/// If `value` does not serialise to a JSON object with at least one field.
pub fn seal(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    let Some(body) = text.strip_suffix("\n}") else { panic!("only a JSON object with fields is sealed") };
    let sum = xxh3_64(body.as_bytes());
    format!("{body}{}{sum:016x}{}", TAIL.0, TAIL.1)
}

/// Returns whether the bytes end as a sealed text does, whatever the checksum.
pub fn is_sealed(bytes: &[u8]) -> bool {
    split(bytes).is_some()
}

/// Checks the checksum of a sealed text, and returns what is wrong in words.
pub fn check_seal(bytes: &[u8]) -> Result<(), &'static str> {
    let (body, digits) = split(bytes).ok_or("it does not end in a checksum")?;
    if digits == format!("{:016x}", xxh3_64(body)).as_bytes() { Ok(()) } else { Err("its checksum differs") }
}

/// Splits a sealed text into the checksummed part and the digits of the checksum.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_suffix(TAIL.1.as_bytes())?;
    let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
    Some((rest.strip_suffix(TAIL.0.as_bytes())?, digits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_sealed_text_is_json_and_every_flipped_bit_shows() {
        let text = seal(&json!({"name": "a", "count": 3}));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["count"], 3);
        assert_eq!(check_seal(text.as_bytes()), Ok(()));
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(check_seal(&bytes).is_err(), "bit {bit}");
        }
        assert!(!is_sealed(b"{}\n"));
    }
}
