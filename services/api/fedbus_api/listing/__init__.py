"""Lists: which fields a view can be filtered and sorted by, what was asked, and the page that answers it."""
