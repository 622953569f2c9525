"""Makes nnU-Net datasets of challenge data: a module for each challenge, one for the phantom, and shared ones."""
