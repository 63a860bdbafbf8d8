"""Commands: work that clients are asked for outside of rounds. Pure: events in, state and effects out."""
