"""The operator's Python API: sessions, models, rounds, clients of a project, over REST.

```python
from fedbus.api import APIClient

def newest_sessions() -> list[str]:
    with APIClient() as api:  # the local stack of this folder; else APIClient("host", 8080, token="…")
        return [one.session for one in api.get_sessions(n_max=10)]
```

`AsyncAPIClient` has the same methods to await, and lists for `async for`.

It needs the extra `cli` (`pip install "fedbus[cli]"`); `import fedbus` does not load it.
"""

from fedbus.api._async.client import AsyncAPIClient
from fedbus.api._sync.client import APIClient
from fedbus.api.errors import ApiAway, ApiError, BadAnswer

__all__ = ["APIClient", "ApiAway", "ApiError", "AsyncAPIClient", "BadAnswer"]
