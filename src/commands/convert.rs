//! `data convert PATH`: meshes to a file of voxels, ahead of a run; and what a run says when it has to do that itself.

use super::output::print_result;
use crate::cli::{ConvertArgs, GlobalArgs};
use crate::data::{self, Conversion};
use crate::error::Result;
use crate::report::{Progress, Style, grouped, say};
use serde_json::json;
use std::sync::Mutex;

/// Converts, and says what there is now.
///
/// # Errors
/// As [`data::convert`].
pub fn run(global: &GlobalArgs, args: &ConvertArgs) -> Result<()> {
    let made = data::convert(&args.path, args.out.as_deref(), on_stderr(global))?;
    let data::Converted { file, bytes, train, test, views, classes } = made;
    let record = json!({
        "file": file.display().to_string(),
        "bytes": bytes,
        "train": train,
        "test": test,
        "views": views,
        "classes": classes,
    });
    let [size, train, test] = [bytes, train as u64, test as u64].map(grouped);
    let text = format!(
        "{}: {size} bytes, {train} objects to train on and {test} to test on in {views} views, {classes} classes\n\
         use it with --data {0}, or go on naming {}\n",
        file.display(),
        args.path.display()
    );
    print_result(global, &record, &text)
}

/// What to do with the progress of a conversion: nothing when quiet.
pub fn on_stderr(global: &GlobalArgs) -> Option<fn(&Conversion<'_>)> {
    (Style::detect(global.quiet) != Style::Quiet).then_some(show)
}

fn show(conversion: &Conversion<'_>) {
    static SHOWN: Mutex<Option<Progress>> = Mutex::new(None);
    let Conversion { file, done, objects } = *conversion;
    if done == 0 {
        say(&match file {
            Some(file) => format!("{objects} objects become voxels once, kept in {}", file.display()),
            None => format!("{objects} objects become voxels in memory: nothing can be written beside the data"),
        });
    }
    let Ok(mut shown) = SHOWN.lock() else { return };
    let new = || Progress::new(Style::detect(false), "voxelising", 0, objects as u64);
    shown.get_or_insert_with(new).update(done as u64, "");
    if done == objects {
        shown.take().iter().for_each(Progress::finish);
    }
}
