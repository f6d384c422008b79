"""Makes the secrets of a compose deployment once, so that no usable password is ever committed."""  # noqa: INP001

from __future__ import annotations

import argparse
import hashlib
import json
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_SECRET_BYTES = 32
#: Who holds which key, and what the key may do.
_KEYS = {
    "COBRANZA_ADMIN_KEY": {"name": "admin", "scopes": ["*"], "companies": ["*"]},
    "NOTIFICATIONS_PAYMENTS_TOKEN": {"name": "notifications", "scopes": ["permits:write"], "companies": ["*"]},
}


def filled(example: str) -> str:
    """The settings of `example` with a random value (256 bits, hexadecimal) where it has none."""
    lines = []
    for line in example.splitlines():
        is_empty = line.endswith("=") and not line.startswith("#")
        lines.append(line + secrets.token_hex(_SECRET_BYTES) if is_empty else line)
    return "\n".join(lines) + "\n"


def api_keys(environment: str) -> str:
    """The file of API keys that belongs to `environment`: hashes only, one key a line."""
    values = dict(line.split("=", 1) for line in environment.splitlines() if "=" in line and not line.startswith("#"))
    entries = [
        json.dumps({**owner, "sha256": hashlib.sha256(values[variable].encode()).hexdigest()})
        for variable, owner in _KEYS.items()
    ]
    return "".join(f"- {entry}\n" for entry in entries)


def main() -> None:
    """Write both files below a directory; what exists is left as it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=ROOT, help="where .env and .state go")
    directory: Path = parser.parse_args().directory
    environment, keys = directory / ".env", directory / ".state" / "compose" / "api-keys.yaml"
    if environment.exists():
        sys.exit(f"{environment} exists; remove it to make new secrets (the databases keep the old passwords)")
    text = filled((ROOT / ".env.example").read_text(encoding="utf-8"))
    environment.touch(mode=0o600)
    environment.write_text(text, encoding="utf-8")
    keys.parent.mkdir(parents=True, exist_ok=True)
    # Readable by the containers' user, which is not its owner.
    keys.touch(mode=0o644)
    keys.write_text(api_keys(text), encoding="utf-8")
    sys.stdout.write(f"wrote {environment} and {keys}\n")


if __name__ == "__main__":
    main()
