//! How long a transition takes. Ignored: it prints, and says nothing on a busy machine.

use std::time::Instant;

use super::{Fixture, grow, run};

#[test]
#[ignore = "prints times; run alone, with --nocapture"]
fn one_transition() {
    for init in [&[][..], &["--shared=group"][..], &["--ref-format=reftable"][..]] {
        let fixture = Fixture::new(init);
        let mut tip = grow(&*fixture.open(), &run("r"), None, 1);
        let mut warm = Vec::new();
        let mut cold = Vec::new();
        let backend = fixture.open();
        for _ in 0..300 {
            let start = Instant::now();
            tip = grow(&*backend, &run("r"), Some(tip), 1);
            warm.push(start.elapsed());
            let start = Instant::now();
            tip = grow(&*fixture.open(), &run("r"), Some(tip), 1);
            cold.push(start.elapsed());
        }
        warm.sort_unstable();
        cold.sort_unstable();
        println!(
            "{init:?}: open store {:?} (9 of 10: {:?}), opened anew {:?} (9 of 10: {:?})",
            warm[150], warm[270], cold[150], cold[270]
        );
    }
}
