"""Live market state per asset: bars, top of book, streaming indicators, snapshot."""
