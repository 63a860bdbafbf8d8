"""One round's sum: updates go in one by one or as partials, refused ones are remembered, a model comes out.

The same code runs in a combiner and in an auditor's replay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from fedbus_schemas.models import ModelRef
from fedbus_schemas.sessions import NumbersSettings

from fedbus_core.aggregation.checks import Finding, check_update, check_weight
from fedbus_core.aggregation.exact import Accumulator, write_pieces
from fedbus_core.aggregation.grid import Grid, Kind, Numbers, exponents_of
from fedbus_core.aggregation.rules import RULES
from fedbus_core.aggregation.tensorfile import Buffer, Layout, TensorFileError, parse_layout


@dataclass(frozen=True, slots=True)
class Content:
    """An update's bytes, whose hash and length were checked, and its weight."""

    data: Buffer
    weight: int


class RoundSum:
    """The running sum of one round. One thread at a time; memory does not depend on how many go in."""

    def __init__(
        self, layout: Layout, exponents: tuple[int, ...], numbers: NumbersSettings
    ) -> None:
        """`layout` and `exponents` are the base model's, `numbers` the session's."""
        self.grid = Grid(layout, exponents, grid_numbers(numbers))
        self.total = Accumulator(self.grid)

    @property
    def needs_base(self) -> bool:
        """Whether the new model depends on the base model's values: a tie in a BOOL tensor does."""
        return any(plan.kind is Kind.BOOL for plan in self.grid.plans)

    def add(self, contents: Sequence[Content]) -> list[Finding | None]:
        """Check updates and add those without a finding; give each one's finding, in order."""
        findings = [self._check(content) for content in contents]
        good = [
            (content.data, content.weight)
            for content, finding in zip(contents, findings, strict=True)
            if finding is None
        ]
        if good:
            self.total.add_all(good)
        return findings

    def merge(self, partial: Buffer) -> None:
        """Add a partial. Raises `TensorFileError` when the bytes are not a partial of this grid."""
        self.total.merge(Accumulator.from_bytes(self.grid, partial))

    def model(self, aggregator: str, base: Buffer | None) -> tuple[bytearray, ModelRef]:
        """Give the new model's file and its reference. `base` may be None unless `needs_base`."""
        out = bytearray(self.total.mean_size)
        write_pieces(RULES[aggregator].next_model(base, self.total, {}), out)
        return out, model_ref(out)

    def _check(self, content: Content) -> Finding | None:
        try:
            layout = parse_layout(content.data, len(content.data))
        except TensorFileError as error:
            return Finding(error.code, "", error.detail)
        weight = check_weight(self.grid.numbers, content.weight)
        return weight or check_update(self.grid, layout, content.data)


def grid_numbers(numbers: NumbersSettings) -> Numbers:
    """Take a session's settings as the grid's parameters. Raises `ValueError` if they do not go together."""
    return Numbers(
        weight_bits=numbers.weight_bits,
        cohort_bits=numbers.cohort_bits,
        growth_bits=numbers.growth_bits,
        wide=frozenset(numbers.wide),
    )


def rule_version(aggregator: str) -> str:
    """Name a rule as the log does: with the version of its bits."""
    return f"{aggregator}/{RULES[aggregator].VERSION}"


def model_ref(data: Buffer) -> ModelRef:
    """Make the reference of a model file. Raises `TensorFileError` when it is none."""
    layout = parse_layout(data, len(data))
    return ModelRef(
        digest=sha256(data).hexdigest(),
        size=len(data),
        layout=layout.digest,
        exponents=exponents_of(layout, data),
    )
