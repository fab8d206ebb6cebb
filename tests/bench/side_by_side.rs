//! Whole processes side by side: git-tether and what people would use instead, in one run, taking turns. See docs/benchmarks.md.
//!
//! Nothing here asserts a time. What is not installed, or not written yet, is reported as `not there`.

#![allow(clippy::disallowed_methods, reason = "starting programs is what is measured")]
#![allow(clippy::expect_used, reason = "a benchmark that cannot set its scene has nothing to say")]

mod floor;
mod measure;
mod recreate;
mod save;
mod saving;
mod scene;
mod start;
mod transition;
mod verify;
mod worktrees;

use scene::Scale;

type Part = (&'static str, fn(Scale));

const PARTS: &[Part] = &[
    ("transition", transition::run),
    ("save", save::run),
    ("verify", verify::run),
    ("worktrees", worktrees::run),
    ("recreate", recreate::run),
    ("start", start::run),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [first, path] = arguments.as_slice()
        && first == transition::BASELINE
    {
        transition::write_json_durably(std::path::Path::new(path)).expect("the JSON baseline writes its file");
        return;
    }
    if let [first, index, worktree] = arguments.as_slice()
        && first == floor::FLOOR
    {
        let seen = floor::look(index.as_ref(), worktree.as_ref()).expect("the floor looks at everything");
        println!("{seen}");
        return;
    }
    if let [first, worktree, last] = arguments.as_slice()
        && first == saving::SAVE
    {
        let written = saving::save_again(worktree.as_ref(), last).expect("the worktree is as it was saved");
        println!("{written}");
        return;
    }
    if let [first, command @ ..] = arguments.as_slice()
        && first == measure::PEAK
    {
        measure::print_peak_memory(command);
        return;
    }
    let wanted: Vec<&str> = arguments.iter().map(String::as_str).filter(|name| !name.starts_with('-')).collect();
    if let Some(unknown) = wanted.iter().find(|name| PARTS.iter().all(|(part, _)| part != *name)) {
        let known: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
        println!("no part is called {unknown}; there are: {}", known.join(", "));
        return;
    }
    let scale = Scale::from_environment();
    println!("scale {scale:?}, program {}, scratch {}", scene::program().display(), std::env::temp_dir().display());
    for (name, run) in PARTS {
        if wanted.is_empty() || wanted.contains(name) {
            run(scale);
        }
    }
}
