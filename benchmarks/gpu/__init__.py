"""Speed, memory and correctness on a GPU: stock nnU-Net and GSP, in one command within a budget of seconds.

A section is a module whose `tables` yields its tables as soon as they are measured, so that what a limit cuts off keeps
the rest; a table of the same title takes the place of an earlier one.
"""
