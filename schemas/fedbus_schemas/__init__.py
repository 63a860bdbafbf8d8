"""What crosses the wire: ids, events, tasks, manifests, subjects, streams, reason codes. No I/O."""
