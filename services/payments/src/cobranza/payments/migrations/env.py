from cobranza.chassis.migrations import run_environment
from cobranza.payments.tables import metadata

run_environment(metadata)
