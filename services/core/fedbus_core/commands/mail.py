"""What each client must know of a command now, as a pure function of the command's state."""

from fedbus_schemas.ids import ClientId, DeviceKey
from fedbus_schemas.tasks import CommandMail, CommandTask, ModelToFetch

from fedbus_core.commands.state import Command


def mail(state: Command, device: DeviceKey, client: ClientId) -> CommandMail:
    """Give a target's mail: its task, or that it is withdrawn."""
    created = state.created
    task = None
    if state.ended is None:
        model = created.model
        task = CommandTask(
            task=created.task,
            parameters=created.parameters,
            model=ModelToFetch(digest=model.digest, size=model.size) if model else None,
            deadline=state.deadline,
            trace_id=created.trace_id,
        )
    return CommandMail(
        project=state.project,
        command=state.command,
        number=state.number,
        device=device,
        client=client,
        task=task,
    )
