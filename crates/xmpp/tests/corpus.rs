//! Replays the corpus of the fuzz target.

mod check;

#[test]
fn the_corpus_of_the_fuzz_target_holds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/framer");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        check::framer(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 60, "only {count} inputs in {folder}");
}
