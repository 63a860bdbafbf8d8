"""Who calls, what they may do, and what they did. `guard` stands before every route."""
