from cobranza.chassis.migrations import run_environment
from cobranza.invoicing.tables import metadata

run_environment(metadata)
