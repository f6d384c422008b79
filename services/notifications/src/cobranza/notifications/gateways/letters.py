"""Writing letters: templates of the package, filled with the permit's figures, as text and as HTML."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Final

from babel import Locale
from babel.dates import format_date
from jinja2 import PackageLoader, StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from cobranza.chassis.page import formats
from cobranza.contracts.money import Money
from cobranza.contracts.reasons import Reason
from cobranza.notifications.domain.letter import Demand, LetterFacts

#: Of the shipped set of templates; rises whenever one of them says something else.
TEMPLATE_VERSION: Final = 1

#: From soft to hard.
_TONES: Final = ("friendly", "neutral", "firm", "formal", "legal")
_SPANISH: Final = "es-MX"
_ENGLISH: Final = "en"
#: What every letter shares.
_FORMS: Final = ("subject.j2", "letter.text.j2", "letter.html.j2")
_WORDS: Final = re.compile(r"(?P<language>[^/]+)/(?P<template>[^/]+)/(?P<channel>[a-z_]+)\.(?P<tone>[a-z]+)\.j2")
_BLANK_LINES: Final = re.compile(r"\n\s*\n")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")


class LetterNotWrittenError(Exception):
    """No letter can be written, for `reason`; nothing half-written leaves."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter in two forms of equal content."""

    language: str
    subject: str
    text: str
    html: str


@dataclass(frozen=True, slots=True, order=True)
class Written:
    """A template that letters can be written by; `sha256` of its words and of what lays them out."""

    template: str
    channel: str
    language: str
    tone: str
    sha256: str


class Letters:
    """The letters of the package's templates, compiled once.

    A template is `templates/<language>/<template>/email.<tone>.j2`: macros with the words alone. What
    every letter shares is laid out by `letter.text.j2` and `letter.html.j2`.
    """

    def __init__(self) -> None:
        self._text = _environment(autoescape=False)
        self._html = _environment(autoescape=True)
        self._names = frozenset(self._text.list_templates())

    def write(self, facts: LetterFacts, *, template: str, tone: str, language: str) -> Letter:
        """Write one letter, in the tone asked for or the nearest one that the template has.

        A case that has heard a firm word is not written to more softly, but a first reminder may have
        no firm form: then the hardest of its softer ones is taken, or the softest of its harder ones.

        Raises:
            LetterNotWrittenError: there is no such template, or it could not be filled in.
        """
        written_in = language_of(language)
        words = self._words(written_in, template, tone)
        values = _values(facts, formats.locale_for(written_in.partition("-")[0], facts.country))
        try:
            return Letter(
                language=written_in,
                subject=_one_line(self._render(self._text, words, written_in, values, form="subject.j2")),
                text=self._render(self._text, words, written_in, values, form="letter.text.j2"),
                html=self._render(self._html, words, written_in, values, form="letter.html.j2"),
            )
        except Exception as error:
            # Whatever a template does wrong, its letter stays here and says so.
            raise LetterNotWrittenError(Reason.RENDER_FAILED, f"{words}: {type(error).__name__}: {error}") from error

    def written(self) -> list[Written]:
        """Every template there is, in the order of its names."""
        found = []
        for name in sorted(self._names):
            if (match := _WORDS.fullmatch(name)) is None:
                continue
            laid_out_by = (name, f"{match['language']}/labels.j2", *_FORMS)
            digest = hashlib.sha256("\0".join(self._source(part) for part in laid_out_by).encode())
            found.append(Written(**match.groupdict(), sha256=digest.hexdigest()))
        return found

    def _source(self, name: str) -> str:
        assert self._text.loader is not None
        return self._text.loader.get_source(self._text, name)[0]

    def _words(self, language: str, template: str, tone: str) -> str:
        wanted = _TONES.index(tone) if tone in _TONES else 0
        softer_first = [*_TONES[wanted::-1], *_TONES[wanted + 1 :]]
        for nearest in softer_first:
            if (name := f"{language}/{template}/email.{nearest}.j2") in self._names:
                return name
        raise LetterNotWrittenError(Reason.TEMPLATE_MISSING, f"no template {language}/{template} for e-mail")

    def _render(
        self,
        environment: ImmutableSandboxedEnvironment,
        words: str,
        language: str,
        values: Mapping[str, Any],
        *,
        form: str,
    ) -> str:
        parts: dict[str, Template] = {
            "words": environment.get_template(words),
            "labels": environment.get_template(f"{language}/labels.j2"),
        }
        return environment.get_template(form).render(values, **parts)


