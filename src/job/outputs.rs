//! Checks of an output's name, before any work.

use std::path::Path;

use lowland_io::{Fingerprint, PART};

use crate::{Error, Result};

/// Refuses an output or a run directory in an object store.
///
/// # Errors
/// Names the address and says what to do instead.
pub fn check_local(path: &Path) -> Result<()> {
    let given = path.to_string_lossy();
    if lowland_io::is_address(&given) {
        let what = format!(
            "{}: an address, but outputs are written to local files only; name a file or directory, and copy it afterwards",
            lowland_io::shown(&given)
        );
        return Err(Error::job(what));
    }
    Ok(())
}

/// Refuses an output that exists, unless `force` is set, an output whose directory does not
/// exist, and a name to which nothing can be added, because a file has a longer name while it is written.
///
/// # Errors
/// Name the output and the way out.
pub fn check_output(path: &Path, force: bool) -> Result<()> {
    check_local(path)?;
    // Outputs are written through symbolic links, so the link's target counts.
    let target = lowland_io::target(path)?;
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !directory.is_dir() {
        let what = format!("{}: its directory {} does not exist; create it first", path.display(), directory.display());
        return Err(Error::job(what));
    }
    check_length(path, &target, directory)?;
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(Error::job(format!("{}: a directory; name a file in it", path.display()))),
        Ok(_) if !force => Err(lowland_io::Error::Exists { path: path.into() }.into()),
        _ => Ok(()),
    }
}

/// Refuses a name that becomes too long for its file system when the ending of unfinished files is added.
fn check_length(path: &Path, target: &Path, directory: &Path) -> Result<()> {
    let bytes = target.file_name().map_or(0, |name| name.as_encoded_bytes().len());
    // A file system that does not tell has the usual limit.
    let longest = lowland_io::longest_name(directory).ok().filter(|&longest| longest > 0).unwrap_or(255);
    let most = (longest as usize).saturating_sub(PART.len());
    if bytes <= most {
        return Ok(());
    }
    let what = format!(
        "{}: a name of {bytes} bytes, and {most} are possible, because {PART} is added while the file is written; \
         shorten the name",
        path.display()
    );
    Err(Error::job(what))
}

/// Refuses an output that is one of the inputs' `files`.
pub(crate) fn refuse_input(output: &Path, files: &[Fingerprint]) -> Result<()> {
    let Ok(there) = output.canonicalize() else { return Ok(()) };
    if files.iter().any(|file| file.path.canonicalize().is_ok_and(|path| path == there)) {
        return Err(Error::job(format!("{}: the output is also an input; choose another name", output.display())));
    }
    Ok(())
}
