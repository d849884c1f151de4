"""Reading tasks' output: asking nodes for it, merging it, saying what is missing."""
