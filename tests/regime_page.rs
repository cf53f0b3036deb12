//! `results/REGIMES.md` is what its own command makes of the committed CSVs.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_committed_page_is_what_its_command_gives() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = fs::read_to_string(root.join("results/REGIMES.md")).unwrap();
    let command = committed.split('`').nth(1).expect("the page names its command");
    let words: Vec<&str> = command.split(' ').collect();
    assert_eq!((words[0], words[1]), ("ridgepoint", "analyze"));
    let folders = &words[2..words.len() - 2];
    assert!(folders.len() > 3, "{command}");
    // Into another place: the page names the file that the command says.
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("results")).unwrap();
    for folder in folders {
        let link = place.path().join(folder);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(root.join(folder), link).unwrap();
    }
    let output =
        Command::new(env!("CARGO_BIN_EXE_ridgepoint")).current_dir(place.path()).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made = fs::read_to_string(place.path().join("results/REGIMES.md")).unwrap();
    for (line, (made, committed)) in made.lines().zip(committed.lines()).enumerate() {
        assert_eq!(made, committed, "line {}; run the command on the page", line + 1);
    }
    assert_eq!(made.len(), committed.len());
}
