#!/usr/bin/env python3
"""Tests one-per-gpu with two GPUs and a program that are made up: python3 scripts/test_one_per_gpu.py"""

import os
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

SCRIPT = Path(__file__).with_name("one-per-gpu").resolve()
PROGRAM = """#!/bin/sh
echo "$CUDA_VISIBLE_DEVICES $(taskset -cp $$ | sed 's/.*: //') $*" >>"$SEEN"
case "$1" in wait) exec sleep 60.125 ;; fail) exit 3 ;; *) sleep 0.3 ;; esac
"""


class OnePerGpu(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.addCleanup(self.place.cleanup)
        self.path = Path(self.place.name)
        self.write("nvidia-smi", '#!/bin/sh\necho "GPU 0: one"; echo "GPU 1: two"\n')
        # Four cores, of which a test may have fewer.
        self.write("nproc", "#!/bin/sh\necho 4\n")
        self.write("taskset", '#!/bin/sh\n[ "$1" = -cp ] && { echo "x: $CORES"; exit; }\nshift; CORES=$1; export CORES; shift; exec "$@"\n')
        self.write("program", PROGRAM)

    def write(self, name, text):
        (self.path / name).write_text(text)
        (self.path / name).chmod(0o755)

    def run_jobs(self, jobs, *arguments):
        """Exit code, what the program saw in this run, and what was printed."""
        (self.path / "jobs").write_text(jobs)
        (self.path / "seen").write_text("")
        done = subprocess.run(
            [SCRIPT, *arguments, "--program", self.path / "program", self.path / "jobs"], capture_output=True, text=True,
            env={**os.environ, "PATH": f"{self.path}:{os.environ['PATH']}", "SEEN": str(self.path / "seen")})
        return done.returncode, sorted((self.path / "seen").read_text().splitlines()), done.stdout + done.stderr

    def test_each_job_runs_once_on_a_gpu_with_cores_of_its_own(self):
        code, seen, _ = self.run_jobs("# none\na 'b c'\n\nd\ne\nf")
        self.assertEqual(code, 0)
        self.assertEqual(sorted(line.split(" ", 2)[2] for line in seen), ["a b c", "d", "e", "f"])
        self.assertEqual({tuple(line.split(" ")[:2]) for line in seen}, {("0", "0-1"), ("1", "2-3")})

    def test_what_failed_runs_again_and_what_is_done_does_not(self):
        code, seen, text = self.run_jobs("a\nfail x\n")
        self.assertEqual((code, len(seen)), (1, 2))
        self.assertIn("NOT DONE", text)
        code, seen, _ = self.run_jobs("a\nfail x\n")
        self.assertEqual((code, [line.split(" ", 2)[2] for line in seen]), (1, ["fail x"]))

    def test_the_time_ends_what_runs_and_starts_nothing_else(self):
        code, seen, _ = self.run_jobs("wait\nwait\na\n", "--for", "1")
        self.assertEqual((code, [line.split(" ", 2)[2] for line in seen]), (1, ["wait", "wait"]))
        code, seen, _ = self.run_jobs("a\n")
        self.assertEqual((code, len(seen)), (0, 1))

    def test_a_signal_ends_what_runs(self):
        (self.path / "jobs").write_text("wait\nwait\na\n")
        (self.path / "seen").write_text("")
        script = subprocess.Popen(
            [SCRIPT, "--program", self.path / "program", self.path / "jobs"], stdout=subprocess.DEVNULL,
            env={**os.environ, "PATH": f"{self.path}:{os.environ['PATH']}", "SEEN": str(self.path / "seen")})
        while len((self.path / "seen").read_text().splitlines()) < 2:
            time.sleep(0.05)
        script.terminate()
        self.assertEqual(script.wait(10), 1)
        running = subprocess.run(["pgrep", "-f", f"{self.path}/program"], capture_output=True, text=True).stdout
        sleeping = subprocess.run(["pgrep", "-fx", "sleep 60.125"], capture_output=True, text=True).stdout
        self.assertEqual((running, sleeping), ("", ""))
        self.assertEqual(len((self.path / "seen").read_text().splitlines()), 2)

    def test_bad_arguments_are_named(self):
        for arguments, said in [(["--for", "soon"], "'soon'"), (["--now"], "'--now'"), (["other"], "not both")]:
            code, _, text = self.run_jobs("a\n", *arguments)
            self.assertEqual(code, 2, text)
            self.assertIn(said, text)


if __name__ == "__main__":
    unittest.main()
