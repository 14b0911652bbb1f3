"""LoRA: changes of weights that are small to store, learned beside a network, and added to it with a strength."""
