"""Which model is better, on the same cases?"""
