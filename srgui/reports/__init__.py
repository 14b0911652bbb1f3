"""The tables of two papers, made anew on one's own pictures: what ``report`` does."""
