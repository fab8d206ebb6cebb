//! How long saving takes beside what git itself would take; `cargo test --release --test snapshot -- --ignored --nocapture speed`.

use crate::fixture::{git, place_of, write};
use git_tether::world::snapshot::{LooseSink, ObjectSink, SaveOptions, SinkError, save};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ROUNDS: usize = 15;

/// Takes objects as a pack writer would before its one write: hashed and kept in memory, compressed once.
#[derive(Default)]
struct MemorySink(Vec<u8>);

impl ObjectSink for MemorySink {
    fn write(&mut self, kind: gix::objs::Kind, bytes: &[u8]) -> Result<gix::ObjectId, SinkError> {
        let mut deflate = flate2::write::ZlibEncoder::new(&mut self.0, flate2::Compression::fast());
        let failed = |source: std::io::Error| SinkError { size: bytes.len() as u64, source: source.into() };
        deflate.write_all(bytes).map_err(failed)?;
        deflate.finish().map_err(failed)?;
        gix::objs::compute_hash(gix::hash::Kind::Sha1, kind, bytes)
            .map_err(|source| SinkError { size: bytes.len() as u64, source: source.into() })
    }

    fn write_stream(&mut self, _: u64, from: &mut dyn Read) -> Result<gix::ObjectId, SinkError> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map_err(|source| SinkError { size: 0, source: source.into() })?;
        self.write(gix::objs::Kind::Blob, &bytes)
    }
}

fn repository(directory: &Path, files: usize, attributes: &str) -> PathBuf {
    let main = directory.join("main");
    std::fs::create_dir(&main).unwrap();
    git(&main, &["init", "-q", "-b", "main"]);
    git(&main, &["config", "gc.auto", "0"]);
    git(&main, &["config", "maintenance.auto", "false"]);
    for at in 0..files {
        write(&main, format!("d{}/e{}/file{at}", at / 1000, at / 100 % 10), format!("content of {at}\n").repeat(20));
    }
    if !attributes.is_empty() {
        write(&main, ".gitattributes", attributes);
    }
    git(&main, &["add", "-A"]);
    git(&main, &["commit", "-qm", "all"]);
    git(&main, &["gc", "-q"]);
    std::thread::sleep(Duration::from_millis(1100));
    git(&main, &["update-index", "-q", "--refresh"]);
    main
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

fn floor(main: &Path) {
    let repository = gix::open(main).unwrap();
    let index = repository.open_index().unwrap();
    for entry in index.entries() {
        let path = entry.path(&index).to_string();
        let _ = std::fs::symlink_metadata(main.join(path));
    }
    let mut directories = vec![main.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() && entry.file_name() != ".git" {
                directories.push(entry.path());
            }
        }
    }
}

#[test]
#[ignore = "prints times"]
fn speed() {
    for (files, attributes) in [(5_000, ""), (50_000, ""), (50_000, "* text=auto\n")] {
        let directory = tempfile::tempdir().unwrap();
        let main = repository(directory.path(), files, attributes);
        let place = place_of(&main);
        let mut times: [Vec<Duration>; 7] = Default::default();
        let mut measure = |slot: usize, work: &mut dyn FnMut()| {
            let start = Instant::now();
            work();
            times[slot].push(start.elapsed());
        };
        for round in 0..ROUNDS {
            git(&main, &["reset", "-q", "--hard"]);
            git(&main, &["clean", "-fdq"]);
            let mut sink = LooseSink::new(gix::open(&main).unwrap());
            let clean = save(&place, &SaveOptions::default(), &mut sink).unwrap();
            let exact_cache = Some(directory.path().join("cache"));
            let options = SaveOptions { previous: Some(clean.commit), exact_cache, ..SaveOptions::default() };
            save(&place, &options, &mut sink).unwrap();
            measure(0, &mut || drop(git(&main, &["status", "--porcelain"])));
            measure(1, &mut || assert!(save(&place, &options, &mut sink).unwrap().unchanged));
            measure(2, &mut || floor(&main));
            for at in 0..20 {
                let number = at * (files / 20);
                let name = format!("d{}/e{}/file{number}", number / 1000, number / 100 % 10);
                write(&main, name, format!("changed in {round} {at}\n"));
            }
            for at in 0..10 {
                write(&main, format!("d0/new{at}"), format!("new in {round} {at}\n"));
            }
            std::thread::sleep(Duration::from_millis(50));
            let saving = SaveOptions { seconds: 1, ..options };
            measure(3, &mut || assert_eq!(save(&place, &saving, &mut sink).unwrap().files, 30));
            let mut memory = MemorySink::default();
            measure(6, &mut || assert_eq!(save(&place, &saving, &mut memory).unwrap().files, 30));
            measure(4, &mut || drop(git(&main, &["stash", "create"])));
            measure(5, &mut || drop(git(&main, &["status", "--porcelain"])));
        }
        let names = [
            "git status, clean",
            "save, unchanged",
            "floor (one thread)",
            "save, 20 + 10, loose",
            "git stash create",
            "git status, 20 + 10",
            "save, 20 + 10, memory",
        ];
        for (name, times) in names.iter().zip(times) {
            println!("{files:>6} files {attributes:?}: {name:<20} {:8.2} ms", median(times));
        }
    }
}
