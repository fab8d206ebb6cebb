//! One test for each kind of state that saved work must bring back, and for what is refused or named.

use crate::fixture::{Fixture, capture, git, make_executable, run, text, write};
use git_tether::world::snapshot::{
    ContentStatus, Held, NotSavedReason, RestoreError, RestoreTarget, RestoreWarning, SaveError, SaveOptions, Trust,
    Warning, contents, restore, save_directory, save_vanished,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

#[test]
fn a_clean_worktree_is_clean_and_comes_back() {
    let fixture = Fixture::new();
    let (saved, _) = fixture.round_trip();
    assert!(saved.clean);
    assert_eq!((saved.files, saved.branch.as_deref()), (0, Some("refs/heads/work")));
}

#[test]
fn staged_unstaged_untracked_deleted_and_renamed() {
    for checkout in ["--no-checkout", "--checkout"] {
        let fixture = Fixture::new();
        let work = &fixture.work;
        write(work, "a.txt", "unstaged\n");
        write(work, "b.txt", "staged\n");
        git(work, &["add", "b.txt"]);
        write(work, "b.txt", "staged and then changed\n");
        git(work, &["mv", "dir/c.txt", "dir/renamed.txt"]);
        std::fs::remove_file(work.join("dir/d.txt")).unwrap();
        git(work, &["rm", "-q", "--cached", "dir/sub/e.txt"]);
        git(work, &["rm", "-q", "other/f.txt"]);
        write(work, "new/deep/untracked", "u\n");
        write(work, "added", "x\n");
        git(work, &["add", "added"]);
        write(work, "intended", "i\n");
        git(work, &["add", "-N", "intended"]);
        write(work, "intended-and-gone", "i\n");
        git(work, &["add", "-N", "intended-and-gone"]);
        std::fs::remove_file(work.join("intended-and-gone")).unwrap();
        let (saved, _) = fixture.round_trip_with(&SaveOptions::default(), checkout);
        assert!(!saved.clean);
        assert_eq!(saved.files, 9, "{saved:?}");
        let list = contents(&fixture.main.join(".git"), saved.commit).unwrap();
        let of = |status| list.iter().filter(|content| content.status == status).count();
        let counts = (of(ContentStatus::Added), of(ContentStatus::Modified), of(ContentStatus::Deleted));
        assert_eq!(counts, (4, 2, 3), "{list:?}");
    }
}

#[test]
fn modes_links_and_kinds() {
    let fixture = Fixture::new();
    let work = &fixture.work;
    make_executable(&work.join("a.txt"), 0o755);
    make_executable(&work.join("run.sh"), 0o644);
    std::fs::remove_file(work.join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere/at all", work.join("link")).unwrap();
    std::fs::remove_file(work.join("b.txt")).unwrap();
    std::os::unix::fs::symlink("../outside", work.join("b.txt")).unwrap();
    std::fs::remove_dir_all(work.join("dir/sub")).unwrap();
    write(work, "dir/sub", "a file where a directory was\n");
    std::fs::remove_file(work.join("other/f.txt")).unwrap();
    write(work, "other/f.txt/now/deep", "a directory where a file was\n");
    write(work, "tool", "#!/bin/sh\n");
    make_executable(&work.join("tool"), 0o755);
    fixture.round_trip();
    fixture.round_trip_with(&SaveOptions::default(), "--checkout");
}

#[test]
fn a_directory_replaced_by_a_link() {
    let fixture = Fixture::new();
    std::fs::remove_dir_all(fixture.work.join("dir")).unwrap();
    std::os::unix::fs::symlink("other", fixture.work.join("dir")).unwrap();
    fixture.round_trip();
    fixture.round_trip_with(&SaveOptions::default(), "--checkout");
}

#[test]
fn odd_names_and_contents() {
    let fixture = Fixture::new();
    let work = &fixture.work;
    for name in [
        &b"with space"[..],
        b"new\nline",
        b"quo\"te'",
        b"tab\there",
        b"\xff\xfe",
        b"back\\slash",
        b"-dash",
        b":colon",
        b"st*r",
        b"\xc3\xa4/\xe2\x82\xac",
    ] {
        write(work, OsStr::from_bytes(name), b"odd\0name");
    }
    write(work, "empty", b"");
    write(work, "binary", (0..=255u8).collect::<Vec<_>>());
    write(work, "large", vec![7u8; 3 << 20]);
    write(work, "very large", (0..34usize << 20).map(|at| at.to_le_bytes()[1]).collect::<Vec<_>>());
    git(work, &["add", "--", "new\nline", "empty"]);
    fixture.round_trip();
}

#[test]
fn conflicted_merge() {
    let fixture = Fixture::new();
    let work = &fixture.work;
    git(work, &["checkout", "-q", "-b", "theirs"]);
    write(work, "a.txt", "theirs\n");
    git(work, &["rm", "-q", "b.txt"]);
    write(work, "both", "theirs\n");
    fixture.commit("theirs");
    git(work, &["checkout", "-q", "work"]);
    write(work, "a.txt", "ours\n");
    write(work, "b.txt", "changed here, deleted there\n");
    write(work, "both", "ours\n");
    fixture.commit("ours");
    assert!(!run(work, "git", &["merge", "theirs"]).status.success());
    write(work, "untracked", "beside\n");
    git(work, &["branch", "-qD", "theirs"]);
    let (saved, _) = fixture.round_trip();
    assert!(!saved.clean);
    // The merge can be finished, with the other side's commit though its branch is gone.
    git(work, &["add", "-A"]);
    git(work, &["commit", "-qm", "merged"]);
    assert_eq!(text(work, &["rev-list", "--count", "--merges", "HEAD"]), "1");
}

#[test]
fn rebase_cherry_pick_and_revert_in_progress() {
    for operation in [&["rebase", "-q", "theirs"][..], &["cherry-pick", "theirs"], &["revert", "HEAD~1"]] {
        let fixture = Fixture::new();
        let work = &fixture.work;
        git(work, &["checkout", "-q", "-b", "theirs"]);
        write(work, "a.txt", "theirs\n");
        fixture.commit("theirs");
        git(work, &["checkout", "-q", "work"]);
        for step in ["one\n", "two\n", "three\n"] {
            write(work, "a.txt", step);
            fixture.commit(step);
        }
        assert!(!run(work, "git", operation).status.success(), "{operation:?}");
        let (saved, _) = fixture.round_trip();
        assert!(!saved.clean);
        write(work, "a.txt", "resolved\n");
        git(work, &["add", "a.txt"]);
        git(work, &[operation[0], "--abort"]);
    }
}

#[test]
fn bisection_in_progress() {
    let fixture = Fixture::new();
    for step in 1..6 {
        write(&fixture.work, "a.txt", format!("{step}\n"));
        fixture.commit("step");
    }
    git(&fixture.work, &["bisect", "start", "HEAD", "HEAD~4"]);
    fixture.round_trip();
    git(&fixture.work, &["bisect", "good"]);
}

#[test]
fn sparse_checkout_with_a_file_outside_the_cone() {
    for sparse_index in ["--no-sparse-index", "--sparse-index"] {
        let fixture = Fixture::new();
        let work = &fixture.work;
        git(work, &["sparse-checkout", "set", "--cone", sparse_index, "other"]);
        write(work, "other/f.txt", "changed\n");
        write(work, "dir/sub/e.txt", "there all the same\n");
        let (saved, _) = fixture.round_trip();
        assert_eq!(saved.files, 2, "{saved:?}");
        assert!(!work.join("dir/c.txt").exists());
        fixture.round_trip_with(&SaveOptions::default(), "--checkout");
    }
}

#[test]
fn a_file_where_a_sparse_checkout_left_a_directory_out() {
    let fixture = Fixture::new();
    let work = &fixture.work;
    write(work, "dir/staged", "");
    git(work, &["add", "dir/staged"]);
    git(work, &["sparse-checkout", "set", "--no-cone", "/*", "!/dir/"]);
    let _ = std::fs::remove_dir_all(work.join("dir"));
    write(work, "dir", "a file\n");
    fixture.round_trip();
    fixture.round_trip_with(&SaveOptions::default(), "--checkout");
}

#[test]
fn sparse_index_beside_staged_changes() {
    let fixture = Fixture::new();
    let work = &fixture.work;
    git(work, &["sparse-checkout", "set", "--cone", "--sparse-index", "other"]);
    write(work, "other/new", "staged\n");
    git(work, &["add", "other/new"]);
    git(work, &["rm", "-q", "--cached", "--sparse", "dir/c.txt"]);
    fixture.round_trip();
}

#[test]
fn edits_of_files_that_are_assumed_unchanged() {
    let fixture = Fixture::new();
    let work = &fixture.work;
    git(work, &["update-index", "--assume-unchanged", "a.txt", "b.txt"]);
    git(work, &["update-index", "--skip-worktree", "dir/c.txt", "dir/d.txt"]);
    write(work, "a.txt", "hidden edit\n");
    write(work, "dir/c.txt", "hidden too\n");
    std::fs::remove_file(work.join("dir/d.txt")).unwrap();
    let (saved, _) = fixture.round_trip();
    assert_eq!(saved.files, 2);
}

#[test]
fn a_change_that_stat_data_does_not_show() {
    let fixture = Fixture::new();
    let path = fixture.work.join("a.txt");
    let stamp = filetime(&path);
    git(&fixture.work, &["config", "core.trustctime", "false"]);
    write(&fixture.work, "a.txt", "same size, same");
    git(&fixture.work, &["add", "a.txt"]);
    // The index is as old as the file: only the content tells.
    write(&fixture.work, "a.txt", "same time, same");
    set_filetime(&path, stamp);
    set_filetime(&fixture.place().git_dir.join("index"), stamp);
    assert_eq!(fixture.save().files, 1);
    let saved = fixture.save();
    let list = contents(&fixture.main.join(".git"), saved.commit).unwrap();
    assert_eq!(text(&fixture.work, &["cat-file", "-p", &format!("{}:a.txt", saved.commit)]), "same time, same");
    assert_eq!(list.len(), 1);
}

fn filetime(path: &std::path::Path) -> std::time::SystemTime {
    std::fs::metadata(path).unwrap().modified().unwrap()
}

fn set_filetime(path: &std::path::Path, time: std::time::SystemTime) {
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn line_endings_under_attributes() {
    let fixture = Fixture::new();
    let work = &fixture.work;
    write(
        work,
        ".gitattributes",
        "*.txt text=auto\n*.lf text eol=lf\n*.crlf text eol=crlf\n*.id ident\n*.bin -text\n*.u16 text working-tree-encoding=UTF-16LE\n",
    );
    write(work, "committed.lf", "one\ntwo\n");
    write(work, "committed.crlf", "one\r\ntwo\r\n");
    fixture.commit("attributes");
    for extension in ["txt", "lf", "crlf", "bin", "id"] {
        write(work, format!("unix.{extension}"), "one\n$Id$\ntwo\n");
        write(work, format!("dos.{extension}"), "one\r\n$Id: old $\r\ntwo\r\n");
        write(work, format!("mixed.{extension}"), "one\r\ntwo\nthree\rfour");
        write(work, format!("staged.{extension}"), "one\r\ntwo\n");
        git(work, &["add", &format!("staged.{extension}")]);
    }
    write(work, "good.u16", "h\0i\0\n\0");
    write(work, "bad.u16", b"\x00\xd8odd");
    write(work, "committed.lf", "one\r\ntwo changed\n");
    fixture.round_trip();
    fixture.round_trip_with(&SaveOptions::default(), "--checkout");
}

#[test]
fn bytes_of_unchanged_files_that_a_checkout_would_not_give() {
    let fixture = Fixture::new();
    let work = &fixture.work;
    write(work, ".gitattributes", "*.txt text\n*.low filter=lower\n*.id ident\n");
    git(work, &["config", "filter.lower.clean", "tr A-Z a-z"]);
    git(work, &["config", "filter.lower.smudge", "cat"]);
    write(work, "dos.txt", "one\r\ntwo\r\n");
    write(work, "mixed.low", "Mixed Case\n");
    write(work, "unexpanded.id", "$Id$\n");
    fixture.commit("content that git changes on the way in");
    assert_eq!(text(work, &["status", "--porcelain"]), "");
    fixture.round_trip();
    // A later index: only then does stat data prove that the files are unchanged.
    std::thread::sleep(std::time::Duration::from_millis(20));
    git(work, &["update-index", "--force-write-index"]);
    let exact_cache = Some(fixture.directory.path().join("cache"));
    let options = SaveOptions { exact_cache, ..SaveOptions::default() };
    fixture.round_trip_with(&options, "--checkout");
    assert!(options.exact_cache.is_some_and(|path| path.exists()));
    // Another rule, another answer: what was remembered no longer counts. (Within a second git itself would look at contents.)
    std::thread::sleep(std::time::Duration::from_millis(1100));
    git(work, &["update-index", "--force-write-index"]);
    write(work, ".gitattributes", "*.txt text\n*.sh text eol=crlf\n");
    fixture.round_trip_with(
        &SaveOptions { exact_cache: Some(fixture.directory.path().join("cache")), ..SaveOptions::default() },
        "--checkout",
    );
}

#[test]
fn filters_run_as_git_would_and_may_fail() {
    let fixture = Fixture::new();
    let work = &fixture.work;
    write(
        work,
        ".gitattributes",
        "*.up filter=upper\n*.lossy filter=lossy\n*.broken filter=broken\n*.gone filter=gone\n",
    );
    for (key, value) in [
        ("filter.upper.clean", "tr a-z A-Z"),
        ("filter.upper.smudge", "tr A-Z a-z"),
        ("filter.lossy.clean", "sort"),
        ("filter.lossy.smudge", "cat"),
        ("filter.broken.clean", "false"),
        ("filter.broken.required", "true"),
    ] {
        git(&fixture.main, &["config", key, value]);
    }
    write(work, "x.up", "lower\n");
    write(work, "y.lossy", "b\na\n");
    write(work, "w.gone", "no such filter\n");
    let (saved, _) = fixture.round_trip();
    assert_eq!(text(work, &["cat-file", "-p", &format!("{}:x.up", saved.commit)]), "LOWER");
    write(work, "z.broken", "kept\n");
    let saved = fixture.save();
    assert!(
        saved.warnings.iter().any(|warning| matches!(warning, Warning::FilterFailed(path, _) if path == "z.broken"))
    );
    fixture.destroy_and_recreate(&saved, "--no-checkout");
    restore(&RestoreTarget::Worktree(fixture.place()), saved.commit, Trust::Own).unwrap();
    assert_eq!(std::fs::read(work.join("z.broken")).unwrap(), b"kept\n");
}

#[test]
fn saved_work_from_elsewhere_starts_no_filter_and_no_operation() {
    let fixture = Fixture::new();
    let (work, proof) = (&fixture.work, fixture.directory.path().join("proof"));
    write(work, ".gitattributes", "*.x filter=run\n");
    write(work, "a.x", "content\n");
    std::fs::write(fixture.place().git_dir.join("MERGE_MSG"), "from elsewhere\n").unwrap();
    let saved = fixture.save();
    git(&fixture.main, &["config", "filter.run.smudge", &format!("touch {}; cat", proof.display())]);
    fixture.destroy_and_recreate(&saved, "--no-checkout");
    let restored = restore(&RestoreTarget::Worktree(fixture.place()), saved.commit, Trust::Foreign).unwrap();
    assert!(!proof.exists());
    assert_eq!(std::fs::read(work.join("a.x")).unwrap(), b"content\n");
    assert!(restored.warnings.contains(&RestoreWarning::FilterNotRun("a.x".into())));
    assert!(restored.warnings.contains(&RestoreWarning::OperationLeftOut));
    assert!(!fixture.place().git_dir.join("MERGE_MSG").exists());
}

#[test]
fn ignored_included_and_excluded_files() {
    let fixture = Fixture::new();
    let work = &fixture.work;
    write(work, ".gitignore", "*.log\nout/\n");
    fixture.commit("ignore");
    write(work, "x.log", "ignored\n");
    write(work, "keep.log", "included\n");
    write(work, "out/deep/cache", "ignored\n");
    write(work, "out/deep/wanted", "included\n");
    write(work, "dir/.gitignore", "nested\n!*.log\n");
    write(work, "dir/nested", "ignored\n");
    write(work, "dir/taken.log", "not ignored\n");
    write(work, ".env", "SECRET=1\n");
    write(work, "keys/tls.pem", "secret\n");
    let options = SaveOptions { include: vec!["keep.log".into(), "out/deep/wanted".into()], ..SaveOptions::default() };
    let saved = fixture.save_with(&options);
    let list = contents(&fixture.main.join(".git"), saved.commit).unwrap();
    let names: Vec<_> = list.iter().map(|content| content.path.to_string()).collect();
    assert_eq!(names, ["dir/.gitignore", "dir/taken.log", "keep.log", "out/deep/wanted"]);
    let not_saved: Vec<_> = saved.not_saved.iter().map(|item| (item.path.to_string(), item.reason)).collect();
    let excluded = |name: &str| (name.to_owned(), NotSavedReason::Excluded);
    assert_eq!(not_saved, [excluded(".env"), excluded("keys/tls.pem")]);
    assert_eq!(saved.ignored, 3);
    assert_eq!(fixture.save().ignored, 4);
    git(work, &["add", "-f", ".env"]);
    assert!(contents(&fixture.main.join(".git"), fixture.save().commit).unwrap().iter().any(|c| c.path == ".env"));
}

#[test]
fn embedded_repositories_and_nested_worktrees() {
    let fixture = Fixture::new();
    let work = &fixture.work;
    let embedded = work.join("embedded");
    write(&embedded, "file", "inside\n");
    git(&embedded, &["init", "-q"]);
    git(work, &["worktree", "add", "-q", "--detach", "nested", "main"]);
    let saved = fixture.save();
    let list = contents(&fixture.main.join(".git"), saved.commit).unwrap();
    let names: Vec<_> = list.iter().map(|content| content.path.to_string()).collect();
    assert_eq!(names, ["embedded/file"]);
    let not_saved: Vec<_> = saved.not_saved.iter().map(|item| (item.path.to_string(), item.reason)).collect();
    let expected = [("embedded", NotSavedReason::EmbeddedHistory), ("nested", NotSavedReason::NestedWorktree)];
    assert_eq!(not_saved, expected.map(|(path, reason)| (path.to_owned(), reason)));
    assert!(!saved.clean);
}

#[test]
fn submodules_are_saved_by_commit_and_named_when_dirty() {
    let fixture = Fixture::new();
    let work = &fixture.work;
    let origin = Fixture::new();
    let url = origin.main.to_str().unwrap();
    git(work, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", url, "module"]);
    fixture.commit("module");
    assert!(fixture.save().not_saved.is_empty());
    let module = work.join("module");
    write(&module, "a.txt", "changed\n");
    git(&module, &["commit", "-qam", "unpushed"]);
    write(&module, "b.txt", "dirty\n");
    let saved = fixture.save();
    let reasons: Vec<_> = saved.not_saved.iter().map(|item| item.reason).collect();
    assert_eq!(reasons, [NotSavedReason::DirtySubmodule, NotSavedReason::UnpushedSubmodule]);
    let tip = text(&module, &["rev-parse", "HEAD"]);
    assert_eq!(text(work, &["rev-parse", &format!("{}:module", saved.commit)]), tip);
    assert!(saved.warnings.contains(&Warning::Submodule("module".into())));
}

#[test]
fn special_files_and_names_that_no_tree_may_hold() {
    let fixture = Fixture::new();
    assert!(run(&fixture.work, "mkfifo", &["pipe"]).status.success());
    write(&fixture.work, "dir/.GIT/config", "hostile\n");
    write(&fixture.work, "git~1", "short name\n");
    let saved = fixture.save();
    assert_eq!(saved.warnings, [Warning::SpecialFile("pipe".into())]);
    let not_saved: Vec<_> = saved.not_saved.iter().map(|item| (item.path.to_string(), item.reason)).collect();
    let refused = |name: &str| (name.to_owned(), NotSavedReason::RefusedName);
    assert_eq!(not_saved, [refused("dir/.GIT"), refused("git~1")]);
    assert_eq!(saved.files, 0);
}

#[test]
fn what_cannot_be_read_is_an_error_that_names_it() {
    let fixture = Fixture::new();
    write(&fixture.work, "locked/secret", "x\n");
    make_executable(&fixture.work.join("locked/secret"), 0o000);
    if std::fs::read(fixture.work.join("locked/secret")).is_ok() {
        // Whoever may read everything cannot see this.
        return;
    }
    let error = git_tether::world::snapshot::save(&fixture.place(), &SaveOptions::default(), &mut fixture.sink());
    assert!(matches!(error, Err(SaveError::Unreadable { path, .. }) if path.ends_with("locked/secret")));
}

#[test]
fn an_unborn_branch_and_a_worktree_without_an_index() {
    let fixture = Fixture::new();
    git(&fixture.work, &["checkout", "-q", "--orphan", "fresh"]);
    write(&fixture.work, "a.txt", "changed\n");
    let saved = fixture.save();
    assert_eq!((saved.base, saved.branch.as_deref(), saved.files), (None, Some("refs/heads/fresh"), 8));
    let bare = fixture.directory.path().join("bare");
    git(&fixture.main, &["worktree", "add", "-q", "--no-checkout", "--detach", bare.to_str().unwrap()]);
    write(&bare, "x", "only this\n");
    let place = crate::fixture::place_of(&bare);
    let saved = git_tether::world::snapshot::save(&place, &SaveOptions::default(), &mut fixture.sink()).unwrap();
    let list = contents(&fixture.main.join(".git"), saved.commit).unwrap();
    assert!(list.iter().any(|content| content.path == "x" && content.status == ContentStatus::Added));
}

#[test]
fn a_worktree_of_a_bare_repository_and_sha256() {
    for format in ["sha1", "sha256"] {
        let fixture = Fixture::with(&["--object-format", format]);
        write(&fixture.work, ".gitattributes", "*.txt text eol=crlf\n");
        fixture.commit("attributes");
        git(&fixture.main, &["config", "core.bare", "true"]);
        write(&fixture.work, "new.txt", "one\r\ntwo\r\n");
        write(&fixture.work, "a.txt", "changed\r\n");
        fixture.round_trip();
    }
}

#[test]
fn reftable_repositories() {
    let fixture = Fixture::with(&["--ref-format", "reftable"]);
    write(&fixture.work, "a.txt", "changed\n");
    let saved = fixture.save();
    assert_eq!(saved.base.unwrap().to_string(), text(&fixture.work, &["rev-parse", "HEAD"]));
    assert_eq!((saved.branch.as_deref(), saved.files), (Some("refs/heads/work"), 1));
}

#[test]
fn file_modes_that_the_disk_does_not_keep() {
    let fixture = Fixture::new();
    git(&fixture.main, &["config", "core.fileMode", "false"]);
    make_executable(&fixture.work.join("run.sh"), 0o644);
    make_executable(&fixture.work.join("a.txt"), 0o755);
    assert!(fixture.save().clean);
}

#[test]
fn links_that_the_disk_does_not_have() {
    let fixture = Fixture::new();
    git(&fixture.main, &["config", "core.symlinks", "false"]);
    std::fs::remove_file(fixture.work.join("link")).unwrap();
    write(&fixture.work, "link", "b.txt");
    let (saved, _) = fixture.round_trip();
    assert!(text(&fixture.work, &["ls-tree", &saved.commit.to_string(), "link"]).starts_with("120000"));
}

#[test]
fn an_object_that_the_index_names_and_nobody_has() {
    let fixture = Fixture::new();
    let missing = "1234567890123456789012345678901234567890";
    git(&fixture.work, &["update-index", "--add", "--cacheinfo", &format!("100644,{missing},lost")]);
    let saved = fixture.save();
    let id = gix::ObjectId::from_hex(missing.as_bytes()).unwrap();
    assert_eq!(saved.warnings, [Warning::MissingObject("lost".into(), id)]);
}

#[test]
fn saving_starts_no_hook_and_no_fsmonitor() {
    let fixture = Fixture::new();
    write(&fixture.work, "a.txt", "changed\n");
    let hook = "#!/bin/sh\nenv > ../hook-environment\n";
    write(&fixture.main.join(".git/hooks"), "post-index-change", hook);
    make_executable(&fixture.main.join(".git/hooks/post-index-change"), 0o755);
    let monitor = fixture.main.join(".git/monitor");
    write(&fixture.main.join(".git"), "monitor", "#!/bin/sh\ntouch ../hook-environment\n");
    make_executable(&monitor, 0o755);
    let before = fixture.place();
    git(&fixture.main, &["config", "core.fsmonitor", monitor.to_str().unwrap()]);
    git_tether::world::snapshot::save(&before, &SaveOptions::default(), &mut fixture.sink()).unwrap();
    assert!(!fixture.directory.path().join("hook-environment").exists(), "saving started a hook");
}

#[test]
fn what_git_holds_of_a_vanished_worktree() {
    let fixture = Fixture::new();
    let work = &fixture.work;
    write(work, "a.txt", "staged\n");
    write(work, "new", "staged too\n");
    git(work, &["add", "-A"]);
    let (git_dir, index) = (fixture.place().git_dir, text(work, &["ls-files", "--stage"]));
    std::fs::remove_dir_all(work).unwrap();
    let saved =
        save_vanished(&git_dir, &fixture.main.join(".git"), &SaveOptions::default(), &mut fixture.sink()).unwrap();
    assert_eq!((saved.files, saved.branch.as_deref()), (2, Some("refs/heads/work")));
    fixture.destroy_and_recreate_vanished(&saved);
    restore(&RestoreTarget::Worktree(fixture.place()), saved.commit, Trust::Own).unwrap();
    assert_eq!(text(work, &["ls-files", "--stage"]), index);
    assert_eq!(text(work, &["status", "--porcelain"]), "M  a.txt\nA  new");
}

#[test]
fn a_plain_directory_and_a_restore_to_one() {
    let fixture = Fixture::new();
    let plain = fixture.directory.path().join("plain");
    write(&plain, "x.log", "not ignored here\n");
    write(&plain, "deep/y", "y\n");
    write(&plain, ".gitattributes", "* text eol=crlf\n");
    make_executable(&plain.join("deep/y"), 0o755);
    std::os::unix::fs::symlink("deep", plain.join("link")).unwrap();
    let common = fixture.main.join(".git");
    let saved = save_directory(&plain, &common, &SaveOptions::default(), &mut fixture.sink()).unwrap();
    assert_eq!((saved.files, saved.base), (4, None));
    let again = SaveOptions { previous: Some(saved.commit), seconds: 5, ..SaveOptions::default() };
    assert!(save_directory(&plain, &common, &again, &mut fixture.sink()).unwrap().unchanged);
    let back = fixture.directory.path().join("back");
    let target = RestoreTarget::Directory { path: back.clone(), common_dir: common.clone(), held: Held::Nothing };
    restore(&target, saved.commit, Trust::Own).unwrap();
    assert!(run(&plain, "diff", &["-r", "--no-dereference", ".", back.to_str().unwrap()]).status.success());
    assert!(matches!(restore(&target, saved.commit, Trust::Own), Err(RestoreError::InTheWay { .. })));
    let worktree = RestoreTarget::Worktree(fixture.place());
    assert!(matches!(restore(&worktree, saved.commit, Trust::Own), Err(RestoreError::NotAWorktree)));
}

#[test]
fn a_restore_overwrites_nothing_that_is_not_clean() {
    let fixture = Fixture::new();
    let work = &fixture.work;
    write(work, "a.txt", "saved\n");
    write(work, "new", "saved\n");
    let saved = fixture.save();
    fixture.destroy_and_recreate(&saved, "--checkout");
    let target = RestoreTarget::Worktree(fixture.place());
    for (name, text) in [("new", "in the way\n"), ("a.txt", "edited since\n")] {
        git(work, &["clean", "-fdq"]);
        write(work, name, text);
        let before = capture(work);
        let refused = restore(&target, saved.commit, Trust::Own);
        assert!(matches!(refused, Err(RestoreError::InTheWay { path }) if path == name));
        assert_eq!(capture(work), before);
        git(work, &["checkout", "-q", "--", "a.txt"]);
    }
    git(work, &["commit", "-q", "--allow-empty", "-m", "elsewhere"]);
    assert!(matches!(restore(&target, saved.commit, Trust::Own), Err(RestoreError::OtherBase { .. })));
}

#[test]
fn hostile_trees_are_refused() {
    let fixture = Fixture::new();
    let saved = fixture.save();
    let state = text(&fixture.main, &["rev-parse", &format!("{}^2", saved.commit)]);
    for name in [".git", ".GIT", "git~1", "..", ".g\u{200c}it"] {
        let blob = text(&fixture.main, &["rev-parse", "HEAD:a.txt"]);
        let entry = [b"100644 ", name.as_bytes(), b"\0"].concat();
        let tree = [entry, gix::ObjectId::from_hex(blob.as_bytes()).unwrap().as_slice().to_vec()].concat();
        std::fs::write(fixture.directory.path().join("tree"), tree).unwrap();
        let tree = text(&fixture.main, &["hash-object", "-w", "--literally", "-t", "tree", "../tree"]);
        let commit = text(&fixture.main, &["commit-tree", &tree, "-p", "HEAD", "-p", &state, "-m", "hostile"]);
        let id = gix::ObjectId::from_hex(commit.as_bytes()).unwrap();
        let before = capture(&fixture.work);
        let target = RestoreTarget::Worktree(fixture.place());
        assert!(matches!(restore(&target, id, Trust::Own), Err(RestoreError::RefusedName { .. })), "{name}");
        assert_eq!(capture(&fixture.work), before);
    }
}

#[test]
fn a_directory_that_answers_for_another_worktree_is_refused() {
    let fixture = Fixture::new();
    let mut place = fixture.place();
    place.path = fixture.main.clone();
    let result = git_tether::world::snapshot::save(&place, &SaveOptions::default(), &mut fixture.sink());
    assert!(matches!(result, Err(SaveError::OtherRepository { .. })));
}

#[test]
fn saving_while_somebody_writes_never_fails_and_says_what_was_torn() {
    let fixture = Fixture::new();
    let path = fixture.work.join("busy");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0u32;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                round += 1;
                std::fs::write(&path, format!("{round}\n").repeat(50_000)).unwrap();
            }
        });
        std::thread::sleep(std::time::Duration::from_millis(20));
        let result = git_tether::world::snapshot::save(&fixture.place(), &SaveOptions::default(), &mut fixture.sink());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let saved = result.unwrap();
        assert!(saved.warnings.contains(&Warning::Unsettled("busy".into())), "{saved:?}");
    });
    assert!(fixture.save().warnings.is_empty());
}

