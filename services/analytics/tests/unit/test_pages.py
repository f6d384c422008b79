"""Every text of the pages is there in both languages."""

from cobranza.analytics.api.pages import PAGES


def test_every_text_of_the_pages_has_its_spanish() -> None:
    assert PAGES.untranslated() == set()
