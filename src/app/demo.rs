//! The demonstration: builds in worktrees of their own, an interruption, and what brings the work back.
//!
//! Owns the story. Everything in it is real: a repository, processes that are killed, and the same commands that a person types,
//! one line each, so that each can be typed by hand. Must not know how the story is shown: an [`Audience`] is told.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::app::failure::Failure;
use crate::world::shell::{Printed, Shell};

/// Who is told the story as it happens.
pub trait Audience {
    /// What comes next, in words.
    fn hears(&mut self, words: &str);
    /// A command line that is typed now.
    fn sees_typed(&mut self, line: &str);
    /// What it printed.
    fn sees_printed(&mut self, text: &str);
}

/// What becomes of the directory in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// It is removed.
    Remove,
    /// It stays, for a look around.
    Keep,
}

/// What came of the story.
#[derive(Debug, Clone)]
pub struct Played {
    /// The repository that it was played in.
    pub repository: PathBuf,
    /// Whether it is still there.
    pub kept: bool,
    /// Tasks and the states that they ended in, as `git tether status --porcelain` says.
    pub tasks: Vec<(String, String)>,
}

/// A build of three parts: it goes on where its worktree stands, and says after each part where it could go on.
const BUILD: &str = r#"#!/bin/sh
# Builds three parts. What is there already is not built again.
waits=$(git rev-parse --path-format=absolute --git-common-dir)/demo
for part in 1 2 3; do
    if [ -e "out/part-$part" ]; then echo "$TETHER_TASK: part $part is there already"; continue; fi
    mkdir -p out && echo "part $part of $TETHER_TASK" >"out/part-$part"
    echo "$TETHER_TASK: built part $part" | tee -a NOTES
    git tether checkpoint "$TETHER_RUN/$TETHER_TASK" --boundary "part $part is built" --replay-safety checkpoint_resumable
    if [ "$part" = 2 ] && [ -e "$waits/hold-$TETHER_TASK" ]; then
        echo 'half of part 3' >out/part-3.unfinished
        printf '%s %s\n%s\n' "$PPID" "$$" "$PWD" >"$waits/new-$TETHER_TASK"
        mv "$waits/new-$TETHER_TASK" "$waits/at-$TETHER_TASK"
        while [ -e "$waits/hold-$TETHER_TASK" ]; do sleep 0.05; done
    fi
done
"#;

/// The builds, and what becomes of each.
const BUILDS: [&str; 4] = ["compile", "docs", "package", "test"];
/// How long a build may take to reach the middle of its work.
const PATIENCE: Duration = Duration::from_mins(1);

fn failed(what: &str, error: &std::io::Error) -> Failure {
    Failure::fatal("demo_failed", format!("could not {what}: {error}"))
}

/// Where a build has come to.
struct Halfway {
    /// Its supervisor and its own process.
    pids: String,
    /// Its worktree.
    place: String,
}

struct Story<'a> {
    shell: Shell,
    root: PathBuf,
    audience: &'a mut dyn Audience,
}

/// Plays the story with `program` as `git-tether`.
pub fn play(program: &Path, afterwards: Afterwards, audience: &mut dyn Audience) -> Result<Played, Failure> {
    let root = make_stage(program)?;
    let mut story = Story { shell: Shell::new(&root, &root.join("bin")), root: root.clone(), audience };
    let played = story.play();
    story.let_go_of_builds();
    let waited = story.shell.wait_for_all().map_err(|error| failed("wait for the builds", &error));
    drop(story);
    let kept = afterwards == Afterwards::Keep;
    if !kept {
        std::fs::remove_dir_all(&root).map_err(|error| failed(&format!("remove {}", root.display()), &error))?;
    }
    waited?;
    Ok(Played { repository: root.join("shop"), kept, tasks: played? })
}

/// A directory of its own, with this program under the name that git looks for.
fn make_stage(program: &Path) -> Result<PathBuf, Failure> {
    let root = std::env::temp_dir().join(format!("git-tether-demo-{}-{:08x}", std::process::id(), fastrand::u32(..)));
    let bin = root.join("bin");
    std::fs::create_dir_all(&bin)
        .and_then(|()| std::os::unix::fs::symlink(program, bin.join("git-tether")))
        .map_err(|error| failed(&format!("set up {}", root.display()), &error))?;
    // The real path: git names worktrees by it.
    root.canonicalize().map_err(|error| failed(&format!("resolve {}", root.display()), &error))
}

