"""The catalogue's topics as new: a test must not read what another wrote."""

import time

from kafka import KafkaAdminClient

from cobranza.chassis import topics_admin
from cobranza.contracts.topics import CATALOGUE


def renew(bootstrap: str) -> None:
    """Delete what there is of the catalogue's topics, then make them all."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        wanted = {entry.name for entry in CATALOGUE}
        if existing := wanted & set(admin.list_topics()):
            admin.delete_topics(sorted(existing))
        for _ in range(200):
            if not wanted & set(admin.list_topics()):
                break
            time.sleep(0.05)
        topics_admin.apply(bootstrap)
        admin.wait_for_topics(sorted(wanted))
    finally:
        admin.close()
