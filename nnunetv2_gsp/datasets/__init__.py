"""How does challenge data come in? One module a challenge, one for the phantom."""
