"""From a prepared network to a finished picture: tiles, planes, guidance, and the file."""
