//! A worktree that vanished comes back as it stood, through the program: on its branch or in the middle of what was going on there,
//! whatever git has cleared away meanwhile.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod support;

use std::path::PathBuf;

use support::Repository;

/// A worktree of the task `r/t` on the branch `work`, in a repository with a few files.
struct Scene {
    repository: Repository,
    work: PathBuf,
}

/// What git has cleared away when the recovery comes.
#[derive(Debug, Clone, Copy)]
enum Loss {
    /// The directory alone.
    Directory,
    /// The registration too, and all that nothing names any more.
    Everything,
}

impl Scene {
    fn new(init: &[&str]) -> Self {
        let repository = Repository::made_with(init);
        for name in ["a", "b", "dir/c"] {
            let path = repository.path.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("content of {name}\n")).unwrap();
        }
        repository.git(&["add", "-A"]);
        repository.git(&["commit", "-qm", "Files"]);
        repository.answer(&["start", "r"]);
        repository.answer(&["task", "add", "r/t"]);
        let made = repository.json(&["env", "add", "r/t", "--mode", "git_worktree", "--branch", "work"]);
        let work = PathBuf::from(made["environment"]["spec"]["path"].as_str().unwrap());
        Self { repository, work }
    }

    /// Runs a shell script in the worktree; answers with what it printed.
    #[track_caller]
    fn shell(&self, script: &str) -> String {
        let mut command = self.repository.command("sh");
        let output = command.current_dir(&self.work).env("GIT_EDITOR", "true").args(["-ec", script]).output().unwrap();
        assert!(output.status.success(), "{script}: {}", support::show(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// All that git says of the worktree, and its files.
    fn seen(&self) -> String {
        self.shell(
            "export GIT_OPTIONAL_LOCKS=0
            git status --porcelain=v2 --branch -uall; git ls-files --stage; git ls-files -v; git ls-files --resolve-undo
            git config --worktree --list || true; git sparse-checkout list || true; git for-each-ref refs/bisect refs/worktree
            git symbolic-ref -q HEAD || true; git rev-parse -q --verify HEAD || true
            for ref in MERGE_HEAD CHERRY_PICK_HEAD REVERT_HEAD REBASE_HEAD AUTO_MERGE; do echo $ref; git rev-parse -q --verify $ref || true; done
            find . -name .git -prune -o -type f -print -exec cat '{}' \\; | sort",
        )
    }

    /// Saves the worktree, loses it and recovers it; answers with what the recovery did.
    fn lose_and_recover(&self, loss: Loss) -> String {
        self.repository.answer(&["checkpoint", "r/t", "--boundary", "b"]);
        std::fs::remove_dir_all(&self.work).unwrap();
        if matches!(loss, Loss::Everything) {
            self.repository.git(&["worktree", "prune"]);
            self.repository.git(&["reflog", "expire", "--expire=now", "--all"]);
            self.repository.git(&["gc", "-q", "--prune=now"]);
        }
        String::from_utf8(self.repository.tether(&["recover", "--recreate"]).stdout).unwrap()
    }

    #[track_caller]
    fn assert_comes_back(&self, loss: Loss) {
        let before = self.seen();
        let said = self.lose_and_recover(loss);
        assert!(self.work.is_dir(), "{said}");
        assert_eq!(self.seen(), before, "{loss:?}: {said}");
    }
}

/// Two branches that change the same file; `theirs` is deleted once `operation` has met the conflict.
fn in_conflict(scene: &Scene, operation: &str) {
    scene.shell(
        "git checkout -qb theirs; echo theirs > a; git commit -qam theirs; echo more > b; git commit -qam 'theirs too'
        git checkout -q work; echo ours > a; git commit -qam ours; echo ours > dir/c; git commit -qam 'ours too'",
    );
    scene.shell(&format!("! {operation} && git branch -qD theirs"));
}

#[test]
fn what_was_in_progress_goes_on() {
    for (operation, go_on) in [
        ("git merge -q theirs", "git merge --continue"),
        ("git rebase -q theirs", "git rebase --continue"),
        ("git rebase -q --apply theirs", "git rebase --continue"),
        ("git cherry-pick work..theirs", "git cherry-pick --continue"),
        ("git cherry-pick -n theirs~1", "git commit -qm picked"),
        ("git revert --no-edit HEAD~2 HEAD", "git revert --continue || git revert --skip"),
    ] {
        for (format, loss) in [("files", Loss::Directory), ("files", Loss::Everything), ("reftable", Loss::Everything)]
        {
            let scene = Scene::new(&[&format!("--ref-format={format}")]);
            in_conflict(&scene, operation);
            scene.assert_comes_back(loss);
            scene.shell(&format!("echo resolved > a; git add -A; {go_on}"));
            assert_eq!(scene.shell("git symbolic-ref HEAD"), "refs/heads/work\n", "{operation}");
            assert!(!scene.shell("git status").contains("in progress"), "{operation}");
        }
    }
}

#[test]
fn a_resolved_conflict_can_be_taken_back() {
    for format in ["sha1", "sha256"] {
        let scene = Scene::new(&[&format!("--object-format={format}")]);
        in_conflict(&scene, "git merge -q theirs");
        scene.shell("echo resolved > a; git add a");
        scene.assert_comes_back(Loss::Everything);
        scene.shell("git checkout -q -m a");
        assert!(scene.shell("cat a").contains("<<<<<<<"));
    }
}

#[test]
fn line_endings_come_back_whatever_the_settings_say_by_then() {
    for (then, now) in
        [("autocrlf true", "autocrlf false"), ("autocrlf false", "autocrlf true"), ("eol crlf", "eol lf")]
    {
        let scene = Scene::new(&[]);
        scene.shell("echo '*.auto text=auto' > .gitattributes; echo one > x.auto; git add -A; git commit -qm rules");
        scene.shell(&format!("git config core.{then}; rm a b dir/c x.auto; git checkout -q -- a b dir/c x.auto"));
        scene.shell(
            "printf 'unix\\n' > unix; printf 'dos\\r\\n' > dos; printf 'both\\r\\n\\n' > both; printf 'dos\\r\\n' >> a",
        );
        let bytes = || scene.shell("find . -name .git -prune -o -type f -print -exec od -c '{}' \\;");
        let before = bytes();
        scene.repository.answer(&["checkpoint", "r/t", "--boundary", "b"]);
        std::fs::remove_dir_all(&scene.work).unwrap();
        scene.repository.git(&[
            "config",
            &format!("core.{}", now.split(' ').next().unwrap()),
            now.split(' ').nth(1).unwrap(),
        ]);
        scene.repository.tether(&["recover", "--recreate"]);
        assert_eq!(bytes(), before, "{then}, {now}");
    }
}

#[test]
fn a_content_filter_that_is_gone_is_named() {
    let scene = Scene::new(&[]);
    scene.shell("git config filter.rot.clean 'tr a-y b-z'; git config filter.rot.smudge 'tr b-z a-y'");
    scene.shell("echo '*.rot filter=rot' > .gitattributes; echo abc > x.rot");
    scene.repository.answer(&["checkpoint", "r/t", "--boundary", "b"]);
    std::fs::remove_dir_all(&scene.work).unwrap();
    scene.repository.git(&["config", "--remove-section", "filter.rot"]);
    let said = String::from_utf8(scene.repository.tether(&["recover", "--recreate"]).stdout).unwrap();
    assert!(said.contains("x.rot is as git stores it: its content filter has no program now"), "{said}");
    assert_eq!(scene.shell("cat x.rot"), "bcd\n");
}

#[test]
fn a_rebase_whose_branch_has_moved_on_is_rescued() {
    let scene = Scene::new(&[]);
    in_conflict(&scene, "git rebase -q theirs");
    scene.repository.answer(&["checkpoint", "r/t", "--boundary", "b"]);
    std::fs::remove_dir_all(&scene.work).unwrap();
    scene.repository.git(&["worktree", "prune"]);
    scene.repository.git(&["branch", "-f", "work", "main"]);
    let said = String::from_utf8(scene.repository.tether(&["recover", "--recreate"]).stdout).unwrap();
    assert!(said.contains("tether/rescue/r-env-t"), "{said}");
    assert_eq!(scene.shell("git symbolic-ref HEAD"), "refs/heads/work\n");
    assert!(scene.repository.git(&["show", "tether/rescue/r-env-t:a"]).contains("<<<<<<<"));
}

#[test]
fn a_bisection_goes_on() {
    for (format, loss) in [("files", Loss::Directory), ("files", Loss::Everything), ("reftable", Loss::Everything)] {
        let scene = Scene::new(&[&format!("--ref-format={format}")]);
        scene.shell(
            "for step in 1 2 3 4 5 6; do echo $step > a; git commit -qam $step; done; git bisect start HEAD HEAD~5",
        );
        scene.assert_comes_back(loss);
        scene.shell("git bisect good; git bisect reset");
        assert_eq!(scene.shell("git symbolic-ref HEAD"), "refs/heads/work\n");
    }
}

#[test]
fn what_was_arranged_comes_back_though_nothing_was_changed() {
    for arrangement in [
        "git sparse-checkout set --cone dir",
        "git sparse-checkout set --no-cone '/*' '!/dir/'",
        "git update-index --skip-worktree a; git update-index --assume-unchanged b",
        "git config extensions.worktreeConfig true; git config --worktree user.name Somebody",
        "git update-ref refs/worktree/mine HEAD",
    ] {
        for loss in [Loss::Directory, Loss::Everything] {
            let scene = Scene::new(&[]);
            scene.shell(arrangement);
            scene.assert_comes_back(loss);
            // It is no work: the worktree may go without being archived for it.
            let removed = scene.repository.json(&["env", "remove", "r/env-t"]);
            assert_eq!(removed["environment"]["state"], "removed", "{arrangement}: {removed}");
        }
    }
}

#[test]
fn a_filter_of_the_command_line_alone_is_not_gone_through() {
    let scene = Scene::new(&[]);
    scene.shell("echo 'a filter=upper' > .gitattributes; echo changed > a");
    let filter = "-c filter.upper.clean='tr a-z A-Z' -c filter.upper.smudge='tr A-Z a-z'";
    scene.shell(&format!("git {filter} tether checkpoint r/t --boundary b"));
    std::fs::remove_dir_all(&scene.work).unwrap();
    scene.repository.tether(&["recover", "--recreate"]);
    assert_eq!(std::fs::read_to_string(scene.work.join("a")).unwrap(), "changed\n");
}

#[test]
fn the_last_of_several_states_within_a_second_comes_back() {
    let scene = Scene::new(&[]);
    for content in ["one", "two", "one"] {
        std::fs::write(scene.work.join("a"), content).unwrap();
        scene.repository.answer(&["checkpoint", "r/t", "--boundary", content]);
    }
    scene.lose_and_recover(Loss::Directory);
    assert_eq!(std::fs::read_to_string(scene.work.join("a")).unwrap(), "one");
}

#[test]
fn work_on_an_unborn_branch_is_rescued() {
    let scene = Scene::new(&[]);
    scene.shell("git checkout -q --orphan fresh; echo fresh > a; git add a");
    let said = scene.lose_and_recover(Loss::Everything);
    assert!(said.contains("its work was saved on fresh; that is in branch tether/rescue/r-env-t"), "{said}");
    assert_eq!(scene.shell("git symbolic-ref HEAD"), "refs/heads/work\n");
    assert_eq!(scene.repository.git(&["show", "tether/rescue/r-env-t:a"]), "fresh");
    assert_eq!(scene.repository.git(&["rev-list", "--count", "tether/rescue/r-env-t"]), "1");
    let refs = scene.repository.refs();
    scene.repository.tether(&["recover", "--recreate"]);
    assert_eq!(scene.repository.refs(), refs);
}
