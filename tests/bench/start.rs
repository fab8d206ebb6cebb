//! The bare start, against a static program that prints a line.

use std::path::{Path, PathBuf};

use super::measure::{Candidate, side_by_side};
use super::scene::{Scale, Scene, program};

pub(crate) fn run(scale: Scale) {
    let scene = Scene::new();
    let here = scene.repository("repository", 10);
    let beside = program().parent().map(Path::to_owned).unwrap_or_default();
    let path = std::env::join_paths(
        std::iter::once(beside).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let path = path.unwrap_or_default();
    let ours = match scene.tether_all(&here, &[]) {
        Ok(()) => vec![
            Candidate::new("git-tether --version", |_| scene.tether(&here, &["--version"])),
            Candidate::new("git tether --version (through git)", |_| {
                let mut command = scene.git(&here, &["tether", "--version"]);
                command.env("PATH", &path);
                command
            }),
        ],
        Err(why) => vec![Candidate::absent("git-tether --version", why)],
    };
    let mut candidates = ours;
    candidates.push(match static_program(&scene) {
        Ok(hello) => {
            let here = here.clone();
            let scene = &scene;
            Candidate::new("a static program that prints a line", move |_| scene.command(&hello, &here, &[]))
        }
        Err(why) => Candidate::absent("a static program that prints a line", why),
    });
    candidates.push(Candidate::new("git --version", |_| scene.git(&here, &["--version"])));
    side_by_side("start: how long until the program has said its version", scale.pick(3, 51, 501), candidates);
}

fn static_program(scene: &Scene) -> Result<PathBuf, String> {
    let (rust, c, out) = (scene.path("hello.rs"), scene.path("hello.c"), scene.path("hello"));
    std::fs::write(&rust, "fn main() { println!(\"hello\"); }\n").map_err(|error| error.to_string())?;
    std::fs::write(&c, "#include <stdio.h>\nint main(void) { puts(\"hello\"); }\n")
        .map_err(|error| error.to_string())?;
    let compilers: [(&str, &[&str], &Path); 2] =
        [("rustc", &["-O", "-C", "target-feature=+crt-static"], &rust), ("cc", &["-O2", "-static"], &c)];
    for (compiler, arguments, source) in compilers {
        let mut command = std::process::Command::new(compiler);
        let built = command.args(arguments).arg(source).arg("-o").arg(&out).output();
        if built.is_ok_and(|built| built.status.success()) {
            return Ok(out);
        }
    }
    Err("SKIPPED: neither rustc nor cc can build a static program here".to_owned())
}
