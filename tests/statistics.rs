//! Decisions, tests and replays against other people's software. One program of many files, because linking one takes
//! longer than running it.

mod curves_golden;
mod replay_golden;
mod stats_decision;
mod stats_golden;
mod stats_power;
mod stop_rules_golden;

/// A file that no list names would not run.
#[test]
fn every_file_is_in_a_list() {
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap();
    let manifest = read(tests.with_file_name("Cargo.toml"));
    let lists = ["commands", "engine", "statistics"].map(|list| read(tests.join(list).with_extension("rs"))).concat();
    for entry in std::fs::read_dir(&tests).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let listed = lists.lines().any(|line| line == format!("mod {name};"));
            let alone = manifest.contains(&format!("path = \"tests/{name}.rs\""));
            assert!(listed != alone, "tests/{name}.rs must be in one list of modules, or a [[test]] of its own");
        }
    }
}
