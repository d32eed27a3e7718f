"""Attacks: each finding of a review stands here as a test that fails without its mend."""
