"""Promises of docs/specification-annex.md about images, checked on the files of an initrd.

Usage: promises.py files|shadow   (stdin: the output of `cpio -tv`, or etc/shadow)
"""

import re
import sys

# Limit of a worker's compressed root, without its kernel.
WORKER_BYTES_MAX = 8_000_000

# An image must not have them. BusyBox' shell is required.
INTERPRETERS = ("bash", "dash", "expect", "gawk", "lua", "perl", "python", "ruby", "tclsh")


def file_fault(line):
    """The promise that a file of a listing breaks, or None."""
    mode, path = line.split()[0], line.split()[8]
    name = path.rsplit("/", 1)[-1]
    if "s" in (mode[3] + mode[6]).lower():
        return f"{path} is setuid or setgid"
    # Like /tmp: anybody may add files, nobody may remove others'.
    is_sticky = mode[0] == "d" and mode[9] == "t"
    if mode[8] == "w" and mode[0] != "l" and not is_sticky:
        return f"{path} is world-writable"
    if name.startswith(INTERPRETERS) and "bin/" in path:
        return f"{path} is an interpreter"
    if name in ("authorized_keys", "host_key"):
        return f"{path} is a credential"
    return None


def check_files(listing):
    """The number of files; exits with every file that breaks a promise."""
    lines = listing.splitlines()
    faults = [fault for fault in map(file_fault, lines) if fault]
    if faults or not lines:
        sys.exit("\n".join(faults) or "the initrd is empty")
    return len(lines)


def check_shadow(shadow):
    """Exits if an entry of `etc/shadow` lets anybody log in with a password."""
    if not shadow:
        sys.exit("etc/shadow is empty")
    for line in shadow.splitlines():
        if not re.match(r"[^:]*:[!*]", line):
            sys.exit(f"etc/shadow permits a password login: {line}")


if __name__ == "__main__":
    {"files": check_files, "shadow": check_shadow}[sys.argv[1]](sys.stdin.read())
