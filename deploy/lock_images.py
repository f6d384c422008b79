"""Writes the digest behind each image's tag where images are named, so that a build takes exactly those bytes."""  # noqa: INP001

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FILES: Final = (ROOT / "docker-compose.yml", ROOT / "deploy" / "Dockerfile")
#: An image of somebody else's with its tag, and the digest it may have already.
_NAMED: Final = re.compile(
    r"^(?P<before>\s+image: |ARG PYTHON_IMAGE=)(?P<image>[\w./-]+:[\w.-]+)(@sha256:[0-9a-f]{64})?$", re.MULTILINE
)


def pinned(text: str, digest_of: Callable[[str], str]) -> str:
    """`text` with the present digest after each image's tag; our own images have none."""
    return _NAMED.sub(lambda found: f"{found['before']}{found['image']}@{digest_of(found['image'])}", text)


def _ask_the_registry(image: str) -> str:
    command = ["docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}", image]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    digest = answer.stdout.strip()
    if answer.returncode != 0 or re.fullmatch(r"sha256:[0-9a-f]{64}", digest) is None:
        sys.exit(f"no digest of {image}: {answer.stderr.strip() or digest}")
    return digest


if __name__ == "__main__":
    for file in FILES:
        file.write_text(pinned(file.read_text(encoding="utf-8"), _ask_the_registry), encoding="utf-8")
