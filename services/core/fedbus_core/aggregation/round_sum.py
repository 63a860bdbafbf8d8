"""One round's sum: updates go in one by one or as partials, refused ones are remembered, a model comes out.

The same code runs in a combiner and in an auditor's replay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from fedbus_schemas.models import ModelRef
from fedbus_schemas.sessions import NumbersSettings

from fedbus_core.aggregation.checks import Finding, check_update, check_weight
from fedbus_core.aggregation.exact import Accumulator, write_pieces
from fedbus_core.aggregation.grid import Grid, Kind, Numbers, exponents_of
from fedbus_core.aggregation.rule_state import RuleState
from fedbus_core.aggregation.rules.rule import Member, Opening, SumRule
from fedbus_core.aggregation.stepping import step
from fedbus_core.aggregation.tensorfile import Buffer, Layout, TensorFileError, parse_layout


@dataclass(frozen=True, slots=True)
class Content:
    """An update's bytes, whose hash and length were checked, and what its manifest says of it."""

    data: Buffer
    weight: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """A new model, its reference, and what the rule remembers after it (None: nothing)."""

    model: bytearray
    ref: ModelRef
    state: bytearray | None = None


class RoundSum:
    """The running sum of one round. One thread at a time; memory does not depend on how many go in."""

    def __init__(
        self, layout: Layout, exponents: tuple[int, ...], numbers: NumbersSettings, rule: SumRule
    ) -> None:
        """`layout` and `exponents` are the base model's, `numbers` and `rule` the session's."""
        self.rule = rule
        self.numbers = grid_numbers(numbers)
        bits = rule.weighing.bits(numbers.weight_bits)
        self.grid = Grid(layout, exponents, grid_numbers(numbers, weight_bits=bits))
        self.total = Accumulator(self.grid)

    @property
    def needs_base(self) -> bool:
        """Whether the new model depends on the base model's values: in a step, or a BOOL tensor's tie."""
        return self.rule.open is not None or any(plan.kind is Kind.BOOL for plan in self.grid.plans)

    def add(self, contents: Sequence[Content]) -> list[Finding | None]:
        """Check updates and add those without a finding; give each one's finding, in order."""
        findings: list[Finding | None] = []
        good: list[tuple[Buffer, int]] = []
        for content in contents:
            weight = self._weight(content)
            if isinstance(weight, int):
                good.append((content.data, weight))
            findings.append(None if isinstance(weight, int) else weight)
        if good:
            self.total.add_all(good)
        return findings

    def merge(self, partial: Buffer) -> None:
        """Add a partial. Raises `TensorFileError` when the bytes are not a partial of this grid."""
        self.total.merge(Accumulator.from_bytes(self.grid, partial))

    def model(
        self, base: Buffer | None, state: bytearray | None, members: Sequence[Member]
    ) -> Made:
        """Make the new model. `base` may be None unless `needs_base`; `state` is changed.

        `members` are those in the sum, sorted by client. Raises `ValueError` for an empty sum, and
        for a state that is not of this rule and model.
        """
        out = bytearray(self.total.mean_size)
        memory = RuleState(self.rule, self.grid.layout, state) if self.rule.remembers else None
        if self.rule.open is None:
            write_pieces(self.total.mean(base), out)
        else:
            assert base is not None, "a step starts from the base model"
            opening = Opening(memory.factors if memory else None, members)
            write_pieces(step(self.rule, self.total, base, memory, opening), out)
        return Made(out, model_ref(out), memory.data if memory else None)

    def _weight(self, content: Content) -> int | Finding:
        """Check an update and weigh it."""
        found = checked(self.grid, self.numbers, content)
        if isinstance(found, Finding):
            return found
        return self.rule.weighing.weigh(content.weight, content.metrics)


def checked(grid: Grid, numbers: Numbers, content: Content) -> Layout | Finding:
    """Check an update, whatever the rule: give its layout, or why it is refused."""
    try:
        layout = parse_layout(content.data, len(content.data))
    except TensorFileError as error:
        return Finding(error.code, "", error.detail)
    found = check_weight(numbers, content.weight) or check_update(grid, layout, content.data)
    return found or layout


def grid_numbers(numbers: NumbersSettings, *, weight_bits: int | None = None) -> Numbers:
    """Take a session's settings as the grid's parameters. Raises `ValueError` if they do not go together."""
    return Numbers(
        weight_bits=numbers.weight_bits if weight_bits is None else weight_bits,
        cohort_bits=numbers.cohort_bits,
        growth_bits=numbers.growth_bits,
        wide=frozenset(numbers.wide),
    )


def model_ref(data: Buffer) -> ModelRef:
    """Make the reference of a model file. Raises `TensorFileError` when it is none."""
    layout = parse_layout(data, len(data))
    return ModelRef(
        digest=sha256(data).hexdigest(),
        size=len(data),
        layout=layout.digest,
        exponents=exponents_of(layout, data),
    )
