"""Challenge data come in: a module for each challenge, one for the phantom, and what all of them share."""