#[test]
fn unchanged_saves_write_nothing_and_changed_ones_only_what_is_new() {
    let fixture = Fixture::new();
    write(&fixture.work, "dir/sub/e.txt", "changed\n");
    let first = fixture.save();
    let mut sink = fixture.sink();
    let options = SaveOptions { previous: Some(first.commit), seconds: 7, ..SaveOptions::default() };
    let second = git_tether::world::snapshot::save(&fixture.place(), &options, &mut sink).unwrap();
    assert_eq!((second.commit, sink.written), (first.commit, 0));
    write(&fixture.work, "new", "more\n");
    let third = git_tether::world::snapshot::save(&fixture.place(), &options, &mut sink).unwrap();
    let unreadable = gix::ObjectId::from_hex(b"1234567890123456789012345678901234567890").unwrap();
    assert!(!fixture.save_with(&SaveOptions { previous: Some(unreadable), ..SaveOptions::default() }).unchanged);
    // The blob, the root tree, the state with its tree, and two commits.
    assert_eq!(sink.written, 6);
    let parents = text(&fixture.main, &["rev-list", "--parents", "-1", &third.commit.to_string()]);
    assert!(!parents.contains(&first.commit.to_string()), "a snapshot is another's parent");
}

#[test]
fn line_endings_of_a_setting_that_is_off_again() {
    for settled in [false, true] {
        let fixture = Fixture::new();
        let work = &fixture.work;
        git(work, &["config", "core.autocrlf", "true"]);
        std::fs::remove_file(work.join("dir/c.txt")).unwrap();
        git(work, &["checkout", "-q", "--", "dir/c.txt"]);
        assert!(std::fs::read(work.join("dir/c.txt")).unwrap().ends_with(b"\r\n"));
        if settled {
            // An index of a later second: git calls the file clean without a look at its content.
            std::thread::sleep(std::time::Duration::from_millis(1_100));
            git(work, &["update-index", "--index-version", "4"]);
        }
        git(work, &["config", "core.autocrlf", "false"]);
        assert_eq!(text(work, &["status", "--porcelain"]).is_empty(), settled);
        let cache = Some(fixture.directory.path().join("cache"));
        let options = SaveOptions { exact_cache: cache, ..SaveOptions::default() };
        fixture.save_with(&options);
        fixture.round_trip_with(&options, "--no-checkout");
    }
}

