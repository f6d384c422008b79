from cobranza.analytics.tables import metadata
from cobranza.chassis.migrations import run_environment

run_environment(metadata)
