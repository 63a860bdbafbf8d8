"""FedProx in your train function: the term that holds a client near the model that it was given.

```python
import numpy as np
from fedbus import proximal

start = {"w": np.zeros(2)}
model = {"w": np.array([1.0, -2.0])}
assert proximal.loss(model, start, mu=0.5) == 1.25
assert proximal.gradient(model, start, mu=0.5)["w"].tolist() == [0.5, -1.0]
```

In a session by the rule `fedprox`, `settings["proximal_mu"]` is its mu. Keep a copy of the model that you
were given, and add the gradient to that of your own loss before each step.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


def loss(model: Arrays, start: Arrays, mu: float) -> float:
    """Give mu / 2 times the squared distance of all arrays from where they started."""
    return 0.5 * mu * sum(float(np.square(model[name] - start[name]).sum()) for name in start)


def gradient(model: Arrays, start: Arrays, mu: float) -> dict[str, NDArray[Any]]:
    """Give the term's gradient: mu times how far each array is from where it started."""
    return {name: mu * (model[name] - start[name]) for name in start}
