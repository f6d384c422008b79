"""Refusals of analytics."""

from __future__ import annotations

from typing import ClassVar


class UnknownCompanyError(Exception):
    """This deployment does not collect for the company."""

    code: ClassVar[str] = "company_unknown"
    status: ClassVar[int] = 422

    def __init__(self, company: str) -> None:
        self.facts = {"company": company}
        super().__init__(f"no company {company!r} here; deploy/companies.yaml lists them")
