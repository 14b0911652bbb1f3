"""Training of networks from folders of pictures."""
