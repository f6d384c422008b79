"""The revisions make what the tables say, and can be taken back."""

from cobranza.chassis import migrations
from cobranza.chassis.testing import FreshDatabase

SCRIPTS = "cobranza.payments:migrations"


def test_revisions_and_tables_agree_and_go_down_and_up(fresh_database: FreshDatabase) -> None:
    urls = fresh_database("payments", lambda url: migrations.upgrade(SCRIPTS, url))
    migrations.check(SCRIPTS, urls.owner_url)
    migrations.downgrade(SCRIPTS, urls.owner_url)
    migrations.upgrade(SCRIPTS, urls.owner_url)
    migrations.check(SCRIPTS, urls.owner_url)
