"""Starts one program so that it ends with its supervisor, and unprivileged where it must be.

Run as a plain file by the supervisor (standard library only, no site packages): it prepares the
process and then becomes the program, so the pid stays the supervisor's child.
"""

import argparse
import ctypes
import os
import pwd
import sys
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
_CLONE_NEWUSER = 0x10000000
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522
_REFUSED = 126


def main(arguments: list[str]) -> None:
    """Prepare this process as the options say, then replace it by the program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True, help="the supervisor's pid")
    parser.add_argument("--death-signal", type=int, required=True, help="sent when it dies")
    parser.add_argument("--account", choices=["same", "namespace", "nobody"], default="same")
    parser.add_argument("program", nargs="+")
    options = parser.parse_args(arguments)
    try:
        if options.account == "namespace":
            _enter_user_namespace()
        elif options.account == "nobody":
            _become_nobody()
    except OSError as refusal:
        sys.stderr.write(f"the account {options.account} is refused here: {refusal}\n")
        sys.exit(_REFUSED)
    if sys.platform == "linux":
        # After the change of account, which would clear it.
        _prctl(_PR_SET_PDEATHSIG, options.death_signal)
    if os.getppid() != options.parent:
        sys.exit(_REFUSED)  # the supervisor died before the line above
    os.execv(options.program[0], options.program)  # noqa: S606 - becomes the program, no shell


def _enter_user_namespace() -> None:
    """Be an ordinary user to the program while files still belong to the caller."""
    caller_uid, caller_gid = os.getuid(), os.getgid()
    nobody = pwd.getpwnam("nobody")
    _checked(_libc().unshare(_CLONE_NEWUSER))
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"{nobody.pw_uid} {caller_uid} 1")
    (own / "gid_map").write_text(f"{nobody.pw_gid} {caller_gid} 1")


def _become_nobody() -> None:
    """Drop root, keeping only the right to pass directories that ``nobody`` may not enter."""
    nobody = pwd.getpwnam("nobody")
    _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
    os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
    mask = 1 << _CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Effective, permitted, inheritable: of the low and then of the high 32 capabilities.
    sets = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    _checked(_libc().capset(header, sets))
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *values: int) -> None:
    padded = (*values, 0, 0, 0, 0)[:4]
    _checked(_libc().prctl(option, *(ctypes.c_ulong(value) for value in padded)))


def _checked(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


if __name__ == "__main__":
    main(sys.argv[1:])
