"""The stream runtime: Faust behind one function per topic, with the position in the database."""

from cobranza.chassis.streams.agent import Agent, BatchTransaction, Event, ParkedInput

__all__ = ["Agent", "BatchTransaction", "Event", "ParkedInput"]
