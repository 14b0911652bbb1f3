"""Networks, their cards, and the files they are made of."""