#[test]
fn a_file_that_is_put_back_as_it_was_when_it_was_added() {
    let fixture = Fixture::new();
    let work = &fixture.work;
    git(work, &["config", "core.autocrlf", "input"]);
    git(work, &["config", "core.trustctime", "false"]);
    let path = work.join("dir/c.txt");
    let put = |text: &str| {
        write(work, "dir/c.txt", text);
        run(work, "touch", &["-d", "2020-01-01 00:00:00", path.to_str().unwrap()]);
    };
    put("of another\r\nsystem\n");
    git(work, &["-c", "core.safecrlf=false", "add", "dir/c.txt"]);
    git(work, &["commit", "-qm", "line endings"]);
    let cache = Some(fixture.directory.path().join("cache"));
    let options = SaveOptions { exact_cache: cache, ..SaveOptions::default() };
    write(work, "dir/c.txt", "for a while\n");
    fixture.save_with(&options);
    put("of another\r\nsystem\n");
    let saved = fixture.save_with(&options);
    let raw = format!("{}^2:raw/dir/c.txt", saved.commit);
    assert_eq!(text(&fixture.main, &["cat-file", "-s", &raw]), "19");
}

#[test]
fn what_is_staged_is_kept_itself_and_not_what_replaces_it() {
    let fixture = Fixture::new();
    let work = &fixture.work;
    write(work, "new", "staged\n");
    git(work, &["add", "new"]);
    write(work, "new", "since then\n");
    let staged = text(work, &["rev-parse", ":new"]);
    git(work, &["replace", &staged, &text(work, &["rev-parse", "HEAD:a.txt"])]);
    let saved = fixture.save();
    git(work, &["replace", "-d", &staged]);
    let kept = format!("{}^2:objects/{staged}", saved.commit);
    assert_eq!(text(work, &["cat-file", "blob", &kept]), "staged");
}

