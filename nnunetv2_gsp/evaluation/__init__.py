"""How good is it? Metrics under a named definition, folders of predictions, and an honest comparison."""
