"""Each notice is handed over once, with the permit's figures, whatever fails around it."""


async def test_a_requested_notice_becomes_one_mail_with_the_permits_amounts(service, told, sink, ledger):
    await service.tell(
        told.event(told.customer()), told.event(told.invoice()), told.event(told.requested(), name="request")
    )

    await service.sender.run()
    await service.sender.run()

    (mail,) = sink.taken
    notice = await service.notice()
    assert notice.state == "sent"
    assert mail["Subject"] == "[PRUEBA] Factura F-1: 1,160.00 MXN por pagar"
    assert mail["To"] == "Ana Ruiz <ana@nunez.example>"
    assert mail["Message-ID"] == f"<{notice.notice_id}@acme.example>"
    assert mail["X-Cobranza-Delivery"] == "sandbox"
    (sent,) = await service.published()
    assert (sent.type, sent.sequence) == ("notice-sent", 1)
    assert sent.data["claimed"] == {"amount": "1160.00", "currency": "MXN"}