impl Story<'_> {
    fn play(&mut self) -> Result<Vec<(String, String)>, Failure> {
        self.make_repository()?;
        let builds = self.start_builds()?;
        self.interrupt(&builds)?;
        self.recover(&builds)?;
        self.show_history()?;
        self.states()
    }

    fn say(&mut self, words: &str) {
        self.audience.hears(words);
    }

    /// Types a line, shows what it printed, and goes on whatever it returned.
    fn type_line(&mut self, line: &str) -> Result<Printed, Failure> {
        self.audience.sees_typed(line);
        let printed =
            self.shell.type_line(line).map_err(|error| failed(&format!("start a shell for `{line}`"), &error))?;
        self.audience.sees_printed(&printed.text);
        Ok(printed)
    }

    /// The same for a line that has to end with one of these codes.
    fn type_expecting(&mut self, line: &str, codes: &[i32]) -> Result<Printed, Failure> {
        let printed = self.type_line(line)?;
        if codes.contains(&printed.code) {
            return Ok(printed);
        }
        let message = format!("`{line}` ended with {}: {}", printed.code, printed.text.trim());
        Err(Failure::fatal("demo_failed", message).hint("`git tether demo --keep` leaves the directory for a look"))
    }

    fn make_repository(&mut self) -> Result<(), Failure> {
        let root = self.root.display().to_string();
        self.say(&format!("A real repository, with a build of three parts, in {root}:"));
        self.type_expecting("git init -q -b main shop && cd shop", &[0])?;
        self.shell.enter("shop");
        let build = self.shell.directory().join("build.sh");
        std::fs::write(&build, BUILD)
            .and_then(|()| std::fs::write(build.with_file_name("NOTES"), "Notes of the builds.\n"))
            .map_err(|error| failed(&format!("write {}", build.display()), &error))?;
        self.type_expecting("git config user.name demo && git config user.email demo@localhost", &[0])?;
        self.type_expecting("git add build.sh NOTES && git commit -q -m 'A build of three parts'", &[0])?;
        Ok(())
    }

    fn waits(&self, name: &str, build: &str) -> PathBuf {
        self.shell.directory().join(".git/demo").join(format!("{name}-{build}"))
    }

    fn start_builds(&mut self) -> Result<Vec<Halfway>, Failure> {
        self.say("Four builds, each a supervised command in a linked worktree of its own, all at once:");
        let logs = self.shell.directory().join(".git/demo");
        std::fs::create_dir_all(&logs).map_err(|error| failed("set the builds up", &error))?;
        self.type_expecting("git tether start nightly --name 'Nightly build'", &[0])?;
        for build in BUILDS {
            std::fs::write(self.waits("hold", build), "").map_err(|error| failed("set a build up", &error))?;
            let line = format!("git tether run --run nightly --task {build} -- sh build.sh");
            self.audience.sees_typed(&format!("{line} &"));
            let log = self.waits("log", build);
            self.shell.start_line(&line, &log).map_err(|error| failed(&format!("start `{line}`"), &error))?;
        }
        let started = Instant::now();
        let mut halfway = Vec::new();
        for build in BUILDS {
            halfway.push(self.wait_until_halfway(build, started)?);
        }
        self.say("Each has built two parts of three, and is at work on the third. What stands in the worktree of `compile` is in no commit of its branch:");
        self.type_expecting(
            &format!("git -C {} status --short --untracked-files=all", self.near(&halfway[0].place)),
            &[0],
        )?;
        self.type_expecting("git tether status", &[0])?;
        Ok(halfway)
    }

    fn wait_until_halfway(&self, build: &str, started: Instant) -> Result<Halfway, Failure> {
        loop {
            if let Ok(text) = std::fs::read_to_string(self.waits("at", build)) {
                let mut lines = text.lines().map(ToOwned::to_owned);
                let (pids, place) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
                return Ok(Halfway { pids, place });
            }
            if started.elapsed() > PATIENCE {
                let said = std::fs::read_to_string(self.waits("log", build)).unwrap_or_default();
                let message = format!("the build `{build}` did not get to the middle of its work: {}", said.trim());
                return Err(Failure::fatal("demo_failed", message));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A path as one would type it here.
    fn near(&self, place: &str) -> String {
        match Path::new(place).strip_prefix(&self.root) {
            Ok(below) => format!("../{}", below.display()),
            Err(_) => place.to_owned(),
        }
    }

    fn interrupt(&mut self, builds: &[Halfway]) -> Result<(), Failure> {
        let [compile, docs, package, _] = builds else { return Ok(()) };
        self.say("Now things go wrong. `compile` is killed in the middle, supervisor and command, with SIGKILL:");
        self.type_expecting(&format!("kill -9 {}", compile.pids), &[0])?;
        self.say("`docs` is killed too, and then somebody deletes its whole worktree, with all that was built in it:");
        self.type_expecting(&format!("kill -9 {}", docs.pids), &[0])?;
        self.type_expecting(&format!("rm -rf {}", self.near(&docs.place)), &[0])?;
        self.say(
            "`package` is killed, and its worktree is un-registered behind our back: git does not know it any more:",
        );
        self.type_expecting(&format!("kill -9 {}", package.pids), &[0])?;
        let admin = format!("{}/.git", package.place);
        let registered = std::fs::read_to_string(&admin).map_err(|error| failed(&format!("read {admin}"), &error))?;
        let registered = registered.trim().trim_start_matches("gitdir:").trim().to_owned();
        let short = Path::new(&registered).strip_prefix(self.shell.directory()).map(Path::to_path_buf);
        let short = short.map_or(registered.clone(), |below| below.display().to_string());
        self.type_expecting(&format!("rm -rf {short}"), &[0])?;
        self.say("`test` goes on living. Nobody may touch it.");
        for build in ["compile", "docs", "package"] {
            // What made them wait is over; what is resumed runs to its end.
            let _ = std::fs::remove_file(self.waits("hold", build));
        }
        Ok(())
    }

    fn recover(&mut self, builds: &[Halfway]) -> Result<(), Failure> {
        self.say(
            "What was recorded, what is there, what can be done? Plain `recover` writes down what is true and lets go of what the dead held; it touches no file:",
        );
        self.type_expecting("git tether recover", &[0, 1])?;
        self.say(
            "It ends with 1: something needs a person. But first what needs nobody: make missing worktrees anew with their saved work, and let tasks go on from their checkpoints:",
        );
        self.type_expecting("git tether recover --resume --recreate", &[0, 1])?;
        self.say(
            "`package` is left: its directory is there, but it is no worktree of this repository now, and git-tether does not guess. Its advice was to move it away; then it is made anew from the saved work. Nothing is lost either way:",
        );
        if let Some(package) = builds.get(2) {
            let place = self.near(&package.place);
            self.type_expecting(&format!("mv {place} {place}.aside"), &[0])?;
        }
        self.type_expecting("git tether recover --resume --recreate", &[0])?;
        self.say("And `test`, which was never interrupted, ends by itself:");
        let _ = std::fs::remove_file(self.waits("hold", "test"));
        self.shell.wait_for_all().map_err(|error| failed("wait for the builds", &error))?;
        self.type_expecting("git tether status", &[0])?;
        if let Some(docs) = builds.get(1) {
            self.say("What `docs` had built before its worktree was deleted is there again, and part 3 with it:");
            self.type_expecting(&format!("cat {}/NOTES", self.near(&docs.place)), &[0])?;
        }
        Ok(())
    }

    fn show_history(&mut self) -> Result<(), Failure> {
        self.say("The same story as git tells it. Every change of a run is a commit:");
        self.type_expecting("git log --reverse --format='%h %s' refs/tether/runs/nightly", &[0])?;
        self.say("Of one task only, and the last change of it in full:");
        self.type_expecting("git log --format='%h %s' refs/tether/runs/nightly -- tasks/docs.json", &[0])?;
        self.type_expecting("git show -s refs/tether/runs/nightly", &[0])?;
        self.say("And git finds nothing wrong with it:");
        self.type_expecting(
            "git fsck --strict --no-dangling && git gc --quiet --prune=now && git tether doctor",
            &[0],
        )?;
        Ok(())
    }

    fn states(&self) -> Result<Vec<(String, String)>, Failure> {
        let line = "git tether status --porcelain=v1";
        let printed = self.shell.type_line(line).map_err(|error| failed(&format!("start `{line}`"), &error))?;
        let task = |line: &str| {
            let mut words = line.split('\t');
            (words.next() == Some("task")).then_some(())?;
            Some((words.next()?.to_owned(), words.next()?.to_owned()))
        };
        Ok(printed.text.lines().filter_map(task).collect())
    }

    /// Whatever happens: no build waits for anything any more.
    fn let_go_of_builds(&self) {
        for build in BUILDS {
            let _ = std::fs::remove_file(self.waits("hold", build));
        }
    }
}