#[test]
fn a_snapshot_that_has_lost_an_object_is_not_taken_for_the_next_one() {
    let lost = [":new", ":dir/sub/e.txt", ":dir/sub", ":dir", ":", "^2:", "^2:state.json", "^2:raw", "^2:raw/a.txt"];
    for lost in lost {
        let fixture = Fixture::new();
        git(&fixture.work, &["config", "core.autocrlf", "input"]);
        write(&fixture.work, "a.txt", "of another\r\nsystem\n");
        write(&fixture.work, "dir/sub/e.txt", "changed\n");
        write(&fixture.work, "new", "more\n");
        let first = fixture.save();
        let id = text(&fixture.main, &["rev-parse", &format!("{}{lost}", first.commit)]);
        std::fs::remove_file(fixture.main.join(format!(".git/objects/{}/{}", &id[..2], &id[2..]))).unwrap();
        let second = fixture.save_with(&SaveOptions { previous: Some(first.commit), ..SaveOptions::default() });
        assert!(!second.unchanged, "{lost}");
        assert_eq!(text(&fixture.main, &["rev-parse", &format!("{}{lost}", second.commit)]), id);
        text(&fixture.main, &["rev-list", "--objects", &second.commit.to_string()]);
    }
}

#[test]
fn large_files_under_rules_that_guess_at_line_endings() {
    let fixture = Fixture::new();
    let work = &fixture.work;
    write(work, ".gitattributes", "* text=auto\n");
    let lines = |end: &str| format!("a line of some length{end}").repeat(1_600_000).into_bytes();
    write(work, "binary", [lines("\r\n"), vec![0]].concat());
    make_executable(&work.join("binary"), 0o755);
    write(work, "dos", lines("\r\n"));
    let (saved, _) = fixture.round_trip();
    let size = |name: &str| text(work, &["cat-file", "-s", &format!("{}:{name}", saved.commit)]);
    assert_eq!(size("binary"), (23 * 1_600_000 + 1).to_string());
    assert_eq!(size("dos"), (22 * 1_600_000).to_string());
}