def language_of(language: str) -> str:
    """The language a letter is written in: Spanish of Mexico for any Spanish, else English."""
    return _SPANISH if language.partition("-")[0] == "es" else _ENGLISH


def _environment(*, autoescape: bool) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=PackageLoader("cobranza.notifications", "templates"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.clear()
    environment.filters["paragraphs"] = _paragraphs
    return environment


def _paragraphs(text: str) -> list[str]:
    """The paragraphs of a macro's output, each on one line; escaped text stays marked as such."""
    kind = Markup if isinstance(text, Markup) else str
    return [kind(" ".join(part.split())) for part in _BLANK_LINES.split(str(text)) if part.strip()]


def _values(facts: LetterFacts, locale: Locale) -> dict[str, Any]:
    """Everything a template may name, as texts on one line each; figures written by the locale."""
    demand, receipt, pay = facts.demand, facts.receipt, facts.how_to_pay
    return {
        "reference": facts.reference,
        "as_of": f"{_date(facts.as_of.date(), locale)} {facts.as_of:%H:%M}",
        "creditor": {"name": _one_line(facts.creditor.name), "tax_id": _one_line(facts.creditor.code)},
        "debtor": {"name": _one_line(facts.debtor.name), "code": _one_line(facts.debtor.code)},
        "contact": {
            "name": _one_line(facts.contact.name),
            "email": facts.contact.email,
            "phone": facts.contact.phone,
        },
        "pay": None
        if pay is None
        else {
            "bank": _one_line(pay.bank),
            "holder": _one_line(pay.holder),
            "account": _one_line(pay.account),
            "reference": _one_line(pay.reference),
            "link": pay.link,
        },
        "demand": None if demand is None else _demand(demand, locale),
        "receipt": None
        if receipt is None
        else {
            "amount": _money(receipt.amount, locale),
            "value_on": _date(receipt.value_on, locale),
            "references": ", ".join(_one_line(reference) for reference in receipt.references),
        },
    }


def _demand(demand: Demand, locale: Locale) -> dict[str, Any]:
    currency = demand.claimed.currency

    def amount(money: Money) -> str:
        return formats.amount(money, currency=currency, locale=locale)

    return {
        "currency": currency,
        "count": len(demand.rows),
        "first_number": _one_line(demand.rows[0].number),
        "has_overdue": any(row.days > 0 for row in demand.rows),
        "rows": [
            {
                "number": _one_line(row.number),
                "fiscal_id": _one_line(row.fiscal_id or ""),
                "concept": _one_line(row.concept or ""),
                "issued_on": _date(row.issued_on, locale),
                "due_on": _date(row.due_on, locale),
                "original": amount(row.original),
                "paid": amount(row.paid),
                "open": amount(row.open),
                "days": row.days,
            }
            for row in demand.rows
        ],
        "open": amount(demand.open),
        "apart": amount(demand.apart) if demand.apart.minor else None,
        "credit": amount(demand.credit) if demand.credit.minor else None,
        "claimed": amount(demand.claimed),
        "claimed_money": _money(demand.claimed, locale),
    }


def _money(money: Money, locale: Locale) -> str:
    return formats.money(money, locale=locale)


@lru_cache(maxsize=4096)
def _date(value: date, locale: Locale) -> str:
    return format_date(value, "dd-MMM-yyyy", locale=locale).replace(".", "")


def _one_line(text: str) -> str:
    """Free text on one line: no break may reach a header or start a paragraph of its own."""
    return " ".join(_CONTROL.sub(" ", text).split())
