from cobranza.chassis.migrations import run_environment
from cobranza.notifications.tables import metadata

run_environment(metadata)
