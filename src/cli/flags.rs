//! Names of options in texts. The library names an option as its field, in backquotes (`run_dir`); on
//! the command line the option is a flag (--run-dir).

use clap::CommandFactory;

use super::Cli;

/// Returns whether any subcommand has an option of this name.
pub(super) fn is_option(name: &str) -> bool {
    Cli::command().get_subcommands().any(|command| command.get_arguments().any(|arg| arg.get_long() == Some(name)))
}

/// Returns `text` with flags in place of the options that it names in backquotes. Other words in
/// backquotes stay as they are.
pub(crate) fn with_flags(text: &str) -> String {
    let mut with = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('`') {
        with.push_str(before);
        let named = after.split_once('`').map(|(name, after)| (name.replace('_', "-"), after));
        rest = match named.filter(|(name, _)| is_option(name)) {
            Some((name, after)) => {
                with.push_str("--");
                with.push_str(&name);
                after
            }
            None => {
                with.push('`');
                after
            }
        };
    }
    with.push_str(rest);
    with
}

#[cfg(test)]
mod tests {
    use super::with_flags;

    #[test]
    fn options_become_flags_and_other_words_stay() {
        for (text, expected) in [
            ("pass `restart`, or choose another `run_dir`", "pass --restart, or choose another --run-dir"),
            ("as `column` 'a:f32'", "as --column 'a:f32'"),
            ("column `no_such`: `device` cpu", "column `no_such`: --device cpu"),
            ("a ` alone, and `seed", "a ` alone, and `seed"),
            ("", ""),
        ] {
            assert_eq!(with_flags(text), expected);
        }
    }
}
