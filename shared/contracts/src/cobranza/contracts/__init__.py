"""The published language of Cobranza: events, money, identifiers, reasons, topics."""
