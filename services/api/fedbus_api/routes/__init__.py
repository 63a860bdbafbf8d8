"""The routes: they only translate. One file a noun; `all_routes` gives them in the order of the docs."""
