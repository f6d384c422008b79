"""Cases, steps and decisions, from the events of others to the events of dunning."""


async def test_an_overdue_receivable_gives_a_notice_and_a_decision(service):
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))

    await service.at("01-12")
    assert [told["type"] for told in await service.told("case")] == ["case-opened"]
    await service.at("01-14")

    [request] = await service.told("notice-requested")
    assert (request["step"], request["run"], request["template"], request["tone"]) == (
        "aviso-1",
        1,
        "aviso-1",
        "friendly",
    )
    assert [line["step"] for line in request["lines"]] == ["aviso-1"]
    [decision] = await service.rows("SELECT * FROM decision WHERE outcome = 'act'")
    assert str(decision.decision_id) == request["decision_id"]
    assert str(decision.as_of) == "2027-01-14"
    assert await service.broken() == {}
