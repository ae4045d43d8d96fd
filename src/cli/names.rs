//! Parses lists of column names: `a,b`, or `'"a,b"'` for a name with a comma.

use super::Failure;

/// Returns the columns that options name. An option that equals the name of a column in `there` is
/// that column; any other is a list of names separated by commas, in which a name may be in double
/// quotes.
pub(super) fn columns(option: &str, given: &[String], there: &[String]) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for text in given {
        match there.contains(text) {
            true => names.push(text.clone()),
            false => names.extend(split(text, there).map_err(|why| Failure::usage(format!("{option}: {why}")))?),
        }
    }
    Ok(names)
}

/// Refuses a kept column with the name of the output's first column, which contains the id or row numbers.
pub(super) fn check_kept(id: Option<&String>, keep: &[String]) -> Result<(), Failure> {
    match id {
        None if keep.iter().any(|name| name == "id") => Err(Failure::usage(
            "--keep: the output has a column \"id\" of row numbers; to write the source's column \"id\" instead, pass --id id",
        )),
        Some(id) if keep.contains(id) => Err(Failure::usage(format!(
            "--keep: column \"{id}\" is written already, because of --id; leave it out of --keep"
        ))),
        _ => Ok(()),
    }
}

/// Returns the one column that an option names: as typed, if there is such a column, or in double
/// quotes.
pub(super) fn column(option: &str, given: &str, there: &[String]) -> Result<String, Failure> {
    if there.iter().any(|name| name == given) || !given.trim_start().starts_with('"') {
        return Ok(given.into());
    }
    match split(given, there) {
        Ok(names) => match <[String; 1]>::try_from(names) {
            Ok([name]) => Ok(name),
            Err(_) => Err(Failure::usage(format!("{option}: one column is named here"))),
        },
        Err(why) => Err(Failure::usage(format!("{option}: {why}"))),
    }
}

/// Splits a list of names separated by commas. A name in double quotes may contain commas, and
/// quotes doubled.
pub(super) fn split(text: &str, there: &[String]) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let mut rest = text;
    loop {
        let (name, after) = match rest.trim_start().strip_prefix('"') {
            Some(inner) => quoted(inner)?,
            None => {
                let (name, after) = rest.split_once(',').map_or((rest, None), |(name, after)| (name, Some(after)));
                // Blanks around a name belong to it only if there is such a column.
                let name = if there.iter().any(|known| known == name) { name } else { name.trim() };
                (name.to_string(), after)
            }
        };
        names.push(name);
        match after {
            Some(after) => rest = after,
            None => return Ok(names),
        }
    }
}

/// Returns a name up to its closing quote, and the text behind the comma that follows.
fn quoted(text: &str) -> Result<(String, Option<&str>), String> {
    let mut name = String::new();
    let mut rest = text;
    while let Some((part, after)) = rest.split_once('"') {
        name.push_str(part);
        if let Some(more) = after.strip_prefix('"') {
            name.push('"');
            rest = more;
            continue;
        }
        let after = after.trim_start();
        return match (after.is_empty(), after.strip_prefix(',')) {
            (true, _) => Ok((name, None)),
            (false, Some(after)) => Ok((name, Some(after))),
            (false, None) => Err(format!("a comma is missing after the name in quotes \"{name}\"")),
        };
    }
    Err(format!("a quote is not closed in {text}; a name with commas is given as '\"a,b\"'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(given: &[&str], there: &[&str]) -> Result<Vec<String>, String> {
        let text = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        columns("--keep", &text(given), &text(there)).map_err(|failure| failure.message())
    }

    #[test]
    fn names_with_commas_quotes_and_blanks() {
        let there = ["a", "b", "a,b", "o.t,h", " lead", "say \"hi\", you"];
        for (given, expected) in [
            (&["a", "b"][..], &["a", "b"][..]),
            (&["b,a"], &["b", "a"]),
            (&["b, a"], &["b", "a"]),
            (&["a,b"], &["a,b"]),
            (&["\"a,b\",b"], &["a,b", "b"]),
            (&["b,\"o.t,h\" , a"], &["b", "o.t,h", "a"]),
            (&["b, lead"], &["b", " lead"]),
            (&["\"say \"\"hi\"\", you\""], &["say \"hi\", you"]),
            (&["missing"], &["missing"]),
        ] {
            let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            assert_eq!(names(given, &there), Ok(expected), "{given:?}");
        }
        for (given, why) in [("\"a,b", "not closed"), ("\"a\"b", "comma is missing")] {
            assert!(names(&[given], &there).is_err_and(|told| told.starts_with("--keep: ") && told.contains(why)));
        }
    }

    #[test]
    fn columns_that_the_output_has_itself() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(check_kept(None, &names(&["a", "b"])).is_ok());
        assert!(check_kept(Some(&"a".into()), &names(&["id", "b"])).is_ok());
        let told = |id: Option<&str>, keep| {
            check_kept(id.map(String::from).as_ref(), &names(keep)).expect_err("refused").message()
        };
        assert!(told(None, &["a", "id"]).contains("--id id"));
        assert!(told(Some("a"), &["a"]).contains("\"a\" is written already"));
    }

    #[test]
    fn one_name() {
        let there = ["a,b".to_string(), "\"q\"".into()];
        let name = |given: &str| column("--id", given, &there).map_err(|failure| failure.message());
        for (given, expected) in [("a,b", "a,b"), ("\"a,b\"", "a,b"), ("\"q\"", "\"q\""), ("c,d", "c,d")] {
            assert_eq!(name(given).as_deref(), Ok(expected));
        }
        assert!(name("\"a\",\"b\"").is_err_and(|why| why.contains("one column")));
    }
}
