//! The committed pages of regimes are what their own commands make of the committed CSVs.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_committed_pages_are_what_their_commands_give() {
    check("results/REGIMES.md");
    check("results/h200/BATCHES.md");
}

fn check(page: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = fs::read_to_string(root.join(page)).unwrap();
    let command = committed.split('`').nth(1).expect("the page names its command");
    let words: Vec<&str> = command.split(' ').collect();
    assert_eq!((words[0], words[1], words[words.len() - 1]), ("ridgepoint", "analyze", page));
    let folders = &words[2..words.len() - 2];
    assert!(folders.len() > 3, "{command}");
    // Into another place: the page names the file that the command says.
    let place = tempfile::tempdir().unwrap();
    for folder in folders {
        let link = place.path().join(folder);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(root.join(folder), link).unwrap();
    }
    let output =
        Command::new(env!("CARGO_BIN_EXE_ridgepoint")).current_dir(place.path()).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made = fs::read_to_string(place.path().join(page)).unwrap();
    for (line, (made, committed)) in made.lines().zip(committed.lines()).enumerate() {
        assert_eq!(made, committed, "{page}: line {}; run the command on the page", line + 1);
    }
    assert_eq!(made.len(), committed.len(), "{page}");
}
