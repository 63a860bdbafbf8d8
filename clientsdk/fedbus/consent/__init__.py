"""The data owner's consent: a policy file decides on every task first, and a log keeps what was asked and sent.

```python
from fedbus.consent import Denied, Policy, Request, decide

policy = Policy.model_validate({"cohort": {"smallest": 5}})
asked = Request(kind="train", project="demo", session="s-1", cohort=3)
assert decide(policy, asked) == Denied(
    "cohort.smallest", "3 clients were asked, the policy wants at least 5"
)
```
"""

from fedbus.consent.policy import (
    Allowed,
    Denied,
    Limits,
    Package,
    Policy,
    Request,
    Verdict,
    decide,
)
from fedbus.consent.policyfile import PolicyFile, load

__all__ = [
    "Allowed",
    "Denied",
    "Limits",
    "Package",
    "Policy",
    "PolicyFile",
    "Request",
    "Verdict",
    "decide",
    "load",
]
