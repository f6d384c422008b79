"""Knowledge: ageing, balances and live indicators; it reads events only."""
