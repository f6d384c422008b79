"""A decision as sentences in Spanish or English, from its codes and values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any, Final, Literal

from cobranza.contracts.money import Money

Language = Literal["es", "en"]
_AMOUNT = re.compile(r"(-?\d+(?:\.\d+)?) ([A-Z]{3})")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class Style:
    """How a reader writes dates and amounts, and in which language."""

    language: Language
    day: Callable[[date], str]
    money: Callable[[Money], str]


@dataclass(frozen=True, slots=True)
class Explained:
    """A recorded decision, as far as it is explained; `runs` are the step runs it requested."""

    as_of: date
    outcome: str
    contact: Mapping[str, Any] | None
    reasons: Sequence[Mapping[str, Any]]
    reasoning: Mapping[str, Any]
    next_check_on: date | None
    times: int
    runs: Sequence[Mapping[str, Any]] = ()


_SENTENCES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "acted": (
            "{day}: se pidió el aviso {step} por {channel} en tono {tone}; facturas: {lines}.",
            "{day}: notice {step} was requested by {channel} in a {tone} tone; invoices: {lines}.",
        ),
        "acted_call": (
            "{day}: se pidió una llamada (paso {step}); facturas: {lines}.",
            "{day}: a call was asked for (step {step}); invoices: {lines}.",
        ),
        "acted_task": (
            "{day}: se pidió a una persona el paso {step}; facturas: {lines}.",
            "{day}: a person was asked for step {step}; invoices: {lines}.",
        ),
        "acted_effect": (
            "{day}: se pidió el efecto {channel} (paso {step}); facturas: {lines}.",
            "{day}: the effect {channel} was asked for (step {step}); invoices: {lines}.",
        ),
        "proposed": (
            "{day}: el paso {step} se propuso y espera la aprobación de una persona; facturas: {lines}.",
            "{day}: step {step} was proposed and waits for a person's approval; invoices: {lines}.",
        ),
        "not_acted": ("No se contactó el {day}.", "Nobody was contacted on {day}."),
        "unchanged": ("Sin cambios desde el {day}.", "Unchanged since {day}."),
        "nothing_known": (
            "Todavía no se sabía nada de la factura en esa fecha.",
            "Nothing was known of the invoice on that date.",
        ),
        "moved": ("La factura {invoice} pasó al paso {step}.", "Invoice {invoice} moved to step {step}."),
        "listed": (
            "La factura {invoice} se listó en el aviso sin cambiar de paso.",
            "Invoice {invoice} was listed in the notice without moving.",
        ),
        "skipped": (
            "La factura {invoice} se saltó el paso {step}: {why}.",
            "Invoice {invoice} skipped step {step}: {why}.",
        ),
        "not_open": (
            "De esta factura no quedaba nada por cobrar ese día; lo que sigue es del resto de la cuenta.",
            "Nothing of this invoice was left to collect that day; what follows is about the rest of the account.",
        ),
        "next": ("Se vuelve a revisar el {day}.", "It is checked again on {day}."),
        "no_next": (
            "Ninguna fecha lo cambia: hace falta un hecho nuevo o una persona.",
            "No date changes this: a new fact or a person is needed.",
        ),
        "times": ("Se llegó a lo mismo {times} veces ese día.", "The same was found {times} times that day."),
        "run_requested": (
            "El aviso {step} n.º {run} espera respuesta de mensajería hasta el {until}.",
            "Notice {step} no. {run} waits for the outcome until {until}.",
        ),
        "run_proposed": (
            "El paso {step} n.º {run} espera aprobación hasta el {until}.",
            "Step {step} no. {run} waits for approval until {until}.",
        ),
        "run_approved": ("El paso {step} n.º {run} está aprobado.", "Step {step} no. {run} is approved."),
        "run_undelivered": (
            "El aviso {step} n.º {run} salió el {on} y espera la constancia de entrega.",
            "Notice {step} no. {run} left on {on} and waits for the proof of delivery.",
        ),
        "run_sent": ("El aviso {step} n.º {run} salió el {on}.", "Notice {step} no. {run} left on {on}."),
        "run_suppressed": (
            "El aviso {step} n.º {run} no salió el {on}: {why}.",
            "Notice {step} no. {run} did not leave on {on}: {why}.",
        ),
        "run_failed": (
            "El aviso {step} n.º {run} falló el {on}: {why}.",
            "Notice {step} no. {run} failed on {on}: {why}.",
        ),
    }
)

_WORDS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "email": ("correo electrónico", "e-mail"),
        "friendly": ("amable", "friendly"),
        "neutral": ("neutro", "neutral"),
        "firm": ("firme", "firm"),
        "formal": ("formal", "formal"),
        "fee": ("cargo", "fee"),
        "interest": ("interés moratorio", "late interest"),
        "credit_hold": ("bloqueo de crédito", "credit hold"),
        "suspend_service": ("suspensión del servicio", "suspension of service"),
        "credit_bureau": ("reporte al buró de crédito", "report to the credit bureau"),
        "agency": ("traspaso a despacho", "hand-over to an agency"),
        "write_off": ("castigo", "write-off"),
        "legal": ("legal", "legal"),
    }
)

_REASONS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "settled": ("no queda nada por cobrar", "nothing is left to collect"),
        "cancelled": ("la factura fue cancelada", "the invoice was cancelled"),
        "no_policy": (
            "ninguna política activa se aplica a {currency}; se abrió una tarea",
            "no active policy applies to {currency}; a task was opened",
        ),
        "before_start": (
            "la empresa empieza a cobrar con Cobranza el {on}",
            "the company begins to collect with Cobranza on {on}",
        ),
        "not_due": (
            "la factura {invoice} llega al paso {step} el {on}",
            "invoice {invoice} reaches step {step} on {on}",
        ),
        "in_grace": (
            "la factura {invoice} está en días de gracia: el paso {step} espera al {on}",
            "invoice {invoice} is in its grace days: step {step} waits for {on}",
        ),
        "min_gap": (
            "el último contacto es muy reciente: para la factura {invoice} el paso {step} espera al {on}",
            "the last contact is too recent: for invoice {invoice} step {step} waits for {on}",
        ),
        "rolled": (
            "no es día hábil: para la factura {invoice} el paso {step} pasa al {on}",
            "it is not a business day: for invoice {invoice} step {step} moves to {on}",
        ),
        "on_hold": (
            "hay una suspensión ({kind}) sobre la factura {invoice} hasta el {until}",
            "a hold ({kind}) is on invoice {invoice} until {until}",
        ),
        "covered_by_credit": (
            "el saldo a favor de {unapplied} cubre la factura {invoice}, que debe {open}",
            "the credit of {unapplied} covers invoice {invoice}, of which {open} is open",
        ),
        "part_covered": (
            "hay un saldo a favor de {unapplied}: se pide el neto",
            "there is a credit of {unapplied}: the net is claimed",
        ),
        "below_item": (
            "de la factura {invoice} se pediría {found} y la política pide al menos {needed} y {percent} % de lo facturado",
            "of invoice {invoice} {found} would be claimed and the policy asks for at least {needed} and {percent} % of it",
        ),
        "when_false": (
            "no se cumple la condición del paso",
            "the step's condition does not hold",
        ),
        "requires_missing": (
            "al paso {step} de la factura {invoice} le falta un requisito: un paso previo, su entrega o un documento",
            "step {step} of invoice {invoice} lacks what it requires: an earlier step, its delivery or a document",
        ),
        "term_running": (
            "corre el plazo de un paso previo: para la factura {invoice} el paso {step} espera al {on}",
            "the term of an earlier step is running: for invoice {invoice} step {step} waits for {on}",
        ),
        "approval_pending": (
            "el paso {step} n.º {run} espera la aprobación de una persona hasta el {until}",
            "step {step} no. {run} waits for a person's approval until {until}",
        ),
        "approval_refused": ("una persona lo rechazó", "a person refused it"),
        "approval_expired": ("nadie lo aprobó a tiempo", "nobody approved it in time"),
        "execution_refused": ("quien lo ejecuta lo rechazó", "whoever executes it refused it"),
        "nothing_due": ("no había nada más que cobrar", "there was nothing more to charge"),
        "cap_reached": ("la ley no permite cobrar más, o todavía no", "the law allows no more, or not yet"),
        "charged_before": ("ya se había cobrado", "it had been charged already"),
        "rules_required": ("faltan las reglas de recargos", "the rules of late charges are missing"),
        "rate_required": ("falta la tasa publicada", "the published rate is missing"),
        "task_expired": ("la tarea no se hizo a tiempo", "the task was not done in time"),
        "reopened_grace": (
            "la factura {invoice} se reabrió hace poco: el paso {step} espera al {on}",
            "invoice {invoice} was reopened a short time ago: step {step} waits for {on}",
        ),
        "goodwill": (
            "pagaron hace poco una parte importante de la factura {invoice}: el paso {step} espera al {on}",
            "a substantial part of invoice {invoice} was paid a short time ago: step {step} waits for {on}",
        ),
        "payer_unknown": (
            "hay un pago sin identificar por el mismo importe: el paso {step} espera",
            "there is an unidentified payment of the same amount: step {step} waits",
        ),
        "below_case": (
            "se debe {found} y la política pide al menos {needed} y {percent} % de lo abierto",
            "{found} is owed and the policy asks for at least {needed} and {percent} % of what is open",
        ),
        "cash_stale": (
            "la información bancaria llega al {found} y la política pide el {needed}",
            "bank information reaches {found} and the policy asks for {needed}",
        ),
        "braked": (
            "se pidieron {found} avisos hoy y lo usual permite {needed}: el resto espera a que una persona lo suelte",
            "{found} notices were requested today and the usual allows {needed}: the rest waits until a person releases it",
        ),
        "run_open": (
            "el paso {step} n.º {run} está en curso hasta el {until}",
            "step {step} no. {run} is under way until {until}",
        ),
        "end_reached": (
            "la escalera terminó para la factura {invoice} el {on}: decide una persona",
            "the ladder ended for invoice {invoice} on {on}: a person decides",
        ),
        "catch_up": ("se dio un paso posterior en su lugar", "a later step was taken in its place"),
        "stale": ("quedó atrás y ya no tiene sentido", "it is too old to be made up for"),
        "expired": ("no pudo salir a tiempo", "it could not leave in time"),
        "facts_changed": ("los hechos cambiaron antes de enviarlo", "the facts changed before it was sent"),
        "no_address": ("no hay una dirección utilizable", "there is no usable address"),
        "bounced": ("la dirección lo rechazó", "the address refused it"),
        # What payments answered when the permit was asked for.
        "written_off": ("la deuda fue castigada", "the debt was written off"),
        "handed_over": ("el caso está con un despacho", "the case is with an agency"),
        "unknown_receivable": ("el libro aún no conoce la factura", "the ledger does not know the invoice yet"),
        "promised": (
            "hay una promesa de pago sobre la factura {invoice} hasta el {until}",
            "there is a promise to pay invoice {invoice} until {until}",
        ),
        "planned": (
            "hay un convenio de pago sobre la factura {invoice}",
            "there is a payment plan on invoice {invoice}",
        ),
        "disputed": (
            "el importe de la factura {invoice} está en disputa ({kind})",
            "the amount of invoice {invoice} is disputed ({kind})",
        ),
        "control_mismatch": (
            "el total de control no coincide con el libro o falta ({found})",
            "the control total does not match the ledger or is missing ({found})",
        ),
        "holds_stale": ("las suspensiones no estaban al día", "holds were not up to date"),
        "input_parked": (
            "un documento del cliente espera a una persona",
            "a document of the customer waits for a person",
        ),
        "payment_in_flight": ("hay un pago en camino", "a payment is on its way"),
        "ledger_stopped": ("el libro está detenido por una diferencia", "the ledger is stopped by a difference"),
        "payments_unreachable": ("no se pudo preguntar al libro", "the ledger could not be asked"),
        # What stood in the way of sending.
        "opted_out": ("el contacto pidió no recibir mensajes", "the contact asked for no messages"),
        "no_consent": ("falta el consentimiento del contacto", "the contact has given no consent"),
        "outside_hours": ("está fuera del horario permitido", "it is outside the hours allowed"),
        "no_slot": ("no quedaba un horario permitido", "no allowed time was left"),
        "contact_limit": (
            "hubo {found} contactos y la política permite {needed}: se espera al {on}",
            "there were {found} contacts and the policy allows {needed}: it waits until {on}",
        ),
        "sending_stopped": ("el envío está detenido", "sending is stopped"),
        "channel_unavailable": ("la empresa no tiene ese canal", "the company does not have that channel"),
        "template_missing": ("no hay plantilla para ese aviso", "there is no template for that notice"),
        "render_failed": ("la plantilla no se pudo completar", "the template could not be filled in"),
        "provider_refused": ("el servidor de correo lo rechazó", "the mail server refused it"),
        "outcome_unknown": ("no se sabe si llegó a salir", "it is not known whether it left"),
        "unreachable": ("no se localizó a nadie", "nobody was reached"),
    }
)


#: A gate by its name, what it asks and what was found.
_GATES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "policy": (
            "hace falta una política activa que se aplique y hay {found}",
            "an active policy that applies is needed and there are {found}",
        ),
        "start": (
            "la empresa empieza a cobrar el {needed} y se evaluó el {found}",
            "the company begins to collect on {needed} and it was looked at on {found}",
        ),
        "run": (
            "no debe haber otro aviso o llamada en curso: {found}",
            "no other notice or call may be under way: {found}",
        ),
        "date": (
            "la fecha del paso es el {needed} y se evaluó el {found}",
            "the step's date is {needed} and it was looked at on {found}",
        ),
        "requires": (
            "antes debe haberse dado el paso {needed} (con entrega, si se pide): {found}",
            "step {needed} must have been taken before (and delivered, where asked): {found}",
        ),
        "term": (
            "el plazo del paso previo termina el {needed} y se evaluó el {found}",
            "the term of the earlier step ends on {needed} and it was looked at on {found}",
        ),
        "evidence": ("faltan documentos: {needed}", "documents are missing: {needed}"),
        "delivered": (
            "debe constar la entrega de un aviso previo y constan {found}",
            "an earlier notice must have been delivered and {found} were",
        ),
        "grace": (
            "los días de gracia terminan el {needed} y se evaluó el {found}",
            "the grace days end on {needed} and it was looked at on {found}",
        ),
        "min_gap": (
            "por el último contacto hay que esperar al {needed} y se evaluó el {found}",
            "because of the last contact it waits until {needed} and it was looked at on {found}",
        ),
        "reopened": (
            "reabierta hace poco: espera al {needed} y se evaluó el {found}",
            "reopened a short time ago: it waits until {needed} and it was looked at on {found}",
        ),
        "goodwill": (
            "por el pago importante espera al {needed} y se evaluó el {found}",
            "because of the substantial payment it waits until {needed} and it was looked at on {found}",
        ),
        "business_day": (
            "el día hábil que toca es el {needed} y se evaluó el {found}",
            "the business day it moves to is {needed} and it was looked at on {found}",
        ),
        "catch_up": (
            "un efecto no se alcanza al ponerse al día: espera al {needed} y se evaluó el {found}",
            "an effect is not reached by catching up: it waits until {needed} and it was looked at on {found}",
        ),
        "when": ("condición del paso {needed}: {found}", "condition of step {needed}: {found}"),
        "contact_limit": (
            "se permiten {needed} contactos en el período y hubo {found}",
            "{needed} contacts are allowed in the period and there were {found}",
        ),
        "cash": (
            "la información bancaria debe llegar al {needed} y llega al {found}",
            "bank information must reach {needed} and reaches {found}",
        ),
        "control_total": (
            "el total de control debe ser {needed} y es {found}",
            "the control total must be {needed} and is {found}",
        ),
        "brake": (
            "lo usual permite {needed} avisos ese día y se habían pedido {found}",
            "the usual allows {needed} notices that day and {found} had been requested",
        ),
        "retry": (
            "el aviso no salió: se intenta de nuevo el {needed} y se evaluó el {found}",
            "the notice did not leave: it is tried again on {needed} and it was looked at on {found}",
        ),
        "unidentified": (
            "no debe haber un pago sin identificar por el mismo importe y hay {found}",
            "there may be no unidentified payment of the same amount and there are {found}",
        ),
        "undisputed": (
            "nada debe estar en disputa, prometido ni convenido y hay {found}",
            "nothing may be disputed, promised or planned and there are {found}",
        ),
        "materiality": (
            "debe pedirse al menos {needed} de lo abierto y se pediría {found}",
            "at least {needed} of what is open must be claimed and {found} would be",
        ),
    }
)
#: What conditions ask about, and values that are codes.
_ASKED: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "segment": ("segmento", "segment"),
        "risk": ("riesgo", "risk"),
        "country": ("país", "country"),
        "language": ("idioma", "language"),
        "tag": ("etiquetas", "tags"),
        "protected_party": ("parte protegida", "protected party"),
        "product_line": ("línea de producto", "product line"),
        "case_amount": ("importe del caso", "amount of the case"),
        "item_amount": ("importe de la factura", "amount of the invoice"),
        "items": ("facturas", "invoices"),
        "oldest_dpd": ("días de la más atrasada", "days of the oldest"),
        "broken_promises": ("promesas incumplidas", "broken promises"),
        "months_as_customer": ("meses como cliente", "months as a customer"),
        "acknowledged": ("acuse de recibo", "acknowledged"),
        "reachable": ("localizable", "reachable"),
        "matched": ("correcto", "matched"),
        "mismatch": ("distinto", "different"),
        "missing": ("ausente", "missing"),
        "issued": ("dado, sin constancia de entrega", "taken, without proof of delivery"),
        "yes": ("sí", "yes"),
        "no": ("no", "no"),
        "business": ("empresa", "business"),
        "consumer": ("consumidor", "consumer"),
    }
)


def explain_gate(gate: Sequence[Any], style: Style) -> str:
    """One recorded gate as a sentence with what it needs and what was found."""
    name, needed, found, _ = gate
    known = _GATES.get(name)
    if known is None:
        # Older records may hold gates that are asked no more.
        return f"{name}: {needed} / {found}"
    values = {"needed": _found(str(needed), style), "found": _found(str(found), style)}
    return _sentence(_filled(known[style.language == "en"], style, values))


def _found(text: str, style: Style) -> str:
    """Values of a gate: parts are told apart by commas, in each a name may come before its value."""
    parts = []
    for part in text.split(", "):
        name, _, rest = part.partition(" ")
        asked = _ASKED.get(name)
        if asked is None:
            parts.append("—" if part == "-" else _value(part, style))
        elif not rest:
            parts.append(asked[style.language == "en"])
        else:
            value = _ASKED.get(rest, (rest, rest))[style.language == "en"]
            parts.append(f"{asked[style.language == 'en']} {'—' if value == '-' else _value(value, style)}")
    return ", ".join(parts)


def explain_reason(reason: Mapping[str, Any], style: Style) -> str:
    """One reason as a sentence with its values."""
    return _sentence(_reason(reason["code"], style, reason["values"]))


def explain_all(
    decisions: Sequence[Explained], style: Style, *, receivable_ids: frozenset[str], since: date | None
) -> list[str]:
    """Every decision of a day in sentences, the first saying from when it stands.

    Args:
        since: the earlier day on which the decision was taken; None when it was that very day.
    """
    if not decisions:
        return [_say("nothing_known", style, {})]
    told = [] if since is None else [_say("unchanged", style, {"day": since})]
    contacted: set[date] = set()
    for decision in decisions:
        sentences = explain(decision, style, receivable_ids=receivable_ids)
        if decision.contact is None and decision.as_of in contacted:
            # Looked at again after the contact: "nobody was contacted" would be wrong of that day.
            sentences = sentences[1:]
        elif decision.contact is not None:
            contacted.add(decision.as_of)
        told += [sentence for sentence in sentences if sentence not in told]
    return told


def explain(decision: Explained, style: Style, *, receivable_ids: frozenset[str] = frozenset()) -> list[str]:
    """The decision in sentences, with the values it was taken with.

    Args:
        receivable_ids: tell only what concerns these; empty: all of the account.
    """
    told: list[str] = []
    contact = decision.contact
    if contact is not None:
        kind = contact.get("kind", "notice")
        said = "proposed" if contact.get("state") == "proposed" else "acted" if kind == "notice" else f"acted_{kind}"
        told.append(
            _say(
                said,
                style,
                {
                    "day": decision.as_of,
                    "step": contact["step"],
                    "channel": _word(contact["channel"], style),
                    "tone": _word(contact["tone"] or "neutral", style),
                    "lines": str(len(contact["lines"])),
                },
            )
        )
    else:
        told.append(_say("not_acted", style, {"day": decision.as_of}))
    items = [
        item
        for item in decision.reasoning.get("items", ())
        if not receivable_ids or item["receivable_id"] in receivable_ids
    ]
    if receivable_ids and not items and decision.reasoning.get("items"):
        told.append(_say("not_open", style, {}))
    findings = [item["finding"] for item in items if item["finding"] is not None]
    # What was found for another invoice of the account does not explain this one.
    others = [item["finding"] for item in decision.reasoning.get("items", ()) if item not in items]
    for reason in [*(r for r in decision.reasons if r not in others), *findings]:
        sentence = _sentence(_reason(reason["code"], style, reason["values"]))
        if sentence not in told:
            told.append(sentence)
    listed = {line["receivable_id"] for line in contact["lines"]} if contact is not None else set()
    for item in items:
        values = {"invoice": item["number"]}
        if item["step"] is not None:
            told.append(_say("moved", style, {**values, "step": item["step"]}))
        elif item["receivable_id"] in listed:
            told.append(_say("listed", style, values))
        for step, why in item["skipped"]:
            told.append(_say("skipped", style, {**values, "step": step, "why": _reason(why, style, {})}))
    told += [_run(run, style) for run in decision.runs if run["state"] != "skipped"]
    if decision.times > 1:
        told.append(_say("times", style, {"times": str(decision.times)}))
    if decision.next_check_on is not None:
        told.append(_say("next", style, {"day": decision.next_check_on}))
    elif decision.outcome != "act" and decision.reasons and decision.reasons[0]["code"] != "settled":
        told.append(_say("no_next", style, {}))
    return told


def _run(run: Mapping[str, Any], style: Style) -> str:
    values = {
        "step": run["step"],
        "run": str(run["run"]),
        "on": run["answered_on"],
        "until": run["expires_on"],
        "why": _reason(run["reason"], style, {}) if run["reason"] else "-",
    }
    return _say(f"run_{run['state']}", style, values)


def _reason(code: str, style: Style, values: Mapping[str, Any]) -> str:
    known = _REASONS.get(code)
    if known is None:
        # Reasons are an open set: an unknown one is told as it is written.
        return code.replace("_", " ")
    return _filled(known[style.language == "en"], style, values)


def _say(key: str, style: Style, values: Mapping[str, Any]) -> str:
    return _filled(_SENTENCES[key][style.language == "en"], style, values)


def _filled(template: str, style: Style, values: Mapping[str, Any]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: _value(values.get(found[1]), style), template)


def _value(value: Any, style: Style) -> str:
    match value:
        case None:
            return "—"
        case date():
            return style.day(value)
        case str() if _DAY.fullmatch(value):
            return style.day(date.fromisoformat(value))
        case str() if found := _AMOUNT.fullmatch(value):
            return style.money(Money.of(found[1], found[2]))
        case _:
            return str(value)


def _word(code: str, style: Style) -> str:
    known = _WORDS.get(code)
    return code if known is None else known[style.language == "en"]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
