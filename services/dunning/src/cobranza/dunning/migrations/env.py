from cobranza.chassis.migrations import run_environment
from cobranza.dunning.tables import metadata

run_environment(metadata)
