"""Policies tried over the live portfolio in the background: asked for, played by a worker, kept with their result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from cobranza.chassis import ids
from cobranza.chassis.database import Database, Transaction, is_transient
from cobranza.chassis.http import Request
from cobranza.contracts.payloads import Slug
from cobranza.dunning import repository
from cobranza.dunning.domain.errors import DunningError, PreviewRefusedError, TrialsWaitingError
from cobranza.dunning.domain.foreseen import DayTotals
from cobranza.dunning.domain.policy import Policy
from cobranza.dunning.repository import StoredTrial
from cobranza.dunning.use_cases import policies, preview
from cobranza.dunning.use_cases.evaluation import Desk

#: Trials of one company that may wait or run at a time.
MOST_OPEN: Final = 5
#: A trial whose worker ended so often before it did is given up.
_MOST_ATTEMPTS: Final = 5
_PROGRESS_SECONDS: Final = 1.0
_MOST_CHARACTERS: Final = 200_000


class TriedPolicy(Request):
    """A version that is loaded, or the text of a file that need not be."""

    policy: Slug | None = Field(default=None, description="With its version: one that is loaded.")
    version: int | None = Field(default=None, ge=1, le=1_000_000)
    document: str | None = Field(
        default=None,
        min_length=1,
        max_length=_MOST_CHARACTERS,
        description="In their place: a policy file, YAML or JSON.",
    )

    @model_validator(mode="after")
    def _names_one(self) -> TriedPolicy:
        if (self.policy is None) != (self.version is None) or (self.policy is None) == (self.document is None):
            raise ValueError("expected policy and version, or document")
        return self

    def resolved(self, desk: Desk, company: str) -> preview.Tried:
        """As it is tried in a company.

        Raises:
            PolicyRefusedError: the file has faults.
        """
        if self.document is not None:
            return policies.for_company(desk, self.document, company=company)
        assert self.policy is not None
        assert self.version is not None
        return self.policy, self.version


class BackTestRequest(Request):
    """Compare two policies over the days from first to last, both inclusive."""

    model_config = ConfigDict(populate_by_name=True)

    company: str
    first: date = Field(alias="from")
    last: date = Field(alias="to")
    policy: TriedPolicy
    against: TriedPolicy = Field(description="What it is compared with.")


class PreviewRequest(Request):
    """What would happen on a day, by the policies in force or by one in their place."""

    company: str
    on: date
    policy: TriedPolicy | None = None


Asked = BackTestRequest | PreviewRequest
_KINDS: Final[Mapping[str, type[BackTestRequest] | type[PreviewRequest]]] = {
    "back_test": BackTestRequest,
    "preview": PreviewRequest,
}


async def ask(desk: Desk, tx: Transaction, asked: Asked, *, by: str) -> UUID:
    """Keep a trial that a worker plays; its id.

    Raises:
        PolicyRefusedError: a policy that is tried has faults.
        PreviewRefusedError: the days are over, not in order or too many, or the currencies differ.
        TrialsWaitingError: the company has too many that have not ended.
        UnknownCompanyError: this deployment does not collect for it.
        UnknownPolicyError: there is no such version.
    """
    profile = desk.profile(asked.company)
    match asked:
        case BackTestRequest(first=first, last=last):
            if not 0 <= (last - first).days < preview.MOST_DAYS:
                raise PreviewRefusedError(
                    f"expected a day from {first} on and within {preview.MOST_DAYS} days, got {last}", pointer="/to"
                )
            one, other = [await _policy(desk, tx, asked.company, named) for named in (asked.policy, asked.against)]
            if one.currency != other.currency:
                raise PreviewRefusedError(
                    f"expected a policy in {one.currency} as the other, got {other.currency}", pointer="/against"
                )
        case PreviewRequest(on=on, policy=named):
            today = desk.as_of(tx, profile)
            if not 0 <= (on - today).days < preview.MOST_DAYS:
                raise PreviewRefusedError(
                    f"expected a day from {today} on and within {preview.MOST_DAYS} days, got {on}", pointer="/on"
                )
            if named is not None:
                await _policy(desk, tx, asked.company, named)
    if await repository.open_trials(tx, company=asked.company) >= MOST_OPEN:
        raise TrialsWaitingError(f"{MOST_OPEN} wait already; ask again when one has ended")
    trial_id = ids.new_id()
    await repository.add_trial(
        tx,
        trial_id=trial_id,
        company=asked.company,
        kind="back_test" if isinstance(asked, BackTestRequest) else "preview",
        asked=asked.model_dump(mode="json", by_alias=True, exclude_none=True),
        asked_by=by,
    )
    return trial_id


async def _policy(desk: Desk, tx: Transaction, company: str, named: TriedPolicy) -> Policy:
    match named.resolved(desk, company):
        case Policy() as policy:
            return policy
        case (name, version):
            return (await desk.version(tx, company=company, policy=name, version=version)).policy


class _StoppedError(Exception):
    """The worker ends; another begins the trial again."""


@dataclass(slots=True)
class _Progress:
    """What the thread that plays tells the loop, and the loop the thread."""

    played: int = 0
    is_stopped: bool = False

    def tell(self, accounts: int) -> None:
        """So many accounts were played."""
        if self.is_stopped:
            raise _StoppedError
        self.played = accounts


@dataclass(frozen=True, slots=True)
class Player:
    """Plays what was asked for, one trial at a time.

    Args:
        own: makes the database of a thread: it plays beside the worker's loop, which answers others meanwhile.
    """

    desk: Desk
    database: Database
    own: Callable[[], Database]

    async def play_next(self) -> bool:
        """Play the oldest trial that has not ended; whether there was one."""
        async with self.database.transaction() as tx:
            trial = await repository.begin_trial(tx)
            if trial is None:
                return False
            count = repository.count_known if trial.kind == "back_test" else repository.count_owing
            accounts = await count(tx, company=trial.company)
            await repository.note_progress(tx, trial_id=trial.trial_id, accounts=accounts, played=0)
        if trial.attempts > _MOST_ATTEMPTS:
            await self._end(
                trial, fault={"code": "given_up", "detail": f"begun {_MOST_ATTEMPTS} times and never ended"}
            )
            return True
        try:
            result = await self._watched(trial, accounts)
        except DunningError as refusal:
            await self._end(trial, fault={"code": refusal.code, "detail": refusal.detail})
        except Exception as error:
            if not is_transient(error):
                await self._end(trial, fault={"code": "internal_error", "detail": type(error).__name__})
            raise
        else:
            await self._end(trial, result=result)
        return True

    async def _watched(self, trial: StoredTrial, accounts: int) -> dict[str, Any]:
        """Play in a thread, and keep how far it is."""
        progress = _Progress()
        playing = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(self._play(trial, progress))))
        try:
            while not (await asyncio.wait({playing}, timeout=_PROGRESS_SECONDS))[0]:
                async with self.database.transaction() as tx:
                    await repository.note_progress(
                        tx, trial_id=trial.trial_id, accounts=accounts, played=progress.played
                    )
        finally:
            progress.is_stopped = True
            if not playing.done():
                playing.cancel()
        return playing.result()

    async def _play(self, trial: StoredTrial, progress: _Progress) -> dict[str, Any]:
        asked = _KINDS[trial.kind].model_validate(trial.asked)
        database = self.own()
        # Of its own: what a desk keeps belongs to one thread.
        desk = Desk(self.desk.companies, self.desk.evaluation_hour, self.desk.brake_floor)
        try:
            match asked:
                case BackTestRequest():
                    compared = await preview.back_test(
                        desk, database, company=asked.company, first=asked.first, last=asked.last,
                        tried=asked.policy.resolved(desk, asked.company),
                        against=asked.against.resolved(desk, asked.company), told=progress.tell,
                    )  # fmt: skip
                    return compared.as_values()
                case PreviewRequest():
                    totals = DayTotals(preview.PREVIEW_ASSUMES)
                    tried = None if asked.policy is None else asked.policy.resolved(desk, asked.company)
                    playing = preview.preview(
                        desk, database, company=asked.company, on=asked.on, tried=tried, told=progress.tell
                    )
                    async with aclosing(playing):
                        async for one in playing:
                            totals.add(one.policy, one.version, one.evaluated)
                    return totals.as_values()
        finally:
            await database.close()

    async def _end(
        self, trial: StoredTrial, *, result: Mapping[str, Any] | None = None, fault: Mapping[str, Any] | None = None
    ) -> None:
        async with self.database.transaction() as tx:
            await repository.end_trial(tx, trial_id=trial.trial_id, result=result, fault=fault)
