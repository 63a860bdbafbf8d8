"""One round of server functions: updates are checked one by one, the operator's code makes the model.

What the code gives is checked as an update is. The same code runs in a combiner and in an auditor's replay.
"""

from collections.abc import Sequence

from fedbus_schemas.sessions import ServerFunctions

from fedbus_core.aggregation.checks import check_update
from fedbus_core.aggregation.round_rows import CheckedRows
from fedbus_core.aggregation.round_sum import Made, model_ref
from fedbus_core.aggregation.rules.rule import FunctionRule, Member
from fedbus_core.aggregation.server_functions import Aggregate, FunctionFailed, Given, Run
from fedbus_core.aggregation.tensorfile import (
    Buffer,
    TensorFileError,
    encode_header,
    parse_layout,
)


class RoundFunctions(CheckedRows[FunctionRule]):
    """The updates of one round, by client. One thread at a time; it holds no update's bytes."""

    def model(
        self,
        run: Run,
        functions: ServerFunctions,
        source: bytes,
        base: Buffer,
        state: Buffer | None,
        members: Sequence[Member],
        seed: int,
    ) -> Made:
        """Have the functions make the new model; blocks until they have. Raises `FunctionFailed`."""
        updates = [
            Given(member, self.rows[member.client].source, self.rows[member.client].layout.size)
            for member in members
        ]
        answer = run(Aggregate(functions, source, base, updates, state, seed))
        try:
            layout = parse_layout(answer.model, len(answer.model))
        except TensorFileError as error:
            raise FunctionFailed(f"what the functions gave is no model: {error.detail}") from error
        finding = check_update(self.grid, layout, answer.model)
        if finding is not None:
            raise FunctionFailed(
                f"what the functions gave is no model of this session: {finding.detail}"
            )
        if not answer.model.startswith(encode_header(layout.fields)):
            raise FunctionFailed("what the functions gave is not written in the canonical form")
        return Made(answer.model, model_ref(answer.model), answer.state)
