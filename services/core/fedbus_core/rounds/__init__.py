"""The session and round machine: decide(state, input) -> events; evolve(state, event); wishes(state)."""
