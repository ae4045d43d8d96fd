//! A small disk.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{TestDir, skipped};

/// A file system in memory, whose size can be changed; unmounted when the test ends.
pub(crate) struct SmallDisk {
    pub(crate) place: PathBuf,
}

impl SmallDisk {
    /// None, and a note that the test is skipped, where mounting is not allowed.
    pub(crate) fn new(place: &TestDir, bytes: u64) -> Option<Self> {
        let small = SmallDisk { place: place.path("small") };
        std::fs::create_dir(&small.place).expect("a directory");
        let options = format!("size={bytes}");
        match Self::mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], &small.place) {
            Ok(()) => Some(small),
            Err(why) => {
                skipped(&format!("no file system can be mounted here: {why}"));
                // Nothing to unmount.
                std::mem::forget(small);
                None
            }
        }
    }

    pub(crate) fn mount(arguments: &[&str], at: &Path) -> Result<(), String> {
        let output = Command::new("mount").args(arguments).arg(at).output().map_err(|e| e.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_string()) }
    }

    /// Mounts it again with another option; refused where more is there already than is asked for.
    pub(crate) fn try_set(&self, option: &str) -> Result<(), String> {
        Self::mount(&["-o", &format!("remount,{option}")], &self.place)
    }

    pub(crate) fn set(&self, option: &str) {
        self.try_set(option).expect("mounted again");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Also with a file in it open, as after a failed test.
        let status = Command::new("umount").arg("-l").arg(&self.place).status();
        if !status.is_ok_and(|status| status.success()) {
            skipped(&format!("{} stays mounted", self.place.display()));
        }
    }
}
