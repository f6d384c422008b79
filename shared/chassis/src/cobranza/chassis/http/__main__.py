"""Writes ``docs/problems.md`` to standard output."""

import sys

from cobranza.chassis.http.problems import document

sys.stdout.write(document())
