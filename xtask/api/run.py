#!/usr/bin/env python3
"""The HTTP API of a real controller against its OpenAPI document, by schemathesis.

Usage: run.py BIN_DIR SECONDS [SEED]

Three controllers are asked, one after the other, a third of the time each: one with a journal by the holder of a
token, the same without a token, and one without a journal.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

READY_S = 30

# Longest time of one run that begins again because it had too little.
SECONDS_MAX = 200


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


class Site:
    """A controller with a worker, in a directory of its own."""

    def __init__(self, bin_dir: Path, place: Path, journal: bool):
        data, runtime = place / "data" / "sub", place / "run"
        data.mkdir(parents=True)
        (data / "file").write_text("content")
        runtime.mkdir(mode=0o700)
        self.token = secrets.token_hex(16)
        tokens = place / "tokens"
        tokens.touch(mode=0o600)
        tokens.write_text(f"test {self.token} submit see-jobs manage-jobs dataset=*\n")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = open(place / "log", "w+b")
        common = ["--runtime-dir", runtime]
        controller = [bin_dir / "hashcluster-controller", *common, "--dataset", "d"]
        controller += ["--http", f"127.0.0.1:{port}", "--api-tokens", tokens]
        if journal:
            controller += ["--state-dir", place / "state"]
        worker = [bin_dir / "hashcluster-worker", *common, "--name", "w0", "--threads", "1"]
        worker += ["--dataset", f"d={place / 'data'}"]
        self.processes = [
            subprocess.Popen(line, stdout=self.log, stderr=self.log) for line in (controller, worker)
        ]
        self.wait_ready()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/readyz", timeout=5).read()
                return
            except (urllib.error.URLError, OSError) as error:
                if time.monotonic() > deadline:
                    self.stop()
                    sys.exit(f"the controller is not ready: {error}\n{self.said()}")
                time.sleep(0.05)

    def is_alive(self) -> bool:
        return all(process.poll() is None for process in self.processes)

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait()


def ask(site: Site, seconds: int, seed: str, checks: list[str], args: list[str]) -> bool:
    here = Path(__file__).parent
    schemathesis = [Path(sys.executable).parent / "st", "--config-file", here / "schemathesis.toml"]
    # What is generated is bounded by time alone.
    schemathesis += ["run", f"{site.url}/v1/openapi.json", "--max-time", str(seconds), "--seed", seed]
    schemathesis += ["--no-shrink", "--checks", "all", "--warnings", "off", *checks, *args]
    with tempfile.TemporaryDirectory() as work:
        environment = {**os.environ, "NO_COLOR": "1"}
        ended = subprocess.run(schemathesis, cwd=work, env=environment, stdout=subprocess.PIPE, text=True)
    print(ended.stdout, flush=True)
    if not site.is_alive():
        print(site.said())
        print("a process ended")
        return False
    if "No test cases were generated" in ended.stdout:
        # On a busy machine reading the document takes up the time.
        print(f"nothing was generated in {seconds} seconds", flush=True)
        return seconds < SECONDS_MAX and ask(site, 4 * seconds, seed, checks, args)
    return ended.returncode == 0


def main() -> None:
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    bin_dir, seconds = Path(sys.argv[1]), max(int(sys.argv[2]) // 3, 1)
    seed = sys.argv[3] if len(sys.argv) == 4 else str(secrets.randbelow(1 << 32))
    print(f"seed {seed}", flush=True)
    # Without a journal every request about a job is answered with a documented 503.
    no_journal = ["--exclude-checks", "not_a_server_error,positive_data_acceptance,negative_data_rejection"]
    good = True
    with tempfile.TemporaryDirectory(prefix="hcapi") as place:
        for name, journal, checks in [("with", True, []), ("without", False, no_journal)]:
            site = Site(bin_dir, Path(place) / name, journal)
            token = ["--header", f"Authorization: Bearer {site.token}"]
            try:
                print(f"== {name} a journal, with a token", flush=True)
                good &= ask(site, seconds, seed, checks, token)
                if journal:
                    print("== with a journal, without a token", flush=True)
                    good &= ask(site, seconds, seed, checks, [])
            finally:
                site.stop()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
