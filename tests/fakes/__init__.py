"""Clouds of locks, cards, chips and pins, played."""
