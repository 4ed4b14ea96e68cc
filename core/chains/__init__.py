"""Prompts, questions answered with citations, and the typed stream of events that carries an answer."""
