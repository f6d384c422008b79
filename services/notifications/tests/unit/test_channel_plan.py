"""Which channels a notice takes, and which address."""

from __future__ import annotations

from typing import Any

import pytest

from cobranza.contracts.dunning import PlannedChannel
from cobranza.contracts.invoicing import Contact
from cobranza.contracts.reasons import Reason
from cobranza.notifications.domain.channel_plan import choose_contact, main_channels
from cobranza.notifications.gateways.mail import usable_address


def contact(value: Any = "a@example.test", **changes: Any) -> Any:
    return Contact.model_validate({"name": "A", "role": "other", "channel": "email", "value": value, **changes})


def choose(*contacts: Any) -> Any:
    return choose_contact(contacts, channel="email", is_usable=lambda value: usable_address(value) is not None)


def test_only_main_channels_start_a_notice_each_once() -> None:
    plan = [
        PlannedChannel(channel=channel, role=role)
        for channel, role in (("email", "main"), ("sms", "fallback"), ("whatsapp", "also"), ("email", "main"))
    ]

    assert main_channels(plan) == ("email",)


def test_whoever_handles_payables_comes_first() -> None:
    chosen = choose(contact("owner@example.test"), contact("ap@example.test", role="accounts_payable"))

    assert chosen.value == "ap@example.test"


def test_without_anybody_for_payables_the_first_stated_is_taken() -> None:
    assert choose(contact("one@example.test"), contact("two@example.test")).value == "one@example.test"


def test_a_contact_without_consent_is_never_chosen() -> None:
    denied = contact("ap@example.test", role="accounts_payable", consent="withdrawn")

    assert choose(denied, contact("b@example.test")).value == "b@example.test"
    assert choose(denied) is Reason.OPTED_OUT


def test_other_channels_and_bad_addresses_are_no_address() -> None:
    assert choose(contact("+52 55", channel="sms"), contact("nonsense")) is Reason.NO_ADDRESS


@pytest.mark.parametrize(
    "value", ["a@b", "a b@c.example", "a@c.example,d@e.example", "<a@c.example>", "", "@c.example"]
)
def test_what_is_no_single_address_is_refused(value: Any) -> None:
    assert usable_address(value) is None


def test_test_domains_and_international_domains_pass() -> None:
    assert usable_address("c1@example.test") == "c1@example.test"
    assert usable_address("ana@ñandú.example") == "ana@xn--and-6ma2c.example"
